"""Calls the URLs of its arguments in turn, each over a connection of its own, until SIGTERM. Says `under way` after the first,
at the end one line: calls, lost, wrong (403: a gateway that does not have this API), the slowest in milliseconds. Whoever sets
HTTPS_PROXY has them go that way."""

import signal
import sys
import time

import requests

running = True


def end(*_):
    global running
    running = False


signal.signal(signal.SIGTERM, end)
calls = lost = wrong = slowest = 0
while running:
    url = sys.argv[1 + calls % (len(sys.argv) - 1)]
    began = time.monotonic()
    try:
        status = requests.get(url, timeout=10).status_code
    except requests.RequestException as error:
        status = error
    if status == 403:
        wrong += 1
    elif status != 200:
        lost += 1
    if status != 200:
        print(url, status, file=sys.stderr)
    calls += 1
    if calls == 1:
        print("under way", flush=True)
    slowest = max(slowest, time.monotonic() - began)
    # The loads beside it have the processors as well.
    time.sleep(0.02)
print(calls, lost, wrong, round(slowest * 1000))

"""Calls the URLs of its arguments in turn, each over a connection of its own, until SIGTERM; then one line: calls, lost,
the slowest in milliseconds. Whoever sets HTTPS_PROXY has them go that way."""

import signal
import sys
import time

import requests

running = True


def end(*_):
    global running
    running = False


signal.signal(signal.SIGTERM, end)
calls = lost = slowest = 0
while running:
    url = sys.argv[1 + calls % (len(sys.argv) - 1)]
    began = time.monotonic()
    try:
        right = requests.get(url, timeout=10).status_code == 200
    except requests.RequestException as error:
        print(error, file=sys.stderr)
        right = False
    calls += 1
    lost += not right
    slowest = max(slowest, time.monotonic() - began)
print(calls, lost, round(slowest * 1000))

"""The access log, and how the forwarder ends: what is under way ends whole within the grace, and no later than it."""

import hashlib
import os
import signal
import subprocess
import time

from .entrances import PROXY, SNI, forward, main_sidegate, tls_sidegate
from .gateways import GATEWAY, PRIVATE
from .processes import ProcessError, accepts, run, wait_until
from .raw import ask
from .world import LOCAL

SIZE = 16 << 20


def environment(world, way):
    return {**os.environ, "CURL_CA_BUNDLE": str(world.authority), **way.environment()}


def access_log(world, report, ways):
    report.section("The access log")
    for way in ways:
        if way.name.endswith(" to sni"):
            continue
        for host, route, rule, addresses in (
            (PRIVATE, "endpoint", 2, ("10.53.1.10:443", "10.53.1.11:443")),
            (GATEWAY, "public", 5, ("198.51.100.10:443", "198.51.100.11:443", "[2001:db8:a::10]:443")),
        ):
            time.sleep(0.1)
            way.records()
            command = way.command(world.work, ["curl", "-sS", f"{way.scheme}://{host}/prod/bytes/50000"])
            run(command, 20, env=environment(world, way))
            records = [record for record in way.records(3) if record.get("host", "").startswith(host)]
            if len(records) != 1:
                report.check(f"{way.name}, {host.split('.')[0]}: one line", str(records))
                continue
            record = records[0]
            wrong = [
                f"{key}: {record.get(key)}, not {wanted}"
                for key, wanted in {"entrance": way.label, "route": route, "rule": rule}.items()
                if record.get(key) != wanted
            ]
            wrong += [] if record.get("address") in addresses else [f"address: {record.get('address')}"]
            wrong += (
                []
                if record.get("status") == (None if way.label == "sni" else 200)
                else [f"status: {record.get('status')}"]
            )
            wrong += [] if record.get("reason") and record.get("client") else [f"reason or client missing: {record}"]
            # Bodies only, or whatever the tunnel carries.
            wrong += [] if 50000 <= record.get("down", 0) < 65536 else [f"down: {record.get('down')}"]
            wrong += [] if {"up", "connect_ms", "total_ms"} <= record.keys() else [f"missing: {record}"]
            report.check(f"{way.name}, {host.split('.')[0]}: {record.get('route')}, {record.get('reason')}", wrong)


def without_log(world, report, gateways, way):
    """Without `log.access` names stay out of the log."""
    sidegate = forward(world, gateways, "", connect=["{}:{}".format(*PROXY)], ports=[PROXY], log=False)
    command = way.command(world.work, ["curl", "-sS", f"https://{PRIVATE}/prod/bytes/1"])
    code, _, error = run(command, 20, env=environment(world, way))
    sidegate.stop()
    text = sidegate.output()
    report.check(
        "without log.access no name is logged", [] if code == 0 and PRIVATE not in text else f"{code} {error}{text}"
    )


class Download:
    """curl taking about two seconds for a body."""

    def __init__(self, world, way, host):
        self.label = f"{way.name}, {host.split('.')[0]}"
        self.file = world.work / f"drained-{self.label.replace(', ', '-').replace(' ', '-')}"
        self.file.unlink(missing_ok=True)
        url = f"{way.scheme}://{host}/prod/bytes/{SIZE}"
        words = ["curl", "-sS", "--http1.1", "--limit-rate", str(SIZE // 2), "-o", self.file, url]
        command = [str(word) for word in way.command(world.work, words)]
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(world, way),
        )

    def begun(self):
        return self.file.exists() and self.file.stat().st_size > 0

    def problem(self):
        """Waits for its end."""
        try:
            error = self.child.communicate(timeout=30)[1].decode(errors="replace")
        except subprocess.TimeoutExpired:
            self.child.kill()
            return "it did not end"
        if not self.file.exists():
            return f"{self.child.returncode} {error}"
        block = bytes(range(256)) * 256
        with open(self.file, "rb") as got:
            right = hashlib.file_digest(got, "sha256").digest() == hashlib.sha256(block * (SIZE // len(block))).digest()
        return (
            None
            if self.child.returncode == 0 and right
            else f"{self.child.returncode} {error}{self.file.stat().st_size}"
        )


def downloads(world, ways):
    """One on each way to each side, all under way."""
    running = [Download(world, way, host) for way in ways for host in (PRIVATE, GATEWAY)]
    wait_until(
        lambda: all(download.begun() or download.child.poll() is not None for download in running), 10, "downloads"
    )
    return running


def start(world, gateways, ways, head):
    """Both Sidegates anew."""
    world.stop_sidegates()
    first, second = main_sidegate(world, gateways, head), tls_sidegate(world, gateways, head)
    for way in ways:
        way.sidegate = second if way.name == "http with TLS" else first
        address = (way.hosts or LOCAL, 80 if way.scheme == "http" else 3128 if way.proxy else 443)
        wait_until(lambda address=address: accepts(*address), 10, way.name)
    return first, second


def drain(world, report, gateways, ways):
    report.section("Reload and SIGTERM with transfers under way")
    ways = [way for way in ways if not way.name.endswith(" to sni")]
    sidegates = start(world, gateways, ways, 'grace = "20s"')
    running = downloads(world, ways)
    for sidegate in sidegates:
        sidegate.signal(signal.SIGHUP)
    for download in running:
        report.check(f"SIGHUP: {download.label} ends whole", download.problem())

    running = downloads(world, ways)
    began = time.monotonic()
    for sidegate in sidegates:
        sidegate.signal(signal.SIGTERM)
    try:
        wait_until(lambda: not (accepts(*PROXY) or accepts(SNI, 443)), 1, "listeners to close")
        report.check("SIGTERM: nothing new is accepted")
    except ProcessError as error:
        report.check("SIGTERM: nothing new is accepted", str(error))
    for download in running:
        report.check(f"SIGTERM: {download.label} ends whole", download.problem())
    codes = [sidegate.wait(5) for sidegate in sidegates]
    seconds = time.monotonic() - began
    report.check(
        f"... and they end with 0 after {seconds:.1f} s",
        [] if codes == [0, 0] and seconds < 8 else f"{codes} {seconds}",
    )

    sidegates = start(world, gateways, ways, 'grace = "2s"')
    held = []
    for way in ways:
        connection = way.open(world.authority, PRIVATE)
        answer = ask(connection, f"GET /prod/events/never/2 HTTP/1.1\r\nHost: {PRIVATE}\r\n\r\n".encode())
        answer.readline()
        held.append((connection, answer))
    began = time.monotonic()
    for sidegate in sidegates:
        sidegate.signal(signal.SIGTERM)
    codes = [sidegate.wait(10) for sidegate in sidegates]
    seconds = time.monotonic() - began
    right = codes == [0, 0] and 1.5 < seconds < 4
    report.check(
        "streams that never end are cut when the grace of 2 s is over; exit 0",
        [] if right else f"{codes} {seconds:.1f} s",
    )
    for connection, _ in held:
        connection.close()


def check(world, report, gateways, ways, short):
    """Ends the Sidegates that were there before."""
    access_log(world, report, ways)
    world.stop_sidegates()
    without_log(world, report, gateways, ways[0])
    if not short:
        drain(world, report, gateways, ways)

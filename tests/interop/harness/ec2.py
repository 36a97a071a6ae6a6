"""An EC2 host: the shipped configuration and socket unit under a supervisor, with programs that know resolv.conf only.

The service is reloaded, drained, started again and killed under load. What is lost is counted.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import sys
import time

from . import clients
from .commands import ADMIN_PORT, status
from .ec2_host import SOCKETS, environment, resolv_conf, taken_over
from .ec2_load import Load, query
from .gateways import GATEWAY, PRIVATE, Gateways
from .processes import ProcessError, run, wait_until
from .supervisor import SO_RCVBUFFORCE, Supervisor, setting
from .truth import EXCHANGED, outcome
from .world import ENDPOINT, LOCAL

#: More than the queue of a socket holds.
DATAGRAMS = 6000


def post(path):
    connection = http.client.HTTPConnection(LOCAL, ADMIN_PORT, timeout=5)
    connection.request("POST", path)
    answer = connection.getresponse().status
    connection.close()
    return answer


def programs(world, report, unit):
    """Both kinds of APIs, for who has nothing but resolv.conf."""
    report.section("EC2: programs with nothing but resolv.conf")
    commands = clients.build(world)
    wanted = {PRIVATE: ENDPOINT, GATEWAY: clients.PUBLIC_API, "db.corp.internal": ["10.53.7.7", "fd53::7"]}
    for label in ("musl, static", "glibc", "Python", "Java"):
        clients.ask(report, label, commands[label], wanted, unit.inside)
    home = world.work / "ec2-java"
    home.mkdir()
    trust = home / "trust.p12"
    for command in (
        ["javac", "-d", home, clients.SOURCES / "Fetch.java"],
        ["keytool", "-importcert", "-noprompt", "-alias", "interop", "-file", world.authority, "-keystore", trust]
        + ["-storetype", "PKCS12", "-storepass", "interop"],
    ):
        code, out, error = run(command, 60)
        if code != 0:
            raise ProcessError(f"{command[0]}: {out}{error}")
    java = [shutil.which("java"), "-XX:TieredStopAtLevel=1", "-cp", home, f"-Djavax.net.ssl.trustStore={trust}"]
    fetchers = {
        "curl": ["sh", clients.SOURCES / "fetch.sh"],
        "Python requests": [sys.executable, clients.SOURCES / "fetch.py"],
        "Java HttpClient": [*java, "-Djavax.net.ssl.trustStorePassword=interop", "Fetch"],
    }
    trusted = {**os.environ, "CURL_CA_BUNDLE": str(world.authority), "REQUESTS_CA_BUNDLE": str(world.authority)}
    for label, command in fetchers.items():
        calls = "".join(f"GET https://{host}/prod/bytes/10 -\n" for host in (PRIVATE, GATEWAY))
        code, out, error = run([*unit.inside, *command], 60, env=trusted, stdin=calls)
        got = [line.split("\t")[0] for line in out.splitlines()]
        report.check(f"{label}: 200 from the private and from the public API", [] if got == ["200", "200"] else f"{code} {out}{error}")


def changes(world, report, unit):
    """What must lose nothing: reload, POST /drain, and starting again."""
    report.section("EC2: reloaded, drained, started again under load")
    with Load(world) as load:
        for _ in range(10):
            unit.reload()
            time.sleep(0.1)
    report.check(f"10 reloads: {load.told()}", load.problems())

    before = status("/ready")
    with Load(world) as load:
        answer = post("/drain")
        time.sleep(1)
        after = status("/ready")
        code = unit.end()
        unit.start()
    right = (before, answer, after, code) == (200, 200, 503, 0)
    told = f"POST /drain, /ready {before} then {after}, SIGTERM, exit {code}, and a start: {load.told()}"
    report.check(told, load.problems() + ([] if right else [f"{answer}"]))

    gaps, codes = [], []
    with Load(world) as load:
        for _ in range(5):
            codes.append(unit.end())
            gaps.append(unit.start())
            time.sleep(0.3)
    told = f"started again 5 times, each with exit 0, at most {max(gaps):.1f} s without a process: {load.told()}"
    report.check(told, load.problems() + ([] if codes == [0] * 5 else [f"{codes}"]))

    with Load(world) as load:
        answer = post("/quitquitquit")
        code = unit.ended(20)
        unit.start()
    right = (answer, code) == (200, 0)
    report.check(f"POST /quitquitquit, exit {code}, and a start: {load.told()}", load.problems() + ([] if right else [f"{answer}"]))


def killed(world, report, unit):
    """kill -9 loses what was read; whatever comes later waits."""
    report.section("EC2: killed under load")
    with Load(world) as load:
        for _ in range(5):
            unit.kill()
            unit.start()
            time.sleep(0.3)
    refused = sum(load.count("refused").values())
    # Each thread has one question or request under way, so no more than that can be lost with a process.
    most = {"UDP": 4 * 5, "TCP": 2 * 5, "CONNECT": 2 * 5}
    lost = load.count("lost")
    right = refused == 0 and all(lost[kind] <= most[kind] for kind in lost)
    report.check(f"kill -9 and a start, 5 times: {load.told()}", load.unsound() if right else load.problems())


def queue(report, unit):
    """How long the queues last while there is no process."""
    report.section("EC2: how much waits while there is no process")
    unit.end()
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    for ident in range(DATAGRAMS):
        asker.sendto(query(ident, PRIVATE), (LOCAL, 53))
    streams = []
    for _ in range(200):
        stream = socket.create_connection((LOCAL, 53), 5)
        stream.settimeout(5)
        question = query(1, PRIVATE)
        stream.sendall(len(question).to_bytes(2, "big") + question)
        streams.append(stream)
    unit.start()

    asker.settimeout(2)
    waited, others = [], []
    with contextlib.suppress(TimeoutError):
        while True:
            reply = asker.recv(4096)
            ident = int.from_bytes(reply[:2], "big")
            others += filter(None, [outcome(query(ident, PRIVATE), reply, ENDPOINT)])
            waited.append(ident)
    in_order = sorted(waited) == list(range(len(waited)))
    report.check(
        f"of {DATAGRAMS} datagrams at once the first {len(waited)} waited for the next process and were answered",
        others or in_order and len(waited) >= 1000,
    )
    connected = 0
    for stream in streams:
        with contextlib.suppress(OSError):
            connected += len(stream.recv(4096)) > 2
        stream.close()
    report.check(f"of {len(streams)} TCP connections {connected} were answered", connected == len(streams))
    asker.close()


def watched(report, unit):
    """A process that hangs feeds nothing."""
    report.section("EC2: the watchdog")
    began = time.monotonic()
    time.sleep(2 * unit.watchdog)
    fed = [at for at, told in unit.heard if "WATCHDOG" in told and at > began]
    report.check(f"WatchdogSec={unit.watchdog}: fed {len(fed)} times in twice that", len(fed) >= 3)
    unit.process.signal(signal.SIGSTOP)
    wait_until(lambda: time.monotonic() - unit.last_fed() > unit.watchdog, 2 * unit.watchdog + 5, "silence")
    report.check("stopped: nothing for as long as systemd waits")
    unit.kill()
    unit.start()
    report.check("killed for it and started again: ready", status("/ready") == 200)


def noticed(world, report):
    """A policy that exchanges both APIs: a load that nothing wrong could come to proves nothing."""
    report.section("EC2: the load notices addresses of another name")
    unit = Supervisor(world, SOCKETS, {**environment(world), **EXCHANGED}, resolv_conf(world))
    try:
        unit.start()
        with Load(world) as load:
            time.sleep(1)
        kinds = {f"{kind} {name}" for kind in ("UDP", "TCP") for name in (PRIVATE, GATEWAY)} | {f"CONNECT {GATEWAY}"}
        seen = {f"{kind} {said.split()[1]}" for kind, ended in load.ended.items() for said in ended if said.startswith("wrong")}
        lost = load.count("lost")
        # Nobody listens at the address that public DNS has for the private API.
        report.check(f"both APIs exchanged: {load.told()}", [*(kinds - seen), *["lost"] * (lost["UDP"] + lost["TCP"])])
    finally:
        unit.close()


def without_sockets(world, report):
    """For comparison: the service that binds for itself."""
    report.section("EC2: without socket activation")
    unit = Supervisor(world, [], environment(world), resolv_conf(world))
    try:
        seconds = unit.start()
        report.check(f"READY after {seconds:.2f} s")
        with Load(world, connect=0) as load:
            unit.reload()
            time.sleep(0.2)
        report.check(f"a reload: {load.told()}", load.problems())
        with Load(world, connect=0) as load:
            unit.end()
            unit.start()
        report.check(f"started again, with what that costs: {load.told()}", load.unsound())
    finally:
        unit.close()


def check(world, report, _short):
    report.section("EC2: the shipped configuration and socket unit under a supervisor")
    gateways = Gateways(world, "ec2-gateways")
    gateways.start()
    unit = Supervisor(world, SOCKETS, environment(world), resolv_conf(world), watchdog=4.0)
    try:
        shipped = float(setting("sidegate.service", "Service", "WatchdogSec"))
        report.check(f"sidegate.service has WatchdogSec={shipped:.0f}, here {unit.watchdog:.0f}", shipped >= unit.watchdog)
        seconds = unit.start()
        report.check(f"READY after {seconds:.2f} s: {unit.status()}", status("/ready") == 200)
        programs(world, report, unit)
        changes(world, report, unit)
        killed(world, report, unit)
        queue(report, unit)
        watched(report, unit)
        unit.close()
        noticed(world, report)
        taken_over(world, report)
        without_sockets(world, report)
    finally:
        unit.close()
        world.stop_sidegates()
        gateways.stop()

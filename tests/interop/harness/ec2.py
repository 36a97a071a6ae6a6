"""An EC2 host: the shipped configuration and socket unit under a supervisor, with programs that know resolv.conf only.

The service is reloaded, drained, started again and killed under load. What is lost is counted.
"""

import contextlib
import http.client
import itertools
import os
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from . import clients
from .commands import ADMIN_PORT, status
from .dig import dig
from .entrances import Entrance
from .gateways import GATEWAY, PRIVATE, Gateways
from .matrix import packet
from .processes import ProcessError, run, wait_until
from .raw import ask
from .supervisor import SO_RCVBUFFORCE, UNITS, Supervisor, lines, listeners, setting
from .truth import sees_what_is_wrong, wrong
from .world import ENDPOINT, LOCAL, PUBLIC, VPC, ZONE

#: A stub resolver waits five seconds; whatever takes longer is lost.
PATIENCE = 5.0
#: More than the queue of a socket holds.
DATAGRAMS = 6000
CONNECT_SOCKET = (socket.SOCK_STREAM, LOCAL, 3128)
RESOLV_CONF = Path("/etc/resolv.conf")
#: What each kind of a load has to come to; with less, nothing was tried.
LEAST = {"UDP": 50, "TCP": 20, "CONNECT": 10}


def environment(world):
    """The shipped configuration, with the world's servers in place of AWS's."""
    return {
        "SIDEGATE_CONFIG": str(UNITS / "sidegate.toml"),
        "SIDEGATE_STATE_DIR": str(world.work / "ec2-state"),
        "SIDEGATE_POLICY__REGION": "us-east-1",
        "SIDEGATE_POLICY__PRIVATE_API_IDS": "privapi123",
        "SIDEGATE_UPSTREAM__PUBLIC": f"udp://{PUBLIC}",
        "SIDEGATE_UPSTREAM__VPC": VPC,
        "SIDEGATE_FORWARD__EXTRA_ROOTS": str(world.authority),
        "SIDEGATE_FORWARD__PUBLIC_NETWORKS": "198.51.100.0/24,2001:db8::/32",
    }


def query(ident, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return packet(body=labels + b"\0\0\1\0\1", ident=ident)


def names(number):
    """A private name, a public API, a name that was never asked."""
    for turn in itertools.count():
        yield (PRIVATE, GATEWAY, f"e{number}-{turn}.wild.example.com")[turn % 3]


class Load:
    """Bounded: each of a few threads has one question or request under way. Counts how each ended."""

    def __init__(self, world, udp=4, tcp=2, connect=2):
        asked = {"UDP": udp, "TCP": tcp, "CONNECT": connect}
        self.ended = {kind: [] for kind, askers in asked.items() if askers}
        self._authority = world.authority
        self._running = True
        work = [(self._udp, udp), (self._tcp, tcp), (self._connect, connect)]
        self._threads = [
            threading.Thread(target=target, args=(name := f"{target.__name__}{number}",), name=name, daemon=True)
            for target, count in work
            for number in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        time.sleep(0.5)
        self._running = False
        for thread in self._threads:
            thread.join(30)

    def _each(self, kind, number, once, pause):
        for turn, name in enumerate(names(number)):
            if not self._running:
                return
            try:
                once(turn & 0xFFFF, name)
                outcome = ""
            except ConnectionRefusedError:
                outcome = "refused"
            except WrongError as error:
                outcome = f"wrong: {error}"
            except Exception as error:  # Whatever it was, there was no answer.
                outcome = f"lost: {error!r}"
            self.ended[kind].append(outcome)
            time.sleep(pause)

    def _udp(self, number):
        def once(ident, name):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                asker.settimeout(PATIENCE)
                asker.connect((LOCAL, 53))
                asker.send(query(ident, name))
                judge(ident, name, asker.recv(4096))

        self._each("UDP", number, once, 0.004)

    def _tcp(self, number):
        def once(ident, name):
            with socket.create_connection((LOCAL, 53), PATIENCE) as asker, asker.makefile("rb") as replies:
                asked = query(ident, name)
                asker.sendall(len(asked).to_bytes(2, "big") + asked)
                length = int.from_bytes(replies.read(2), "big")
                judge(ident, name, replies.read(length))

        self._each("TCP", number, once, 0.008)

    def _connect(self, number):
        way = Entrance("connect", proxy=True)

        def once(ident, _name):
            host = (PRIVATE, GATEWAY)[ident % 2]
            with way.open(self._authority, host, timeout=PATIENCE) as through:
                answer = ask(through, f"GET /prod/bytes/1000 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                if answer.status != 200 or len(answer.read()) != 1000:
                    raise OSError(f"{host}: {answer.status}")

        self._each("CONNECT", number, once, 0.02)

    def count(self, word):
        return {kind: sum(word in outcome for outcome in ended if outcome) for kind, ended in self.ended.items()}

    def told(self):
        """In numbers, for the report."""
        refused, lost, wrong = self.count("refused"), self.count("lost"), self.count("wrong")
        parts = (
            f"{kind} {len(ended)}, {refused[kind]} refused, {lost[kind]} lost, {wrong[kind]} wrong"
            for kind, ended in self.ended.items()
        )
        return "; ".join(parts)

    def unsound(self):
        """What no load may be, whatever else is lost: one that hardly asked, that was misled, or that hangs."""
        found = [f"{kind}: {len(ended)} are no load" for kind, ended in self.ended.items() if len(ended) < LEAST[kind]]
        found += [f"{kind}: {said}" for kind, ended in self.ended.items() for said in ended if said.startswith("wrong")]
        return found + [f"{thread.name} hangs" for thread in self._threads if thread.is_alive()]

    def problems(self):
        """Whatever was not answered, and a load that was none."""
        return [f"{kind}: {outcome}" for kind, ended in self.ended.items() for outcome in ended if outcome] + self.unsound()


class WrongError(Exception):
    """An answer came, and it leads elsewhere."""


def judge(ident, name, reply):
    """Each of the names has addresses of its own, and no other will do."""
    if said := wrong(name, ident, reply):
        raise WrongError(said)


def post(path):
    connection = http.client.HTTPConnection(LOCAL, ADMIN_PORT, timeout=5)
    connection.request("POST", path)
    answer = connection.getresponse().status
    connection.close()
    return answer


def programs(world, report):
    """Both kinds of APIs, for who has nothing but resolv.conf."""
    report.section("EC2: programs with nothing but resolv.conf")
    commands = clients.build(world)
    wanted = {PRIVATE: ENDPOINT, GATEWAY: clients.PUBLIC_API, "db.corp.internal": ["10.53.7.7", "fd53::7"]}
    for label in ("musl, static", "glibc", "Python", "Java"):
        clients.ask(report, label, commands[label], wanted)
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
        code, out, error = run(command, 60, env=trusted, stdin=calls)
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
            began = time.monotonic()
            unit.start()
            gaps.append(time.monotonic() - began)
            time.sleep(0.3)
    told = f"started again 5 times, each with exit 0, at most {max(gaps):.1f} s without a process: {load.told()}"
    report.check(told, load.problems() + ([] if codes == [0] * 5 else [f"{codes}"]))

    with Load(world) as load:
        answer = post("/quitquitquit")
        code = unit.process.wait(20)
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
        asked = query(1, PRIVATE)
        stream.sendall(len(asked).to_bytes(2, "big") + asked)
        streams.append(stream)
    unit.start()

    asker.settimeout(2)
    waited = []
    with contextlib.suppress(TimeoutError):
        while True:
            reply = asker.recv(4096)
            judge(int.from_bytes(reply[:2], "big"), PRIVATE, reply)
            waited.append(int.from_bytes(reply[:2], "big"))
    in_order = sorted(waited) == list(range(len(waited)))
    report.check(
        f"of {DATAGRAMS} datagrams at once the first {len(waited)} waited for the next process and were answered",
        in_order and len(waited) >= 1000,
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


def taken_over(world, report):
    """resolv.conf by the shipped drop-ins, and the VPC's servers from the file as it was."""
    report.section("EC2: resolv.conf taken over by the shipped drop-ins, kept through restarts, given back with the sockets")
    mine = {key: value for key, value in environment(world).items() if key != "SIDEGATE_UPSTREAM__VPC"}
    before = RESOLV_CONF.read_bytes()
    as_leased = f"search corp.internal\nnameserver {VPC}\noptions timeout:2 attempts:5\n".encode()
    RESOLV_CONF.write_bytes(as_leased)
    unit = Supervisor(world, listeners("sidegate.socket"), mine)

    def commands(name, key):
        for _, *words in lines(name, key):
            code, out, error = run([world.sidegate, *words], 20, env={**os.environ, **mine})
            if code != 0:
                raise ProcessError(f"{key}: {code} {out}{error}")

    def start():
        unit.start()
        commands("sidegate.service", "ExecStartPost")

    def leads_here():
        servers = [line for line in RESOLV_CONF.read_text(encoding="utf-8").splitlines() if line.startswith("nameserver")]
        return [] if servers == [f"nameserver {LOCAL}"] else RESOLV_CONF.read_text(encoding="utf-8")

    try:
        start()
        report.check("after ExecStartPost it names Sidegate and nobody else", leads_here())
        answer = dig("db.corp.internal", "A", "+short").text.split()
        report.check("what only the VPC's resolver knows comes from the server that the file had", answer == ["10.53.7.7"] or f"{answer}")
        with Load(world, connect=0) as load:
            for end in (unit.end, unit.kill, unit.end):
                end()
                report.check("between two processes it names Sidegate still", leads_here())
                start()
        lost = load.count("lost")
        right = not sum(load.count("refused").values()) and lost["UDP"] <= 4 and lost["TCP"] <= 2
        report.check(f"two restarts and a kill -9: {load.told()}", load.unsound() if right else load.problems())
        answer = dig("db.corp.internal", "A", "+short").text.split()
        report.check("who starts on a file that was taken over finds the server in it", answer == ["10.53.7.7"] or f"{answer}")
        code = unit.end()
        commands("sidegate.socket", "ExecStopPost")
        after = RESOLV_CONF.read_bytes()
        report.check(f"exit {code}; with the sockets it is as it was, octet for octet", after == as_leased or f"{after}")
    finally:
        unit.close()
        RESOLV_CONF.write_bytes(before)


def without_sockets(world, report):
    """For comparison: the service that binds for itself."""
    report.section("EC2: without socket activation")
    unit = Supervisor(world, [], environment(world))
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
    seen = sees_what_is_wrong()
    right = {PRIVATE: [True, False, False, False], GATEWAY: [False, True, False, False]}
    report.check("a load sees an address that is not the name's", [] if seen == right else f"{seen}")
    gateways = Gateways(world, "ec2-gateways")
    gateways.start()
    sockets = [*listeners("sidegate.socket"), CONNECT_SOCKET]
    unit = Supervisor(world, sockets, environment(world), watchdog=4.0)
    try:
        shipped = float(setting("sidegate.service", "Service", "WatchdogSec"))
        report.check(f"sidegate.service has WatchdogSec={shipped:.0f}, here {unit.watchdog:.0f}", shipped >= unit.watchdog)
        seconds = unit.start()
        report.check(f"READY after {seconds:.2f} s: {unit.status()}", status("/ready") == 200)
        programs(world, report)
        changes(world, report, unit)
        killed(world, report, unit)
        queue(report, unit)
        watched(report, unit)
        unit.close()
        taken_over(world, report)
        without_sockets(world, report)
    finally:
        unit.close()
        world.stop_sidegates()
        gateways.stop()

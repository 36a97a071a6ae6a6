"""A whole VPC: clients know its resolver alone, whose Resolver rule leads to the load balancer and the two tasks of
config/vpc/whole-vpc.yaml, with the configuration as the template has it. No client is changed.

BIND is the VPC's resolver; what it is asked stands in its log, so that a question that comes back is seen.
"""

import asyncio
import os
import signal
import socket
import ssl
import struct
import time

from . import clients
from .dig import dig
from .calls import Calls
from .faults import Load, exchange_seen, nothing
from .forward_clients import FETCHERS, Clients
from .gateways import GATEWAY, PRIVATE, Gateways
from .matrix import packet
from .processes import run, wait_until
from .truth import EXCHANGED, asked
from .vpc_fleet import DNS_NAME, TASKS, VPCE, Fleet
from .world import CENTRAL, TARGETS, ZONE

#: Where a task listens for encrypted questions, as the page has it.
TLS_PORT, HTTPS_PORT = 8853, 8443

NAMES = {
    PRIVATE: ["10.53.1.10", "10.53.1.11"],
    GATEWAY: clients.PUBLIC_API,
    f"PubApi1234.{ZONE.upper()}": clients.PUBLIC_API,
    ZONE: ["10.53.1.10", "10.53.1.11"],
    f"d-custom1234.{ZONE}": clients.CUSTOM,
    # The VPC's resolver follows the alias through its own rule.
    "api.example.com": clients.CUSTOM,
    "www.example.com": ["198.51.100.3", "198.51.100.4", "198.51.100.5", "2001:db8::3"],
    "db.corp.internal": ["10.53.7.7", "fd53::7"],
    f"nobody9876.{ZONE}": "NONAME",
}


class Resolved:
    """A way with nothing but resolv.conf."""

    name, label, scheme, proxy, resolver, sidegate = "the VPC's resolver", "vpc", "https", False, True, None

    def __init__(self, world):
        self.path = world.work / "resolv-vpc.conf"
        self.path.write_text(f"nameserver {CENTRAL}\n", encoding="ascii")

    @property
    def before(self):
        return ["unshare", "--mount", "sh", "-c", f'mount --bind {self.path} /etc/resolv.conf && exec "$@"', "sh"]


def lookups(world, report, way):
    report.section("A whole VPC: programs that know the VPC's resolver alone")
    for label, command in clients.build(world).items():
        if label in ("musl, static", "glibc", "Python", "Java"):
            clients.ask(report, label, command, NAMES, way.before)


def calls(world, report, gateways, way):
    """Both kinds of APIs answer; the endpoint says 403 to a name that is not its own, and the public gateway too."""
    home = Clients(world, gateways, report, False, "vpc-clients")
    home.rows = [row for row in FETCHERS if row != "Node fetch"]
    for row in home.rows:
        for host in (PRIVATE, GATEWAY):
            call = f"GET https://{host}/prod/status/204 -\n"
            _, out, error = run([*way.before, *home._command(row, way)], 60, env=home.environment, stdin=call)
            report.check(f"{row:18} https://{host}/: 204", [] if out.startswith("204\t") else out + error)


def no_loop(fleet, report):
    report.section("A whole VPC: no question goes round in a circle")
    before = len(fleet.asked(ZONE))
    names = [ZONE, PRIVATE, GATEWAY, f"d-chained123.{ZONE}", f"nobody9876.{ZONE}", f"below.privapi123.{ZONE}",
             f"pubapi1234-vpce-0c0c0c0c0c0c0c0c0.{ZONE}", "api.example.com"]
    for address in TARGETS:
        for name in names:
            for rtype in ("A", "AAAA", "HTTPS", "TXT", "ANY"):
                dig(name, rtype, server=address)
    # What the VPC's resolver itself follows an alias to is asked by nobody, and so in no log.
    report.check(
        f"{len(names) * 10} questions to the Sidegates: none in the zone comes to the VPC's resolver",
        fleet.asked(ZONE)[before:],
    )
    dig(PRIVATE, server=CENTRAL)
    report.check("the log would tell", len(fleet.asked(ZONE)) == before + 1)

    shipped = fleet.configuration["SIDEGATE_CONFIG_TOML"]
    name = f'dns_name = "{VPCE}"\n'
    nowhere = shipped.replace(f'[[endpoint]]\nvpce_id = "{VPCE[:22]}"\n{name}', "")
    for what, text, more, wanted in (
        ("the endpoint's addresses from the apex", nowhere, {}, "add an [[endpoint]]"),
        ("an [[endpoint]] without addresses", shipped.replace(name, ""), {}, "set dns_name"),
        ("the apex as its dns_name", shipped.replace(VPCE, ZONE), {}, "set dns_name"),
        ("the VPC's resolver as public DNS", shipped, {"SIDEGATE_UPSTREAM__PUBLIC": "169.254.169.253"}, "outside the VPC"),
    ):
        env = {**fleet.configuration, **more, "SIDEGATE_CONFIG_TOML": text}
        code, out, error = run([fleet.world.sidegate, "check"], env=env)
        report.check(f"{what}: refused, with the fix", [] if code == 78 and wanted in out + error else f"{code} {out}{error}")

    # Without whole_vpc nothing is refused, and the rule leads an own look-up back to who asked it.
    for sidegate in fleet.sidegates:
        sidegate.signal(signal.SIGKILL)
        sidegate.wait(5)
    before = len(fleet.asked(ZONE))
    fleet.start(0, SIDEGATE_CONFIG_TOML=nowhere.replace("whole_vpc = true\n", ""))
    time.sleep(5)
    # Of the task itself: the load balancer, to which none is healthy now, may choose the one that does not run.
    reply = dig(PRIVATE, server=TASKS[0], port=5300)
    asked = len(fleet.asked(ZONE)) - before
    report.check(
        f"without whole_vpc: the apex comes back ({asked} questions in 5 s), which ends as SERVFAIL and grows into no storm",
        [] if reply.status == "SERVFAIL" and 0 < asked < 100 and fleet.sidegates[0].alive() else f"{asked} {reply.text}",
    )
    fleet.sidegates[0].signal(signal.SIGKILL)
    fleet.sidegates[0].wait(5)
    for number in range(len(TASKS)):
        fleet.start(number)
    for number in range(len(TASKS)):
        fleet.in_service(number)


def under_load(fleet, report, what, seconds, meanwhile, lost_may_be=0):
    """Questions to the VPC's resolver, and HTTPS calls by whoever asks it. Where a question may be lost a call may be as well."""
    way = Resolved(fleet.world)
    calls = Calls(way.before, {**os.environ, "REQUESTS_CA_BUNDLE": str(fleet.world.authority)})
    load = Load(server=CENTRAL, names=asked(PRIVATE, GATEWAY))
    asyncio.run(load.run(seconds, meanwhile))
    calls.end()
    right = not load.wrong and len(load.lost) <= lost_may_be and load.asked > 100
    problems = [] if right else load.problems or ["no load"]
    report.check(
        f"{what}: {len(load.lost)} of {load.asked} questions lost, {len(load.wrong)} wrong, the slowest {load.slowest:.1f} s; {calls}",
        [*problems, *(calls.none_wrong() if lost_may_be else calls.none_lost())],
    )


def changes(fleet, report):
    report.section("A whole VPC: Sidegates that come and go under load")

    # What BIND and the load balancer's rules cost by themselves.
    under_load(fleet, report, "nothing happens", 4, nothing)

    async def reloads():
        for turn in range(10):
            fleet.sidegates[turn % 2].signal(signal.SIGHUP)
            await asyncio.sleep(0.3)

    under_load(fleet, report, "10 reloads", 4, reloads)

    ended = 0.0

    async def terminate():
        nonlocal ended
        began = time.monotonic()
        fleet.sidegates[0].signal(signal.SIGTERM)
        await asyncio.sleep(1)
        code = fleet.ready(0)
        report.check("SIGTERM: /ready tells the load balancer at once", [] if code == "503" else code)
        await aside(fleet.in_service, 0, False)
        report.check(f"... which takes it out after {time.monotonic() - began:.0f} s")
        await aside(fleet.sidegates[0].wait, fleet.stop_timeout)
        ended = time.monotonic() - began

    under_load(fleet, report, "one is drained and gone, linger = 40 s", 2, terminate)
    right = fleet.sidegates[0].wait(0) == 0 and 40 <= ended
    report.check(f"... with 0 after {ended:.0f} s of the {fleet.stop_timeout} s that ECS waits", right)

    async def restart():
        await aside(fleet.start, 0)
        await aside(fleet.in_service, 0)

    under_load(fleet, report, "it is started again and put into service", 2, restart)

    async def crash():
        await asyncio.sleep(1)
        fleet.sidegates[1].signal(signal.SIGKILL)
        await aside(fleet.sidegates[1].wait, 5)
        await aside(fleet.start, 1)

    # What it had read is asked again by the VPC's resolver, as is what meets a closed port. Until the next process listens
    # each attempt has an even chance to meet that, and where both do the resolver says SERVFAIL.
    under_load(fleet, report, "one is killed, its container started again", 3, crash, lost_may_be=50)
    for number in range(len(TASKS)):
        fleet.in_service(number)

    async def hang():
        await asyncio.sleep(1)
        began = time.monotonic()
        fleet.sidegates[0].signal(signal.SIGSTOP)
        await aside(fleet.in_service, 0, False)
        report.check(f"one hangs: taken out after {time.monotonic() - began:.0f} s")

    # Until then each question has an even chance to meet it, each time that the VPC's resolver asks again.
    under_load(fleet, report, "one hangs", 3, hang, lost_may_be=50)
    fleet.sidegates[0].signal(signal.SIGCONT)
    fleet.in_service(0)
    report.check("both are alive, and in service again", all(sidegate.alive() for sidegate in fleet.sidegates))


def noticed(fleet, report):
    """Both tasks with another policy: a load that nothing wrong could come to proves nothing."""
    report.section("A whole VPC: the load notices addresses of another name")
    for number, sidegate in enumerate(fleet.sidegates):
        sidegate.signal(signal.SIGKILL)
        sidegate.wait(5)
        fleet.start(number, **EXCHANGED)
        fleet.in_service(number)
    calls = Calls(Resolved(fleet.world).before, {**os.environ, "REQUESTS_CA_BUNDLE": str(fleet.world.authority)}, hosts=[GATEWAY])
    load = Load(server=CENTRAL, names=asked(PRIVATE, GATEWAY))
    asyncio.run(load.run(2, nothing))
    calls.end()
    report.check(*exchange_seen(load))
    report.check(f"... and {calls}", calls.wrong == calls.calls)


def aside(work, *words):
    """Work that blocks, beside the load."""
    return asyncio.get_running_loop().run_in_executor(None, work, *words)


def kept(world, address):
    """A connection of DNS over TLS that is kept."""
    context = ssl.create_default_context(cafile=str(world.authority))
    context.set_alpn_protocols(["dot"])
    return context.wrap_socket(socket.create_connection((address, TLS_PORT), 5), server_hostname=DNS_NAME)


def answers(connection):
    query = packet(body=b"".join(bytes([len(l)]) + l.encode() for l in PRIVATE.split(".")) + b"\0\0\1\0\1")
    connection.sendall(struct.pack("!H", len(query)) + query)
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        more = connection.recv(4096)
        if not more:
            return False
        data += more
    return data[2:4] == query[:2] and data[8:10] != b"\0\0"


def encrypted(world, fleet, report, way):
    report.section("A whole VPC: DNS over TLS and over HTTPS, which the page adds")
    added = {
        "SIDEGATE_DNS__TLS_CERTIFICATE": str(fleet.certificate),
        "SIDEGATE_DNS__TLS_KEY": str(fleet.key),
        "SIDEGATE_DNS__TLS__LISTEN": f"0.0.0.0:{TLS_PORT}",
        "SIDEGATE_DNS__HTTPS__LISTEN": f"0.0.0.0:{HTTPS_PORT}",
    }
    for number, sidegate in enumerate(fleet.sidegates):
        sidegate.signal(signal.SIGKILL)
        sidegate.wait(5)
        fleet.start(number, **added)
    secure = [f"+tls-ca={world.authority}", f"+tls-hostname={DNS_NAME}"]
    for label, words in (
        ("TLS", ["-p", str(TLS_PORT), "+tls"]),
        ("HTTPS, POST", ["-p", str(HTTPS_PORT), "+https"]),
        ("HTTPS, GET", ["-p", str(HTTPS_PORT), "+https", "+https-get"]),
        ("TLS, padded, one connection", ["-p", str(TLS_PORT), "+tls", "+padding=128", "+keepopen"]),
    ):
        _, out, error = run(["kdig", f"@{TASKS[0]}", *words, *secure, PRIVATE, "A", GATEWAY, "A", "www.example.com", "A"])
        right = "10.53.1.10" in out and "198.51.100.10" in out and "198.51.100.3" in out
        report.check(f"kdig over {label}", [] if right and "WARNING" not in out + error else out + error)
        if "padded" in label:
            report.check("... its replies are padded to 468 octets", out.count("468 B") == 3 or out)
    _, out, error = run(["kdig", f"@{TASKS[0]}", "-p", str(TLS_PORT), "+tls", f"+tls-ca={world.authority}", "+tls-hostname=other.test", PRIVATE])
    report.check("kdig that expects another name refuses", "10.53.1.10" not in out)
    for host in (PRIVATE, GATEWAY):
        _, out, error = run(
            ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "--doh-url", f"https://{DNS_NAME}:{HTTPS_PORT}/dns-query",
             "--resolve", f"{DNS_NAME}:{HTTPS_PORT}:{TASKS[1]}", f"https://{host}/prod/status/204"],
            env={**os.environ, "CURL_CA_BUNDLE": str(world.authority)},
        )
        report.check(f"curl --doh-url for {host}: 204", [] if out == "204" else out + error)

    open_before = [kept(world, address) for address in TASKS]
    renewed = fleet.renew()
    for sidegate in fleet.sidegates:
        sidegate.signal(signal.SIGHUP)

    def shown(address):
        with kept(world, address) as connection:
            return connection.getpeercert(binary_form=True)

    wait_until(lambda: all(shown(address) == renewed for address in TASKS), 10, "the certificate to be in force")
    report.check("SIGHUP after a certificate was replaced: new connections get it, open ones go on",
                 all(answers(connection) for connection in open_before))
    fleet.key.write_text("half a key", encoding="ascii")
    fleet.sidegates[0].signal(signal.SIGHUP)
    wait_until(lambda: "stays in use" in fleet.sidegates[0].output(), 10, "a warning")
    report.check("a pair that cannot be used: warned of, the one before stays", shown(TASKS[0]) == renewed)

    renewed = fleet.renew()
    began, alive = time.monotonic(), True

    def taken_up():
        nonlocal alive
        time.sleep(1)
        alive = alive and all(answers(connection) for connection in open_before)
        return all(shown(address) == renewed for address in TASKS)

    wait_until(taken_up, 60, "the certificate to be noticed")
    seconds = time.monotonic() - began
    report.check(f"replaced on disk and nothing else: noticed after {seconds:.0f} s, open connections go on", alive)
    for connection in open_before:
        connection.close()


def check(world, report, _short):
    report.section("A whole VPC: its resolver, a load balancer, two tasks of whole-vpc.yaml")
    gateways = Gateways(world, "vpc-gateways", (ZONE, f"*.{ZONE}"))
    gateways.start()
    fleet = None
    try:
        world.start_peer("central")
        fleet = Fleet(world, gateways)
        for number in range(len(TASKS)):
            fleet.in_service(number)
        report.check("both are ready, by their endpoint's own name and public DNS over HTTPS, and in service")
        way = Resolved(world)
        lookups(world, report, way)
        calls(world, report, gateways, way)
        no_loop(fleet, report)
        changes(fleet, report)
        noticed(fleet, report)
        encrypted(world, fleet, report, way)
    finally:
        world.stop_sidegates()
        if fleet:
            fleet.end()
        if "central" in world.peers:
            world.peers.pop("central").stop(3)
        gateways.stop()

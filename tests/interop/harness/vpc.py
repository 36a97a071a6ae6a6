"""A whole VPC: clients know its resolver alone, whose Resolver rule leads to two Sidegates. No client is changed.

BIND is the VPC's resolver; what it is asked stands in its log, so that a question that comes back is seen.
"""

import asyncio
import os
import signal
import socket
import ssl
import struct
import time
from pathlib import Path

from . import clients
from .dig import dig
from .faults import Load
from .forward_clients import FETCHERS, Clients
from .gateways import GATEWAY, PRIVATE, Gateways
from .matrix import packet
from .processes import run, wait_until
from .world import CENTRAL, INTERNET, TARGETS, ZONE

VPCE = "vpce-0a0a0a0a0a0a0a0a0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com"
DNS_NAME = "dns.interop.test"
IDS = f"""[policy]
region = "us-east-1"
private_api_ids = ["privapi123"]
"""
ENDPOINT = f"""[[endpoint]]
vpce_id = "vpce-0a0a0a0a0a0a0a0a0"
dns_name = "{VPCE}"
"""
#: Public DNS has a public address here: with `whole_vpc` no other is taken for one.
UPSTREAM = f'public = ["udp://{INTERNET}"]\nvpc = ["{CENTRAL}"]\ndefault = "vpc"'
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


class Fleet:
    """The VPC's resolver and the two Sidegates."""

    def __init__(self, world, gateways):
        self.world = world
        self.certificate, self.key = world.work / "dns.pem", world.work / "dns.key"
        self.gateways = gateways
        self.renew()
        self.paths = [self._configuration(address) for address in TARGETS]
        self.sidegates = [self._start(number) for number in range(len(TARGETS))]

    def renew(self):
        """Puts another certificate where the Sidegates read theirs, as a renewal does: the key first, then the chain."""
        certificate, key = self.gateways._issue("dns", DNS_NAME)
        for source, target in ((key, self.key), (certificate, self.certificate)):
            new = target.with_suffix(".new")
            new.write_bytes(Path(source).read_bytes())
            new.replace(target)
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())

    def _configuration(self, address):
        dns = (
            f'whole_vpc = true\ntls_certificate = "{self.certificate}"\ntls_key = "{self.key}"\n'
            f'[dns.tls]\nlisten = ["{address}:853"]\n[dns.https]\nlisten = ["{address}:443"]\n'
        )
        return self.world.configuration(
            IDS + ENDPOINT, listen=[f"{address}:53"], upstream=UPSTREAM, dns=dns, head='linger = "3s"',
            admin=f"{address}:9180",
        )

    def _start(self, number):
        return self.world.run_sidegate(self.paths[number], listen=f"{TARGETS[number]}:53")

    def restart(self, number):
        self.sidegates[number] = self._start(number)
        wait_until(lambda: dig(PRIVATE, server=TARGETS[number]).answer, 10, "its endpoint's addresses")

    def asked(self):
        """Questions for names in the zone that the VPC's resolver has had so far."""
        lines = (self.world.work / "central" / "queries.log").read_text(errors="replace").lower().splitlines()
        return [line for line in lines if f"{ZONE}): query" in line]


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
    home = Clients(world, gateways, report, False)
    home.rows = [row for row in FETCHERS if row != "Node fetch"]
    for row in home.rows:
        for host in (PRIVATE, GATEWAY):
            call = f"GET https://{host}/prod/status/204 -\n"
            _, out, error = run([*way.before, *home._command(row, way)], 60, env=home.environment, stdin=call)
            report.check(f"{row:18} https://{host}/: 204", [] if out.startswith("204\t") else out + error)


def no_loop(fleet, report):
    report.section("A whole VPC: no question goes round in a circle")
    before = len(fleet.asked())
    names = [ZONE, PRIVATE, GATEWAY, f"d-chained123.{ZONE}", f"nobody9876.{ZONE}", f"below.privapi123.{ZONE}",
             f"pubapi1234-vpce-0c0c0c0c0c0c0c0c0.{ZONE}", "api.example.com"]
    for address in TARGETS:
        for name in names:
            for rtype in ("A", "AAAA", "HTTPS", "TXT", "ANY"):
                dig(name, rtype, server=address)
    # What the VPC's resolver itself follows an alias to is asked by nobody, and so in no log.
    report.check(
        f"{len(names) * 10} questions to the Sidegates: none in the zone comes to the VPC's resolver",
        fleet.asked()[before:],
    )
    dig(PRIVATE, server=CENTRAL)
    report.check("the log would tell", len(fleet.asked()) == before + 1)

    world = fleet.world
    for what, text, upstream, wanted in (
        ("the endpoint's addresses from the apex", IDS, UPSTREAM, "add an [[endpoint]]"),
        ("an [[endpoint]] without addresses", IDS + '[[endpoint]]\nvpce_id = "vpce-0a0a0a0a0a0a0a0a0"\n', UPSTREAM, "set dns_name"),
        ("the apex as its dns_name", IDS + f'[[endpoint]]\ndns_name = "{ZONE}"\n', UPSTREAM, "set dns_name"),
        ("the VPC's resolver as public DNS", IDS + ENDPOINT, UPSTREAM.replace(INTERNET, CENTRAL), "outside the VPC"),
    ):
        path = world.configuration(text, upstream=upstream, dns="whole_vpc = true")
        code, out, error = run([world.sidegate, "check", "--config", path])
        report.check(f"{what}: refused, with the fix", [] if code == 78 and wanted in out + error else out + error)

    # Without whole_vpc nothing is refused, and the rule leads an own look-up back to who asked it.
    for sidegate in fleet.sidegates:
        sidegate.stop()
    before = len(fleet.asked())
    path = world.configuration(IDS, listen=[f"{TARGETS[0]}:53"], upstream=UPSTREAM)
    loose = world.run_sidegate(path, listen=f"{TARGETS[0]}:53")
    time.sleep(5)
    reply = dig(PRIVATE, server=TARGETS[0])
    asked = len(fleet.asked()) - before
    report.check(
        f"without whole_vpc: the apex comes back ({asked} questions in 5 s), which ends as SERVFAIL and grows into no storm",
        [] if reply.status == "SERVFAIL" and 0 < asked < 100 and loose.alive() else f"{asked} {reply.text}",
    )
    loose.stop()
    for number in range(len(TARGETS)):
        fleet.restart(number)


def under_load(report, what, seconds, meanwhile, lost_may_be=0):
    load = Load(server=CENTRAL, names=[PRIVATE, GATEWAY])
    asyncio.run(load.run(seconds, meanwhile))
    lost = len(load.problems)
    report.check(
        f"{what}: {lost} of {load.asked} questions lost, the slowest {load.slowest:.1f} s",
        [] if lost <= lost_may_be and load.asked > 100 else load.problems or "no load",
    )


def changes(fleet, report):
    report.section("A whole VPC: Sidegates that come and go under load")

    async def reloads():
        for turn in range(10):
            fleet.sidegates[turn % 2].signal(signal.SIGHUP)
            await asyncio.sleep(0.3)

    under_load(report, "10 reloads", 4, reloads)

    async def terminate():
        await asyncio.sleep(0.5)
        fleet.sidegates[0].signal(signal.SIGTERM)
        await asyncio.sleep(1)
        _, out, _ = run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{TARGETS[0]}:9180/ready"])
        report.check("SIGTERM: /ready tells the load balancer at once", [] if out == "503" else out)

    under_load(report, "one is drained (linger = 3 s) and gone", 6, terminate)
    report.check("... and ends with 0", fleet.sidegates[0].wait(30) == 0)

    async def restart():
        await asyncio.sleep(0.5)
        await asyncio.get_running_loop().run_in_executor(None, fleet.restart, 0)

    under_load(report, "it is started again", 4, restart)

    async def kill():
        await asyncio.sleep(1)
        fleet.sidegates[1].signal(signal.SIGKILL)

    # What it had read is asked again by the VPC's resolver: clients wait and lose nothing.
    under_load(report, "one is killed", 5, kill, lost_may_be=2)
    fleet.restart(1)

    async def hang():
        await asyncio.sleep(1)
        fleet.sidegates[0].signal(signal.SIGSTOP)

    under_load(report, "one hangs", 6, hang, lost_may_be=4)
    fleet.sidegates[0].signal(signal.SIGCONT)
    report.check("both are alive", all(sidegate.alive() for sidegate in fleet.sidegates))


def kept(world, address):
    """A connection of DNS over TLS that is kept."""
    context = ssl.create_default_context(cafile=str(world.authority))
    context.set_alpn_protocols(["dot"])
    return context.wrap_socket(socket.create_connection((address, 853), 5), server_hostname=DNS_NAME)


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
    report.section("A whole VPC: DNS over TLS and over HTTPS")
    secure = [f"+tls-ca={world.authority}", f"+tls-hostname={DNS_NAME}"]
    for label, words in (
        ("TLS", ["+tls"]),
        ("HTTPS, POST", ["+https"]),
        ("HTTPS, GET", ["+https", "+https-get"]),
        ("TLS, padded, one connection", ["+tls", "+padding=128", "+keepopen"]),
    ):
        _, out, error = run(["kdig", f"@{TARGETS[0]}", *words, *secure, PRIVATE, "A", GATEWAY, "A", "www.example.com", "A"])
        right = "10.53.1.10" in out and "198.51.100.10" in out and "198.51.100.3" in out
        report.check(f"kdig over {label}", [] if right and "WARNING" not in out + error else out + error)
        if "padded" in label:
            report.check("... its replies are padded to 468 octets", out.count("468 B") == 3 or out)
    _, out, error = run(["kdig", f"@{TARGETS[0]}", "+tls", f"+tls-ca={world.authority}", "+tls-hostname=other.test", PRIVATE])
    report.check("kdig that expects another name refuses", "10.53.1.10" not in out)
    for host in (PRIVATE, GATEWAY):
        _, out, error = run(
            ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "--doh-url", f"https://{DNS_NAME}/dns-query",
             "--resolve", f"{DNS_NAME}:443:{TARGETS[1]}", f"https://{host}/prod/status/204"],
            env={**os.environ, "CURL_CA_BUNDLE": str(world.authority)},
        )
        report.check(f"curl --doh-url for {host}: 204", [] if out == "204" else out + error)

    open_before = [kept(world, address) for address in TARGETS]
    renewed = fleet.renew()
    for sidegate in fleet.sidegates:
        sidegate.signal(signal.SIGHUP)

    def shown(address):
        with kept(world, address) as connection:
            return connection.getpeercert(binary_form=True)

    wait_until(lambda: all(shown(address) == renewed for address in TARGETS), 10, "the certificate to be in force")
    report.check("SIGHUP after a certificate was replaced: new connections get it, open ones go on",
                 all(answers(connection) for connection in open_before))
    fleet.key.write_text("half a key", encoding="ascii")
    fleet.sidegates[0].signal(signal.SIGHUP)
    wait_until(lambda: "stays in use" in fleet.sidegates[0].output(), 10, "a warning")
    report.check("a pair that cannot be used: warned of, the one before stays", shown(TARGETS[0]) == renewed)

    renewed = fleet.renew()
    began, alive = time.monotonic(), True

    def taken_up():
        nonlocal alive
        time.sleep(1)
        alive = alive and all(answers(connection) for connection in open_before)
        return all(shown(address) == renewed for address in TARGETS)

    wait_until(taken_up, 60, "the certificate to be noticed")
    seconds = time.monotonic() - began
    report.check(f"replaced on disk and nothing else: noticed after {seconds:.0f} s, open connections go on", alive)
    for connection in open_before:
        connection.close()


def check(world, report, _short):
    report.section("A whole VPC: its resolver and two Sidegates")
    gateways = Gateways(world, "vpc-gateways", (ZONE, f"*.{ZONE}"))
    gateways.start()
    try:
        run(["ip", "address", "add", f"{INTERNET}/32", "dev", "lo"])
        world.start_peer("central")
        world.start_peer("internet")
        fleet = Fleet(world, gateways)
        way = Resolved(world)
        for address in TARGETS:
            wait_until(lambda address=address: dig(PRIVATE, server=address).answer, 10, "endpoint addresses")
        report.check("both have the endpoint's addresses from its own name")
        lookups(world, report, way)
        calls(world, report, gateways, way)
        no_loop(fleet, report)
        changes(fleet, report)
        encrypted(world, fleet, report, way)
    finally:
        world.stop_sidegates()
        for name in ("central", "internet"):
            if name in world.peers:
                world.peers.pop(name).stop(3)
        run(["ip", "address", "del", f"{INTERNET}/32", "dev", "lo"])
        gateways.stop()

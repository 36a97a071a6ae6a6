"""The upstreams, and how each contestant is told to ask one: over UDP, over TLS, or over HTTPS.

They run on the load's core and have the same answer for whatever is asked. Over UDP that is the limit, over TLS and HTTPS a
dnsdist that asks nobody.
"""

from dataclasses import dataclass
from pathlib import Path

from . import processes
from .certificates import make_certificate

UDP, DOT, DOH = WAYS = ("udp", "dot", "doh")
#: PowerDNS Recursor asks over TLS where the port is 853, and only there.
PORTS = {UDP: 5400, DOT: 853, DOH: 5443}
NAME = "dns.example"

# TLS and HTTPS have one thread each, as they share a core. What is asked is never asked twice, so there is no cache, and
# dnsdist must give up neither a connection nor a query.
SERVER = """setLocal('127.0.0.1:{plain}')
setSecurityPollSuffix('')
setMaxTCPClientThreads(1)
setMaxTCPConnectionsPerClient(0)
setMaxTCPQueriesPerConnection(0)
setMaxTCPConnectionDuration(0)
setTCPRecvTimeout(300)
local tls = {{minTLSVersion='tls1.2', maxInFlight=1000, maxConcurrentTCPConnections=1000}}
addTLSLocal('127.0.0.1:{dot}', '{certificate}', '{key}', tls)
addDOHLocal('127.0.0.1:{doh}', '{certificate}', '{key}', '/dns-query', {{minTLSVersion='tls1.2', idleTimeout=300}})
addAction(QTypeRule(DNSQType.A), SpoofAction({{'198.51.100.7', '198.51.100.8'}}, {{ttl=3600}}))
addAction(AllRule(), RCodeAction(DNSRCode.NOERROR))
"""

#: What a contestant's configuration says about the upstream; without an entry it has no such way.
FORWARDING = {
    "dnsdist": {
        UDP: "newServer{{address='127.0.0.1:{port}', healthCheckMode='up'}}",
        # Its threads share one core, whatever their number.
        DOT: "setMaxTCPClientThreads(1)\n"
        "newServer{{address='127.0.0.1:{port}', healthCheckMode='up', tls='openssl', subjectName='{name}',"
        " caStore='{root}', maxInFlight=100}}",
        DOH: "setMaxTCPClientThreads(1)\n"
        "newServer{{address='127.0.0.1:{port}', healthCheckMode='up', tls='openssl', subjectName='{name}',"
        " caStore='{root}', dohPath='/dns-query'}}",
    },
    "unbound": {
        UDP: 'forward-zone:\nname: "."\nforward-addr: 127.0.0.1@{port}',
        DOT: 'server:\ntls-cert-bundle: "{root}"\noutgoing-num-tcp: 100\nforward-zone:\nname: "."\n'
        "forward-tls-upstream: yes\nforward-addr: 127.0.0.1@{port}#{name}",
    },
    # Over TLS it takes any certificate. It has one query at a time on a connection, and would keep ten of them.
    "pdns-recursor": {
        UDP: "forward-zones-recurse=.=127.0.0.1:{port}",
        DOT: "forward-zones-recurse=.=127.0.0.1:{port}\ntcp-out-max-idle-per-auth=100\ntcp-out-max-idle-per-thread=100",
    },
    "kresd": {
        UDP: "policy.add(policy.all(policy.STUB('127.0.0.1@{port}')))",
        DOT: "policy.add(policy.all(policy.TLS_FORWARD({{{{'127.0.0.1@{port}', hostname='{name}', ca_file='{root}'}}}})))",
    },
    "dnsmasq": {UDP: "server=127.0.0.1#{port}"},
    "bind9": {UDP: "forwarders {{ 127.0.0.1 port {port}; }};"},
    "hickory-dns": {UDP: 'connections = [ {{ port = {port}, protocol = {{ type = "udp" }} }} ]'},
    "sidegate": {
        UDP: '[upstream]\npublic = ["udp://127.0.0.1:{port}"]',
        DOT: '[upstream]\npublic = ["tls://127.0.0.1:{port}#{name}"]\n[forward]\nextra_roots = ["{root}"]',
        DOH: '[upstream]\npublic = ["https://127.0.0.1:{port}/dns-query"]\n[forward]\nextra_roots = ["{root}"]',
    },
}


@dataclass(frozen=True)
class Upstream:
    """One that runs; of those over TLS and HTTPS the root that vouches for it."""

    way: str
    pid: int
    root: Path | None = None

    def forwarding(self, contestant):
        return FORWARDING[contestant][self.way].format(port=PORTS[self.way], name=NAME, root=self.root)


def start(ways, work, programs):
    """Starts what these ways need and gives an upstream for each."""
    found = {}
    if UDP in ways:
        process = processes.start([programs / "dns_limit", PORTS[UDP]], processes.LOAD_CORE, work / "upstream.log")
        found[UDP] = Upstream(UDP, process.pid)
    encrypted = [way for way in ways if way != UDP]
    if encrypted:
        folder = work / "upstream"
        folder.mkdir()
        certificate = make_certificate(folder, [f"DNS:{NAME}", "IP:127.0.0.1"])
        text = SERVER.format(
            plain=PORTS[UDP] + 1,
            dot=PORTS[DOT],
            doh=PORTS[DOH],
            certificate=certificate.certificate,
            key=certificate.key,
        )
        configuration = folder / "dnsdist.conf"
        configuration.write_text(text)
        command = ["dnsdist", "--supervised", "--disable-syslog", "-C", configuration]
        process = processes.start(command, processes.LOAD_CORE, work / "upstream.log")
        found |= {way: Upstream(way, process.pid, certificate.root) for way in encrypted}
    return found

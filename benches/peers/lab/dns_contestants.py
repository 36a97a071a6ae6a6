"""The contestants: how each is told to answer the same private names, to ask the same upstream, and to use one thread.

All have a cache that holds everything asked, none checks DNSSEC, none has to ask upstream about a private name, whatever
the type. Each function writes what its contestant reads and gives the command that runs it in the foreground.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .dns_data import ADDRESSES, ZONE, Data
from .dns_upstreams import FORWARDING, UDP, Upstream


@dataclass
class Setting:
    """What a configuration is made from."""

    directory: Path
    port: int
    upstream: Upstream
    data: Data

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text, encoding="ascii")
        return path

    def records(self, form):
        """A line for each address of each private name."""
        return "".join(form.format(name=name, ip=ip) for name in self.data.private for ip in ADDRESSES)

    def policy_zone(self):
        """The private names as a response policy zone, which BIND and PowerDNS read."""
        head = "$TTL 60\n@ SOA localhost. root.localhost. 1 3600 600 86400 60\n@ NS localhost.\n"
        return self.write("rpz.zone", head + self.records("{name} A {ip}\n"))


def unbound(setting):
    zones = "".join(f'local-zone: "{name}." static\n' for name in setting.data.private)
    setting.write("local.conf", "server:\n" + zones + setting.records('local-data: "{name}. 60 A {ip}"\n'))
    text = f"""server:
interface: 127.0.0.1
port: {setting.port}
num-threads: 1
username: ""
chroot: ""
directory: "{setting.directory}"
pidfile: "{setting.directory}/pid"
use-syslog: no
do-ip6: no
do-daemonize: no
module-config: "iterator"
do-not-query-localhost: no
msg-cache-size: 64m
rrset-cache-size: 128m
msg-cache-slabs: 1
rrset-cache-slabs: 1
outgoing-range: 4096
num-queries-per-thread: 2048
incoming-num-tcp: 100
minimal-responses: yes
qname-minimisation: no
include: "{setting.directory}/local.conf"
remote-control:
control-enable: no
{setting.upstream.forwarding("unbound")}
"""
    return ["unbound", "-d", "-c", setting.write("unbound.conf", text)]


def dnsmasq(setting):
    text = f"""port={setting.port}
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
user=root
group=root
pid-file={setting.directory}/pid
cache-size=10000
dns-forward-max=1000
local-ttl=60
{setting.upstream.forwarding("dnsmasq")}
log-facility=-
"""
    closed = "".join(f"local=/{name}/\n" for name in setting.data.private)
    path = setting.write("dnsmasq.conf", text + setting.records("address=/{name}/{ip}\n") + closed)
    return ["dnsmasq", "--keep-in-foreground", "--conf-file=" + str(path)]


def dnsdist(setting):
    names = setting.write("names", "".join(f"{name}.\n" for name in setting.data.private))
    addresses = ", ".join(f"'{address}'" for address in ADDRESSES)
    text = f"""setLocal('127.0.0.1:{setting.port}')
setSecurityPollSuffix('')
{setting.upstream.forwarding("dnsdist")}
getPool(''):setCache(newPacketCache(200000, {{numberOfShards=1}}))
names = newDNSNameSet()
for name in io.lines('{names}') do names:add(newDNSName(name)) end
addAction(AndRule{{QNameSetRule(names), QTypeRule(DNSQType.A)}}, SpoofAction({{{addresses}}}, {{ttl=60}}))
addAction(QNameSetRule(names), RCodeAction(DNSRCode.NOERROR))
"""
    return ["dnsdist", "--supervised", "--disable-syslog", "-C", setting.write("dnsdist.conf", text)]


def kresd(setting):
    hosts = setting.write("hosts", setting.records("{ip} {name}\n"))
    text = f"""net.listen('127.0.0.1', {setting.port}, {{ kind = 'dns' }})
net.ipv6 = false
trust_anchors.remove('.')
modules.load('hints > iterate')
hints.add_hosts('{hosts}')
hints.ttl(60)
cache.open(100 * MB, 'lmdb://{setting.directory}/cache')
cache.clear()
{setting.upstream.forwarding("kresd")}
"""
    return ["kresd", "-n", "-q", "-c", setting.write("kresd.conf", text), setting.directory]


def bind9(setting):
    text = f"""options {{
    directory "{setting.directory}"; pid-file "pid"; session-keyfile "session.key";
    listen-on port {setting.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion yes; forward only; {setting.upstream.forwarding("bind9")}
    dnssec-validation no; minimal-responses yes; max-cache-size 256m; empty-zones-enable no; qname-minimization off;
    recursive-clients 5000; tcp-clients 500;
    response-policy {{ zone "rpz.local"; }} qname-wait-recurse no;
}};
controls {{ }};
logging {{ category default {{ default_stderr; }}; }};
zone "rpz.local" {{ type primary; file "{setting.policy_zone()}"; }};
"""
    return ["named", "-f", "-n", "1", "-c", setting.write("named.conf", text)]


def pdns_recursor(setting):
    zone = setting.policy_zone()
    script = setting.write("rpz.lua", f"rpzFile('{zone}', {{policyName='rpz.local', defttl=60}})\n")
    text = f"""local-address=127.0.0.1
local-port={setting.port}
threads=1
distributor-threads=0
pdns-distributes-queries=no
daemon=no
setuid=
setgid=
socket-dir={setting.directory}
disable-syslog=yes
loglevel=3
quiet=yes
dnssec=off
security-poll-suffix=
dont-query=
{setting.upstream.forwarding("pdns-recursor")}
lua-config-file={script}
max-cache-entries=200000
max-packetcache-entries=200000
max-tcp-clients=200
max-concurrent-requests-per-tcp-connection=100
export-etc-hosts=off
qname-minimization=no
"""
    setting.write("recursor.conf", text)
    return ["pdns_recursor", f"--config-dir={setting.directory}"]


def hickory(setting):
    """No package of Debian: HICKORY names the program."""
    records = "".join(f"@ IN A {address}\n" for address in ADDRESSES)
    head = "$TTL 60\n@ IN SOA ns.local. root.local. 1 3600 600 86400 60\n@ IN NS ns.local.\n"
    setting.write("id.zone", head + records)
    text = f"""listen_addrs_ipv4 = ["127.0.0.1"]
listen_port = {setting.port}
directory = "{setting.directory}"
drop_privileges = false
allow_networks = ["127.0.0.0/8"]
[[zones]]
zone = "."
zone_type = "External"
[[zones.stores]]
type = "forward"
options = {{ cache_size = 200000, edns0 = false, num_concurrent_reqs = 1, use_hosts_file = "Never" }}
[[zones.stores.name_servers]]
ip = "127.0.0.1"
trust_negative_responses = true
{setting.upstream.forwarding("hickory-dns")}
"""
    zone = '[[zones]]\nzone = "{}"\nzone_type = "Primary"\n[zones.stores]\ntype = "file"\nzone_path = "id.zone"\n'
    path = setting.write("named.toml", text + "".join(map(zone.format, setting.data.private)))
    return [os.environ.get("HICKORY", "hickory-dns"), "-q", "--workers", "1", "-c", path]


def sidegate(setting):
    """The words after its program, which the run is given. It remembers nothing, so that each start is like the first."""
    ids = setting.write("ids", "".join(f"{name}\n" for name in setting.data.ids))
    addresses = ", ".join(f'"{address}"' for address in ADDRESSES)
    text = f"""state_dir = ""
[policy]
region = "{ZONE.split(".")[1]}"
[[endpoint]]
region = "{ZONE.split(".")[1]}"
addresses = [{addresses}]
health = "off"
{setting.upstream.forwarding("sidegate")}
[dns]
listen = ["127.0.0.1:{setting.port}"]
workers = 1
[forward.connect]
listen = []
[admin]
listen = ""
[[discovery]]
kind = "file"
path = "{ids}"
"""
    return ["run", "--config", setting.write("sidegate.toml", text)]


PEERS = {
    "dnsdist": dnsdist,
    "unbound": unbound,
    "pdns-recursor": pdns_recursor,
    "kresd": kresd,
    "dnsmasq": dnsmasq,
    "bind9": bind9,
    "hickory-dns": hickory,
}
LIMIT, OURS = "limit", "sidegate"
NAMES = [LIMIT, *PEERS, OURS]


def takes_part(name, way):
    """Whether it can ask an upstream in this way; who answers everything by itself asks nobody."""
    return way == UDP if name == LIMIT else way in FORWARDING[name]


def command(name, setting, programs, ours):
    """Writes its configuration and gives its command; None if it is not installed."""
    setting.directory.mkdir(parents=True, exist_ok=True)
    if name == LIMIT:
        return [programs / "dns_limit", setting.port]
    if name == OURS:
        return [ours, *sidegate(setting)]
    words = PEERS[name](setting)
    program = shutil.which(words[0])
    return [program, *words[1:]] if program else None

"""A whole VPC as config/vpc/whole-vpc.yaml makes it: two tasks with the template's configuration, each in a network of its
own, and a Network Load Balancer with two addresses in front of them.

Port 53 of either address leads to port 5300 of a healthy task, chosen for each flow; health is what /ready of a task's own
address says, as often as the target group asks.
"""

import ssl
import threading
from pathlib import Path

from .processes import Process, ProcessError, run, wait_until
from .templates import Template
from .world import CENTRAL, TARGETS

VPCE = "vpce-0a0a0a0a0a0a0a0a0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com"
DNS_NAME = "dns.interop.test"
TASKS = ["10.53.3.101", "10.53.3.102"]
#: `upstream.public` of the template; BIND answers there over HTTPS.
PUBLIC_DNS = ["1.1.1.1", "8.8.8.8"]
#: A container of a task: its resolv.conf, a root that cannot be written to, the image's user, no capability.
CONTAINER = """
mount --bind {resolv_conf} /etc/resolv.conf && mount -o remount,bind,ro /etc/resolv.conf && mount -o remount,bind,ro /
exec setpriv --reuid={user} --regid={user} --clear-groups --inh-caps=-all --bounding-set=-all "$@"
"""


def do(*command, stdin=None):
    code, _, error = run(command, stdin=stdin)
    if code != 0:
        raise ProcessError(f"{' '.join(command)}: {error}")


class Balancer(threading.Thread):
    """The load balancer: cross-zone, so that both addresses lead to every target that is in service."""

    def __init__(self, resources):
        super().__init__(daemon=True)
        group = resources["Targets"]["Properties"]
        self.port, self.interval = group["Port"], group["HealthCheckIntervalSeconds"]
        self.limits = {True: group["HealthyThresholdCount"], False: group["UnhealthyThresholdCount"]}
        self.check = f"{group['HealthCheckPort']}{group['HealthCheckPath']}"
        self.within = str(group["HealthCheckTimeoutSeconds"])
        self.listens = str(resources["Listener"]["Properties"]["Port"])
        self.serving = dict.fromkeys(TASKS, False)
        self._counts = dict.fromkeys(TASKS, 0)
        self._over = threading.Event()
        self._set()
        for protocol in ("udp", "tcp"):
            for address in TARGETS:
                do("iptables", "-w", "-t", "nat", "-A", "OUTPUT", "-d", address, "-p", protocol, "--dport", self.listens, "-j", "NLB")

    def _set(self):
        """New flows go to the targets in service by chance; to all of them if there are none, as AWS's does."""
        targets = [address for address, serving in self.serving.items() if serving] or TASKS
        lines = ["*nat", ":NLB - [0:0]"]
        for protocol in ("udp", "tcp"):
            for place, address in enumerate(targets):
                left = len(targets) - place
                chance = f"-m statistic --mode random --probability {1 / left:.5f} " if left > 1 else ""
                lines.append(f"-A NLB -p {protocol} {chance}-j DNAT --to-destination {address}:{self.port}")
        do("iptables-restore", "-w", "--noflush", stdin="\n".join([*lines, "COMMIT", ""]))

    def run(self):
        while not self._over.wait(self.interval):
            for address, serving in list(self.serving.items()):
                words = ["-s", "-m", self.within, "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}:{self.check}"]
                well = run(["curl", *words])[1] == "200"
                self._counts[address] = 0 if well == serving else self._counts[address] + 1
                if well != serving and self._counts[address] >= self.limits[well]:
                    self.serving[address], self._counts[address] = well, 0
                    self._set()

    def end(self):
        self._over.set()
        self.join(20)
        for words in (["-F", "OUTPUT"], ["-F", "NLB"], ["-X", "NLB"]):
            run(["iptables", "-w", "-t", "nat", *words])


class Fleet:
    """The two tasks, and what stands around them."""

    def __init__(self, world, gateways):
        self.world, self.gateways = world, gateways
        self.home = world.work / "fleet"
        self.home.mkdir()
        for folder in (world.work, self.home):
            folder.chmod(0o711)
        world.authority.chmod(0o644)
        self.template = Template(
            "vpc/whole-vpc.yaml",
            VpcCidr="10.53.0.0/16", EndpointId=VPCE[:22], EndpointDnsName=VPCE, PrivateApiIds="privapi123", DiscoverIds="no",
        )
        self.configuration = self.template.configuration("sidegate")
        self.stop_timeout = self.template.containers["sidegate"]["StopTimeout"]
        self.certificate, self.key = self.home / "dns.pem", self.home / "dns.key"
        self.renew()
        (self.home / "resolv.conf").write_text(f"nameserver {CENTRAL}\n", encoding="ascii")
        for number, address in enumerate(PUBLIC_DNS):
            do("ip", "address", "replace", f"{address}/32", "dev", "lo")
            _, path = world._render("named-public.conf", f"vpc-public-{number}", address)
            peer = Process(address, ["named", "-f", "-n", "1", "-c", path], self.home / f"named-{number}.log")
            world.peers[f"vpc-public-{number}"] = peer
            peer.await_port(address, 443)
        do("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for number, address in enumerate(TASKS):
            self._network(f"vpctask{number}", address)
        self.sidegates = [None] * len(TASKS)
        self.balancer = Balancer(self.template.resources)
        for number in range(len(TASKS)):
            self.start(number)
        self.balancer.start()

    @staticmethod
    def _network(name, address):
        """A network interface of the task's own; who comes from here has one of the load balancer's addresses."""
        inside = ["ip", "-n", name]
        do("ip", "netns", "add", name)
        do("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        do("ip", "address", "add", "169.254.1.1/32", "dev", name)
        do("ip", "link", "set", name, "up")
        do("ip", "route", "add", f"{address}/32", "dev", name, "src", TARGETS[0])
        for link in ("lo", "eth0"):
            do(*inside, "link", "set", link, "up")
        do(*inside, "address", "add", f"{address}/32", "dev", "eth0")
        do(*inside, "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
        do(*inside, "route", "add", "default", "via", "169.254.1.1")

    def start(self, number, **more):
        """The task's container with the template's configuration and whatever comes on top; ready once /ready says so."""
        script = CONTAINER.format(resolv_conf=self.home / "resolv.conf", user=self.template.user("sidegate"))
        before = ["nsenter", f"--net=/run/netns/vpctask{number}", "unshare", "--mount", "sh", "-ec", script, "container"]
        env = {"AWS_REGION": "us-east-1", "SIDEGATE_FORWARD__EXTRA_ROOTS": str(self.world.authority), **self.configuration, **more}
        sidegate = self.world.start("run", env=env, before=before, name=f"task {number}")
        self.sidegates[number] = sidegate

        def ready():
            if not sidegate.alive():
                raise ProcessError(f"task {number} has ended: {sidegate.output()[-2000:]}")
            return self.ready(number) == "200"

        wait_until(ready, 20, lambda: f"task {number} to be ready: {sidegate.output()[-2000:]}")

    def ready(self, number):
        return run(["curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", f"http://{TASKS[number]}:9180/ready"])[1]

    def in_service(self, number, serving=True):
        wait_until(lambda: self.balancer.serving[TASKS[number]] == serving, 60, f"task {number} in service: {serving}")

    def renew(self):
        """Puts another certificate where the Sidegates read theirs, as a renewal does: the key first, then the chain."""
        certificate, key = self.gateways._issue("dns", DNS_NAME)
        for source, target in ((key, self.key), (certificate, self.certificate)):
            new = target.with_suffix(".new")
            new.write_bytes(Path(source).read_bytes())
            new.chmod(0o644)
            new.replace(target)
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())

    def asked(self, zone):
        """Questions for names in the zone that the VPC's resolver has had so far."""
        lines = (self.world.work / "central" / "queries.log").read_text(errors="replace").lower().splitlines()
        return [line for line in lines if f"{zone}): query" in line]

    def end(self):
        """Everything away again that others would come upon."""
        self.balancer.end()
        self.world.stop_sidegates()
        for number, address in enumerate(PUBLIC_DNS):
            self.world.peers.pop(f"vpc-public-{number}").stop(3)
            run(["ip", "address", "delete", f"{address}/32", "dev", "lo"])
            run(["ip", "netns", "delete", f"vpctask{number}"])

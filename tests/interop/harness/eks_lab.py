"""An EKS cluster in network namespaces: this one is the node, with the VPC behind it; pods come from eks_pod.py.

Addresses are those of the shipped manifests, so that their configurations run as they are.
"""

import yaml

from .eks_pod import Pod
from .gateways import Gateways
from .processes import Process, ProcessError, run, wait_until
from .world import PEERS

MANIFESTS = PEERS.parents[2] / "config" / "eks"
#: The VPC's resolver, the cluster's DNS, and the first of `upstream.public`, where the manifests have them.
RESOLVER, CLUSTER_DNS, INTERNET = "169.254.169.253", "172.20.0.10", "1.1.1.1"
#: The zone of Services, where CoreDNS has it from; a Service.
KUBERNETES, PAYMENTS = "10.53.0.6", "172.20.7.7"
NODE, GATEWAY = "10.53.20.1", "169.254.1.1"
COREDNS_POD = "10.53.20.10"
LO = [RESOLVER, INTERNET, KUBERNETES, PAYMENTS, NODE]
PRIVATE_IDS = ["privapi123", "boundapi12", "orders1234"]


def ip(*words):
    code, _, error = run(["ip", *words])
    if code != 0:
        raise ProcessError(f"ip {' '.join(words)}: {error}")


class Service:
    """A ClusterIP as kube-proxy's iptables mode plays it: each new flow goes to one endpoint by chance."""

    def __init__(self, address):
        self.address, self.endpoints = address, []
        self.chain = f"SVC-{address}"
        self.set([])
        for hook in ("PREROUTING", "OUTPUT"):
            self._rule("nat", "-A", hook, "-d", f"{address}/32", "-j", self.chain)

    def _rule(self, table, *words):
        code, _, error = run(["iptables", "-w", "-t", table, *words])
        if code != 0:
            raise ProcessError(f"iptables {' '.join(words)}: {error}")

    def set(self, endpoints):
        """All endpoints at once; flows to those that are gone are forgotten, as kube-proxy does for UDP."""
        lines = ["*nat", f":{self.chain} - [0:0]"]
        for place, endpoint in enumerate(endpoints):
            by_chance = f"-m statistic --mode random --probability {1 / (len(endpoints) - place):.5f} "
            chance = by_chance if place + 1 < len(endpoints) else ""
            for protocol in ("udp", "tcp"):
                # Both draw on their own: a flow of one protocol never reaches the rules of the other.
                lines.append(f"-A {self.chain} -p {protocol} {chance}-j DNAT --to-destination {endpoint}")
        code, _, error = run(["iptables-restore", "-w", "--noflush"], stdin="\n".join([*lines, "COMMIT", ""]))
        if code != 0:
            raise ProcessError(f"iptables-restore: {error}")
        for gone in set(self.endpoints) - set(endpoints):
            run(["conntrack", "-D", "-p", "udp", "--orig-dst", self.address, "--reply-src", gone])
        self.endpoints = list(endpoints)

    def remove(self):
        for hook in ("PREROUTING", "OUTPUT"):
            self._rule("nat", "-D", hook, "-d", f"{self.address}/32", "-j", self.chain)
        self._rule("nat", "-F", self.chain)
        self._rule("nat", "-X", self.chain)


class Cluster:
    """Comes up once for all of the part's checks."""

    def __init__(self, world):
        self.world = world
        self.home = world.work / "eks"
        self.home.mkdir()
        self.pods, self.services = [], []
        self.gateways = Gateways(world, "eks/gateways")
        self.objects = {}
        for path in MANIFESTS.glob("*.yaml"):
            for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                self.objects[document["kind"], document["metadata"]["name"]] = document
        self.publish(PRIVATE_IDS)

    def publish(self, ids):
        """The list of private ids, in the ConfigMap; pods get it when they are told to."""
        self.objects["ConfigMap", "sidegate-private-ids"]["data"]["private-ids"] = "".join(f"{api}\n" for api in ids)

    def start(self):
        for address in LO:
            ip("address", "replace", f"{address}/32", "dev", "lo")
        run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        self._named("named-vpc.conf", "eks-resolver", RESOLVER)
        self._named("named-public.conf", "eks-internet", INTERNET)
        self._named("named-cluster.conf", "eks-kubernetes", KUBERNETES)
        web = self.home / "payments"
        web.mkdir()
        (web / "index.html").write_text("payments\n")
        server = ["/usr/bin/python3", "-m", "http.server", "--bind", PAYMENTS, "--directory", web, "80"]
        self._peer("payments", server, (PAYMENTS, 80))
        self.gateways.start()
        self.coredns_pod = self.pod("coredns", {"containers": []}, COREDNS_POD)
        self.cluster_dns = self.service(CLUSTER_DNS)
        self.start_coredns()

    def _peer(self, name, command, address):
        process = Process(name, command, self.home / f"{name}.log")
        self.world.peers[name] = process
        process.await_port(*address)

    def _named(self, template, name, address):
        _, path = self.world._render(template, name, address)
        self._peer(name, ["named", "-f", "-n", "1", "-c", path], (address, 53))

    def start_coredns(self, stub_zones=(), server="", cache=1000):
        """dnsmasq in CoreDNS' place, in a pod: Services, stub zones from `server`, all else from the VPC; `cache` in names."""
        self.stop_coredns()
        words = ["-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--user=root", "--bind-interfaces"]
        words += [f"--listen-address={COREDNS_POD}", f"--server={RESOLVER}", "--max-cache-ttl=30", f"--cache-size={cache}"]
        words += [f"--server=/{zone}/{KUBERNETES}" for zone in ("cluster.local", "20.172.in-addr.arpa")]
        words += [f"--server=/{zone}/{server}" for zone in stub_zones]
        log = self.home / "coredns.log"
        self.world.peers["coredns"] = Process("coredns", [*self.coredns_pod.enter, "dnsmasq", *words], log)
        self.cluster_dns.set([COREDNS_POD])
        asked = ["dig", f"@{CLUSTER_DNS}", "+tries=1", "+timeout=1", "+short", "kubernetes.default.svc.cluster.local"]
        wait_until(lambda: "172.20.0.1" in run([*self.coredns_pod.enter, *asked])[1], 10, "the cluster's DNS")

    def stop_coredns(self):
        if "coredns" in self.world.peers:
            self.world.peers.pop("coredns").stop(3)

    def service(self, address):
        service = Service(address)
        self.services.append(service)
        return service

    def pod(self, name, spec, address):
        """A pod with a network of its own, no container started yet."""
        pod = Pod(self, name, spec, address)
        self.pods.append(pod)
        return pod

    def pod_of(self, kind, name, address, pod_name=None):
        """One pod of a shipped workload."""
        return self.pod(pod_name or name, self.objects[kind, name]["spec"]["template"]["spec"], address)

    def plain_pod(self, name, address):
        """An application's pod that says nothing of DNS."""
        return self.pod(name, {"containers": [{"name": "orders"}]}, address)

    def stop(self):
        self.stop_coredns()
        for pod in self.pods:
            pod.stop()
        for service in self.services:
            service.remove()
        for name in ("eks-resolver", "eks-internet", "eks-kubernetes", "payments"):
            if name in self.world.peers:
                self.world.peers.pop(name).stop(3)
        self.gateways.stop()
        for address in LO:
            run(["ip", "address", "delete", f"{address}/32", "dev", "lo"])

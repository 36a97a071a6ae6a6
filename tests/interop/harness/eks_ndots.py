"""ndots:5: a name of four dots is tried below each search domain first. What comes of that, and what it costs."""

import re
import time

from .eks_lab import CLUSTER_DNS, INTERNET, RESOLVER
from .gateways import GATEWAY, PRIVATE
from .processes import ProcessError, run
from .world import ENDPOINT, LOCAL

POD = "10.53.20.21"
#: An endpoint's own name, as public DNS has it.
FIVE_DOTS = "vpce-0d0d0d0d0d0d0d0d0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com"
FROM = "clients"


class Questions:
    """Counts UDP questions by where they go to, in the pod's network, whoever asks."""

    SERVERS = {LOCAL: FROM, CLUSTER_DNS: "cluster", RESOLVER: "VPC", INTERNET: "public"}

    def __init__(self, pod):
        self.words = ["ip", "netns", "exec", pod.name, "iptables", "-w"]
        for server in self.SERVERS:
            self._run("-A", "OUTPUT", "-d", server, "-p", "udp", "--dport", "53")

    def _run(self, *words):
        code, out, error = run([*self.words, *words])
        if code != 0:
            raise ProcessError(f"iptables {' '.join(words)}: {error}")
        return out

    def of(self, call):
        """What `call` returns, and the questions to each server while it ran."""
        self._run("-Z", "OUTPUT")
        result = call()
        rows = re.findall(r"^\s*(\d+) .*udp dpt:53", self._run("-nvxL", "OUTPUT"), re.M)
        return result, dict(zip(self.SERVERS.values(), map(int, rows), strict=True))


def resolv_conf(pod, ndots):
    """Writes another ndots, as a pod's dnsConfig would."""
    path = "/etc/resolv.conf"
    code, _, error = pod.run(["sed", "-i", f"s/ndots:[0-9]*/ndots:{ndots}/", path])
    if code != 0:
        raise ProcessError(f"sed: {error}")


def suffixes(report, pod):
    report.section("EKS: names below the search domains")
    for suffix in pod.spec["dnsConfig"]["searches"]:
        name = f"{PRIVATE}.{suffix}"
        _, out, _ = pod.run(["dig", f"@{LOCAL}", "+tries=1", "+timeout=5", name, "A"])
        not_there = "status: NXDOMAIN" in out and not any(address in out for address in ENDPOINT)
        of_cluster = "hostmaster.cluster.local." in out
        report.check(f"{name}: NXDOMAIN, with the SOA of the cluster's zone, not ours", not_there and of_cluster or out)
        words = ["route", name, "--config", "/etc/sidegate/sidegate.toml", "--json"]
        _, out, error = pod.run([pod.cluster.world.sidegate, *words])
        report.check(f"{name}: rule 6", '"rule": 6' in out or '"rule":6' in out or f"{out}{error}")


def without_the_cluster(cluster, report, lookups, pod):
    """Names of few dots wait for the cluster's DNS; whole ones and `ndots:2` need nothing of it."""
    report.section("EKS: the cluster's DNS is away")
    for ndots, end in ((5, ""), (5, "."), (2, "")):
        resolv_conf(pod, ndots)
        for library in ("glibc", "musl, static"):
            # A start of its own: nothing is in the cache.
            pod.sidecar.stop(5)
            pod.start_sidegate()
            cluster.stop_coredns()
            began = time.monotonic()
            found = pod.run([*lookups[library], PRIVATE + end])[1].split()[1:]
            text = f"{library}, ndots:{ndots}{', a dot at the end' if end else ''}: a private API is {' '.join(found)}"
            right = set(found) == set(ENDPOINT) or ndots == 5 and not end
            report.check(f"{text} after {time.monotonic() - began:.1f} s", right)
            cluster.start_coredns()


def check(cluster, report, lookups):
    pod = cluster.pod_of("Deployment", "orders", POD, "ndots")
    pod.start_sidegate()
    suffixes(report, pod)
    report.section("EKS: what ndots costs, in questions over UDP (A and AAAA)")
    questions = Questions(pod)
    rows = [("ndots:5", 5, ""), ("ndots:5, a dot at the end", 5, "."), ("ndots:2", 2, "")]
    # Expected of a client: A and AAAA below each of three search domains, then of the name itself.
    wanted = {"ndots:5": 8, "ndots:5, a dot at the end": 2, "ndots:2": 2}
    for library in ("glibc", "musl, static"):
        for label, ndots, end in rows:
            resolv_conf(pod, ndots)
            for kind, name in (("private", PRIVATE), ("public", GATEWAY)):
                # A start of its own: nothing is in the cache.
                pod.sidecar.stop(5)
                pod.start_sidegate()
                command = [*lookups[library], name + end]
                first, cold = questions.of(lambda command=command: pod.run(command)[1].split()[1:])
                again, warm = questions.of(lambda command=command: pod.run(command)[1].split()[1:])
                shown = ", ".join(f"{server} {count}" for server, count in cold.items() if server != FROM and count)
                on = sum(count for server, count in warm.items() if server != FROM)
                text = f"{library}, {label}, a {kind} API: {cold[FROM]} questions to Sidegate, sent on: {shown or '0'}"
                text += f"; again {warm[FROM]}, sent on: {on}"
                problems = [] if cold[FROM] == warm[FROM] == wanted[label] else [f"expected {wanted[label]}"]
                right = set(ENDPOINT) if kind == "private" else {"198.51.100.10", "198.51.100.11", "2001:db8:a::10"}
                problems += [] if set(first) == right == set(again) else [f"{first} {again}"]
                problems += ["asked upstream again"] * (on > 0)
                report.check(text, problems)
    for library in ("glibc", "musl, static"):
        resolv_conf(pod, 5)
        command = [*lookups[library], FIVE_DOTS]
        found, counts = questions.of(lambda command=command: pod.run(command)[1].split()[1:])
        text = f"{library}, ndots:5, a name of five dots: {counts[FROM]} questions to Sidegate"
        report.check(text, counts[FROM] == 2 and "10.53.1.30" in found or f"{counts} {found}")
        resolv_conf(pod, 2)
    # What ndots:2 takes away: names of Services with two dots and more, on musl.
    for library in ("glibc", "musl, static"):
        found = {
            name: pod.run([*lookups[library], name])[1].split()[1:]
            for name in ("payments", "payments.orders", "payments.orders.svc")
        }
        shown = ", ".join(f"{name} {' '.join(answer)}" for name, answer in found.items())
        report.check(f"{library}, ndots:2: {shown}", found["payments.orders"] == ["172.20.7.7"])
    without_the_cluster(cluster, report, lookups, pod)
    pod.stop()
    cluster.pods.remove(pod)

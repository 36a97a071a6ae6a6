"""Sidegate for many pods: behind CoreDNS' stub zone, and on every node."""

import signal
import threading
import time

from .eks_lab import CLUSTER_DNS, MANIFESTS
from .eks_sidecar import CUSTOM, NAMES, ROWS, look_up, resolves, under_load
from .gateways import GATEWAY, PRIVATE
from .truth import NOBODY, SERVICE, asked
from .world import ENDPOINT

#: Names of the one zone, the last always new. Public DNS has no such API.
LOADED = asked(PRIVATE, GATEWAY, NOBODY)
FIRST, SECOND, CLIENT, *NEW = (f"10.53.20.{number}" for number in (11, 12, 40, 13, 14))


class Endpoints:
    """The endpoints of a Service: its pods that are ready, as their readiness probes say, each a second too late."""

    def __init__(self, service):
        self.service, self.pods = service, []
        self._over, self._error = threading.Event(), None
        self._thread = threading.Thread(target=self._follow)
        self.update()
        self._thread.start()

    def update(self):
        ready = [pod.address for pod in self.pods if pod.sidecar.alive() and pod.probe("readinessProbe")]
        if ready != self.service.endpoints:
            self._over.wait(1)
            self.service.set(ready)

    def _follow(self):
        try:
            while not self._over.wait(0.5):
                self.update()
        except Exception as error:  # Whoever stops it is told.
            self._error = error

    def stop(self):
        self._over.set()
        self._thread.join()
        if self._error:
            raise self._error


def terminate(report, pod):
    """As kubelet ends a pod: SIGTERM, and exit 0 within the pod's grace period."""
    began = time.monotonic()
    pod.sidecar.signal(signal.SIGTERM)
    limit = pod.spec["terminationGracePeriodSeconds"]
    code = pod.sidecar.wait(limit)
    seconds = time.monotonic() - began
    report.check(f"{pod.name} ends with 0 after {seconds:.0f} s of its {limit}", code == 0 or f"exit {code}")


def corefile():
    """Zone and server of the shipped server block."""
    words = (MANIFESTS / "coredns.corefile").read_text(encoding="utf-8").split()
    zone = next(word for word in words if word.endswith(":53")).removesuffix(":53")
    return zone, words[words.index("forward") + 2]


def stub_zone(cluster, report, lookups, fetchers):
    report.section("EKS, stub zone: the cluster's DNS without it, and with it")
    client = cluster.plain_pod("plain", CLIENT)
    got = resolves(client, GATEWAY)
    report.check("without: a public API is at the endpoint", got == sorted(ENDPOINT) or str(got))
    pods = []
    for number, address in enumerate((FIRST, SECOND)):
        pods.append(cluster.pod_of("Deployment", "sidegate-stub-zone", address, f"stub{number}"))
        pods[-1].start_sidegate()
    zone, server = corefile()
    service = cluster.service(server)
    endpoints = Endpoints(service)
    endpoints.pods = pods[:]
    endpoints.update()
    report.check("two endpoints are ready behind the Service's address", sorted(service.endpoints) == [FIRST, SECOND])
    cluster.start_coredns([zone], server)
    look_up(report, client, lookups, NAMES)
    fetchers.check(report, client)
    got = resolves(client, "api.example.com")
    report.check(
        "a custom domain of a public API is at the endpoint still: the VPC's resolver follows the alias, not Sidegate",
        got == sorted(ENDPOINT) or str(got),
    )
    cluster.start_coredns([zone, "api.example.com"], server)
    got = resolves(client, "api.example.com")
    report.check("... with a server block of its own it is right", got == CUSTOM["api.example.com"] or str(got))

    report.section("EKS, stub zone: a rollout and a killed pod, under load")
    # Without its cache, which would answer two of three names in place of the pods.
    cluster.start_coredns([zone], server, cache=0)

    def rollout():
        """maxSurge 1, maxUnavailable 0, minReadySeconds 5."""
        for number, old in enumerate(pods):
            new = cluster.pod_of("Deployment", "sidegate-stub-zone", NEW[number], f"new{number}")
            new.start_sidegate()
            endpoints.pods.append(new)
            time.sleep(5)
            # A pod that is told to end is no longer ready at once; its readiness is seen by whoever asks.
            terminate(report, old)
            endpoints.pods.remove(old)

    under_load(report, client, CLUSTER_DNS, "a rollout of both pods", rollout, names=LOADED)
    one = endpoints.pods[0]

    def killed():
        one.kill()
        time.sleep(1)
        one.start_sidegate()

    what = "one of two: kill -9, started again 1 s later"
    under_load(report, client, CLUSTER_DNS, what, killed, none=False, names=LOADED)

    def gone():
        one.kill()
        time.sleep(4)

    under_load(report, client, CLUSTER_DNS, "one of two: kill -9 and gone", gone, none=False, names=LOADED)
    endpoints.stop()
    cluster.start_coredns()
    got = resolves(client, GATEWAY)
    report.check("rollback, the block taken out again: as before", got == sorted(ENDPOINT) or str(got))
    for pod in [*pods, *endpoints.pods, client]:
        pod.stop()
        cluster.pods.remove(pod)


def node(cluster, report, lookups, fetchers):
    report.section("EKS, one on every node: the application's pod names its Service")
    pod = cluster.pod_of("DaemonSet", "sidegate-node", "10.53.20.50", "node0")
    pod.start_sidegate()
    client = cluster.pod_of("Deployment", "orders-node", "10.53.20.51")
    server = client.spec["dnsConfig"]["nameservers"][0]
    service = cluster.service(server)
    endpoints = Endpoints(service)
    endpoints.pods = [pod]
    endpoints.update()
    look_up(report, client, lookups, {**NAMES, **CUSTOM}, ROWS[:2])
    fetchers.check(report, client)

    def rollout():
        new = cluster.pod_of("DaemonSet", "sidegate-node", "10.53.20.52", "node1")
        new.start_sidegate()
        endpoints.pods.append(new)
        time.sleep(5)
        terminate(report, pod)
        endpoints.pods.remove(pod)

    names = {**LOADED, **asked(SERVICE)}
    under_load(report, client, server, "a rollout on this node", rollout, names=names)
    endpoints.stop()
    for one in [pod, *endpoints.pods, client]:
        one.stop()
        cluster.pods.remove(one)

"""EKS: the manifests of config/eks played in network namespaces; each way is a file of its own, called from here."""

from . import clients, eks_central, eks_ndots, eks_sidecar
from .eks_lab import Cluster


def check(world, report, _short):
    report.section("EKS: a cluster in namespaces")
    lookups = clients.build(world)
    cluster = Cluster(world)
    try:
        cluster.start()
        report.check("the cluster's DNS, the VPC's resolver and public DNS are up")
        report.note("not played, as nothing enforces it here: NetworkPolicy, limits, seccomp; dnsmasq is CoreDNS")
        fetchers = eks_sidecar.Fetchers(world)
        eks_sidecar.check(cluster, report, lookups, fetchers)
        eks_ndots.check(cluster, report, lookups)
        eks_sidecar.proxy(cluster, report, fetchers)
        eks_central.stub_zone(cluster, report, lookups, fetchers)
        eks_central.node(cluster, report, lookups, fetchers)
    finally:
        cluster.stop()
        world.stop_sidegates()

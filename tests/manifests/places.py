"""Which nodes take a pod. Called by check.py; each rule yields what is wrong."""

from rules import containers_of, pod_of, template_of

OS, ARCHITECTURE, COMPUTE = "kubernetes.io/os", "kubernetes.io/arch", "eks.amazonaws.com/compute-type"
OF_EC2 = {OS: "linux", ARCHITECTURE: "amd64"}
#: The nodes that a cluster may have, by their labels.
NODES = {
    "EC2": OF_EC2,
    "Auto Mode": OF_EC2 | {COMPUTE: "auto"},
    "Fargate": OF_EC2 | {COMPUTE: "fargate"},
    "hybrid": OF_EC2 | {COMPUTE: "hybrid"},
    "arm64": OF_EC2 | {ARCHITECTURE: "arm64"},
    "Windows": OF_EC2 | {OS: "windows"},
}
#: Where the image runs; where one pod for each node can be, and reaches the VPC's resolver.
FOR_THE_IMAGE, FOR_DAEMONS = {"EC2", "Auto Mode", "Fargate", "hybrid"}, {"EC2", "Auto Mode"}


def fits(expression, labels):
    """Whether labels are as one expression says; the manifests use no other operators."""
    within = {"In": True, "NotIn": False}[expression["operator"]]
    return (labels.get(expression["key"]) in expression["values"]) == within


def takers(pod):
    """The nodes that a pod may be put on, its tolerations aside."""
    selector = pod.get("nodeSelector", {})
    affinity = pod.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = affinity.get("nodeSelectorTerms", [{"matchExpressions": []}])
    return {
        name
        for name, labels in NODES.items()
        if selector.items() <= labels.items()
        and any(all(fits(one, labels) for one in term["matchExpressions"]) for term in terms)
    }


def nodes(documents):
    """Every Sidegate is where its image runs; a DaemonSet, and who asks the one of its own node, where such a pod can be."""
    of_nodes = [template_of(document)["metadata"]["labels"] for document in documents if document["kind"] == "DaemonSet"]
    servers = {
        document["spec"]["clusterIP"]
        for document in documents
        if document["kind"] == "Service" and any(document["spec"]["selector"].items() <= labels.items() for labels in of_nodes)
    }
    for document in documents:
        pod = pod_of(document) or {"containers": []}
        asks = servers & set(pod.get("dnsConfig", {}).get("nameservers", []))
        wanted = None
        if document["kind"] == "DaemonSet" or asks:
            wanted = FOR_DAEMONS
        elif any("/sidegate:" in container["image"] for container in containers_of(pod)):
            wanted = FOR_THE_IMAGE
        if wanted and takers(pod) != wanted:
            yield f"{document['metadata']['name']}: nodes of {sorted(takers(pod))}, not of {sorted(wanted)}"


def spreads(documents):
    """Where pods must be spread, nodes that would not take one do not count as empty."""
    for document in documents:
        for constraint in (pod_of(document) or {}).get("topologySpreadConstraints", []):
            if constraint["whenUnsatisfiable"] == "DoNotSchedule" and constraint.get("nodeTaintsPolicy") != "Honor":
                yield f"{document['metadata']['name']}: waits for nodes by {constraint['topologyKey']} that take none of its pods"

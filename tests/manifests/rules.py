"""What the manifests must say that no schema knows; each rule yields what is wrong."""

import re
import tomllib

DNS_PORT = 53
PORT_SYSCTL = "net.ipv4.ip_unprivileged_port_start"


def template_of(document):
    """What a workload makes its pods of, {} for what is no workload."""
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template", {})


def pod_of(document):
    """The pod that a workload makes, None for what is no workload."""
    return template_of(document).get("spec")


def containers_of(pod):
    return [*pod.get("initContainers", []), *pod["containers"]]


def is_sidegate(container):
    return container["name"] == "sidegate"


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * (60 if unit == "m" else 1)


def upstreams(configuration):
    """What a configuration says of its servers. In a pod resolv.conf says nothing that could stand in for it."""
    upstream = configuration.get("upstream", {})
    if upstream.get("default") != "vpc":
        yield 'upstream.default is not "vpc"'
    if upstream.get("vpc") not in (["169.254.169.253"], ["fd00:ec2::253"]):
        yield f"upstream.vpc is {upstream.get('vpc')}, not the VPC's resolver"
    zones = {zone["name"]: zone["servers"] for zone in upstream.get("zone", [])}
    listens = configuration.get("dns", {}).get("listen")
    if listens and not all(address.endswith(f":{DNS_PORT}") for address in listens):
        yield f"dns.listen is {listens}: resolv.conf knows no port but 53"
    for zone, servers in zones.items():
        if any(server.startswith("127.") or server in upstream.get("vpc", []) for server in servers):
            yield f"zone {zone} is asked of {servers}"
    if not configuration.get("policy", {}).get("region"):
        yield "policy.region is not set: pods do not reach the metadata service everywhere"


def least_privilege(pod):
    """The `restricted` standard for pods, and a root that cannot be written to."""
    shared = pod.get("securityContext", {})
    if not shared.get("runAsNonRoot") or not shared.get("runAsUser"):
        yield "may run as root"
    if shared.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    if pod.get("hostNetwork") or pod.get("hostPID"):
        yield "shares a namespace with the node"
    for container in containers_of(pod):
        own, name = container.get("securityContext", {}), container["name"]
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: capabilities {own.get('capabilities')}"
        if not own.get("readOnlyRootFilesystem") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: can write to its root, or gain privileges"
        if is_sidegate(container) and "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"{name}: no limit of memory"


def life(pod, documents):
    """How a Sidegate of a workload begins, shows that it is well, and ends."""
    for container in filter(is_sidegate, containers_of(pod)):
        for probe, command in (("startupProbe", "wait"), ("readinessProbe", "wait"), ("livenessProbe", "health")):
            words = container.get(probe, {}).get("exec", {}).get("command", [])
            if words[:2] != ["/sidegate", command]:
                yield f"{probe}: {words}, not /sidegate {command}"
            # `health` takes up to 2 s, `wait` what it is told.
            longest = int(words[words.index("--timeout") + 1]) if "--timeout" in words else 2
            if container.get(probe, {}).get("timeoutSeconds", 1) <= longest:
                yield f"{probe}: timeoutSeconds leaves no time for `{command}`"
        native = container in pod.get("initContainers", [])
        if native and (container.get("restartPolicy") != "Always" or pod["initContainers"][0] is not container):
            yield "a native sidecar is restartPolicy: Always, and first"
        opens_port = any(one["name"] == PORT_SYSCTL for one in pod["securityContext"].get("sysctls", []))
        if bool(container.get("ports")) != opens_port:
            yield "port 53 without its sysctl, or the other way round"
        configuration = configuration_of(container, pod, documents)
        wanted = seconds(configuration.get("linger", "0s")) + seconds(configuration.get("grace", "20s"))
        if pod.get("terminationGracePeriodSeconds", 30) <= wanted:
            yield f"terminationGracePeriodSeconds: linger and grace alone are {wanted} s"
        if not native and seconds(configuration.get("linger", "0s")) < 5:
            yield "no linger: nodes still send questions to a pod that has just been told to end"
        for mount in container["volumeMounts"]:
            if "subPath" in mount:
                yield f"{mount['mountPath']}: a subPath never changes"


def configuration_of(container, pod, documents):
    """The Sidegate configuration of the ConfigMap that the container's volume names."""
    names = {mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/etc/sidegate"}
    wanted = set(config_maps(pod, names))
    for document in documents:
        if document["kind"] == "ConfigMap" and document["metadata"]["name"] in wanted:
            if "sidegate.toml" in document["data"]:
                return tomllib.loads(document["data"]["sidegate.toml"])
    return {}


def config_maps(pod, volumes=None):
    """The names of the ConfigMaps in a pod's volumes, of these volumes only if they are given."""
    for volume in pod.get("volumes", []):
        if volumes is None or volume["name"] in volumes:
            for source in [volume, *volume.get("projected", {}).get("sources", [])]:
                if "configMap" in source:
                    yield source["configMap"]["name"]


def references(documents):
    shipped = {document["metadata"]["name"] for document in documents if document["kind"] == "ConfigMap"}
    for document in documents:
        for name in config_maps(pod_of(document) or {}):
            if name not in shipped:
                yield f"{document['metadata']['name']} mounts {name}"


def selectors(documents):
    """Those of workloads, Services, budgets and policies."""
    labels = {document["metadata"]["name"]: template_of(document)["metadata"]["labels"] for document in documents if pod_of(document)}
    for document in documents:
        spec, name = document.get("spec", {}), document["metadata"]["name"]
        selector = spec.get("selector") or spec.get("podSelector") or {}
        selector = selector.get("matchLabels", selector)
        if document["kind"] in ("Deployment", "DaemonSet"):
            if not selector.items() <= labels[name].items():
                yield f"{name}: {selector} is not its own pods"
        elif selector and not any(selector.items() <= of_pod.items() for of_pod in labels.values()):
            yield f"{document['kind']} {name}: {selector} is nobody"


def corefile(folder):
    """Zone and server of the stub zone."""
    text = (folder / "coredns.corefile").read_text(encoding="utf-8")
    zone = re.search(r"^(\S+):53 \{$", text, re.M)
    server = re.search(r"^\s+forward \. (\S+)$", text, re.M)
    return zone[1], server[1]


def addresses(documents, folder):
    services = {
        document["spec"]["clusterIP"]: document["metadata"]["name"]
        for document in documents
        if document["kind"] == "Service"
    }
    _, stub = corefile(folder)
    if services and services.get(stub) != "sidegate-stub-zone":
        yield f"coredns.corefile forwards to {stub}, which is {services.get(stub)}"
    cluster_dns = set()
    for document in documents:
        if document["kind"] == "ConfigMap" and "sidegate.toml" in document.get("data", {}):
            zones = tomllib.loads(document["data"]["sidegate.toml"]).get("upstream", {}).get("zone", [])
            cluster_dns |= {server for zone in zones for server in zone["servers"]}
        pod = pod_of(document) or {}
        for server in pod.get("dnsConfig", {}).get("nameservers", []):
            sidecar = any(is_sidegate(container) for container in containers_of(pod))
            if server != "127.0.0.1" if sidecar else server not in services:
                yield f"{document['metadata']['name']} asks {server}"
        if (pod.get("dnsPolicy") == "None") != ("dnsConfig" in pod):
            yield f"{document['metadata']['name']}: dnsPolicy None and dnsConfig belong together"
    if len(cluster_dns) > 1 or cluster_dns & set(services):
        yield f"the cluster's DNS is {sorted(cluster_dns)}"


def regions(documents, folder):
    zone, _ = corefile(folder)
    for document in documents:
        if document["kind"] == "ConfigMap" and "sidegate.toml" in document.get("data", {}):
            region = tomllib.loads(document["data"]["sidegate.toml"])["policy"]["region"]
            if zone != f"execute-api.{region}.amazonaws.com":
                yield f"{document['metadata']['name']}: {region}, the Corefile has {zone}"

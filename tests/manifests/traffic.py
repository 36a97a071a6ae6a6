"""Who reaches whom: proxies, Services, name servers, policies, metrics. Called by check.py; each rule yields what is wrong."""

import ipaddress
import re

import yaml
from rules import configuration_of, containers_of, is_sidegate, pod_of, template_of

ADMIN_PORT = 9180
RESOLVERS = ("169.254.169.253", "fd00:ec2::253")
#: An instance's metadata and the agent of EKS pod identity, which listens on port 80.
POD_IDENTITY = "169.254.170.23"
CREDENTIALS = {"169.254.169.254", POD_IDENTITY}


def sidegates(documents):
    """Name, labels, pod, container and configuration of each workload that runs Sidegate for others or for itself."""
    for document in documents:
        pod = pod_of(document)
        for container in filter(is_sidegate, containers_of(pod) if pod else []):
            labels = template_of(document)["metadata"]["labels"]
            yield document["metadata"]["name"], labels, pod, container, configuration_of(container, pod, documents)


def ways(documents):
    """Whoever is to ask a Sidegate asks it where it listens."""
    services = [document for document in documents if document["kind"] == "Service"]
    for name, labels, pod, container, configuration in sidegates(documents):
        listens = configuration.get("dns", {}).get("listen", [])
        serving = [service for service in services if service["spec"]["selector"].items() <= labels.items()]
        if serving and any(address.startswith("127.") for address in listens):
            yield f"{name} listens on {listens}: its Service leads there from other pods"
        if serving and pod.get("dnsPolicy") != "Default":
            yield f"{name}: dnsPolicy {pod.get('dnsPolicy')} has it ask the cluster's DNS, which asks it"
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for service in serving:
            for port in service["spec"]["ports"]:
                target = ports.get(port["targetPort"], port["targetPort"])
                if not any(address.endswith(f":{target}") for address in listens):
                    yield f"Service {service['metadata']['name']} leads to {target}, {name} listens on {listens}"
        for one in containers_of(pod):
            for entry in one.get("env", []):
                proxies = configuration.get("forward", {}).get("connect", {}).get("listen", [])
                if entry["name"] == "HTTPS_PROXY" and entry["value"].removeprefix("http://") not in proxies:
                    yield f"{name}: {entry['value']}, and the proxy is {proxies}"
                if entry["name"] == "NO_PROXY" and not CREDENTIALS <= set(entry["value"].split(",")):
                    yield f"{name}: credentials of {sorted(CREDENTIALS)} by the proxy, NO_PROXY is {entry['value']}"


def one_node(documents):
    """A Service of a DaemonSet leads to the pod of the same node."""
    of_nodes = [template_of(document)["metadata"]["labels"] for document in documents if document["kind"] == "DaemonSet"]
    for document in documents:
        if document["kind"] == "Service" and any(document["spec"]["selector"].items() <= labels.items() for labels in of_nodes):
            if document["spec"].get("internalTrafficPolicy") != "Local":
                yield f"Service {document['metadata']['name']}: internalTrafficPolicy is not Local"


def accounts(documents):
    """A workload that names a service account has one that is shipped; whoever publishes has to name one."""
    shipped = {document["metadata"]["name"] for document in documents if document["kind"] == "ServiceAccount"}
    for document in documents:
        pod = pod_of(document)
        if pod and (document["kind"] == "CronJob" or "serviceAccountName" in pod):
            if pod.get("serviceAccountName") not in shipped:
                yield f"{document['metadata']['name']}: service account {pod.get('serviceAccountName')}"


def allows(rules, peer, port, protocol="TCP"):
    """Whether an egress rule lets a pod out to this address."""
    for rule in rules:
        # Without `ports` it is for every port, as it is for everybody without `to`.
        if "ports" in rule and not any((one["port"], one["protocol"]) == (port, protocol) for one in rule["ports"]):
            continue
        networks = [to["ipBlock"]["cidr"] for to in rule.get("to", []) if "ipBlock" in to]
        if "to" not in rule or any(ipaddress.ip_address(peer) in ipaddress.ip_network(one) for one in networks):
            return True
    return False


def policies(documents):
    """Each policy lets a Sidegate out to the VPC's resolver and port 443, and in where its Service and Prometheus come; who
    shares a pod with it gets its role and reaches its own namespace."""
    templates = [template_of(document) for document in documents if pod_of(document)]
    for document in documents:
        if document["kind"] != "NetworkPolicy":
            continue
        name, spec = document["metadata"]["name"], document["spec"]
        for protocol in ("UDP", "TCP"):
            if not allows(spec["egress"], RESOLVERS[0], 53, protocol):
                yield f"{name}: no way to {RESOLVERS[0]}:53, {protocol}"
        if not allows(spec["egress"], "1.1.1.1", 443):
            yield f"{name}: no way to public DNS over HTTPS"
        held = [one for one in templates if spec["podSelector"]["matchLabels"].items() <= one["metadata"]["labels"].items()]
        beside = [one["spec"] for one in held if not all(map(is_sidegate, one["spec"]["containers"]))]
        if beside and not allows(spec["egress"], POD_IDENTITY, 80):
            yield f"{name}: no way to {POD_IDENTITY}:80, where what runs beside Sidegate gets its role"
        # A job asks nobody else; an application does, and every port of its own namespace is what can be said of it here.
        applications = [one for one in beside if one.get("restartPolicy") != "Never"]
        if applications and {"to": [{"podSelector": {}}]} not in spec["egress"]:
            yield f"{name}: cuts the application off from the Services of its namespace"
        listening = {
            (port["containerPort"], port["protocol"])
            for template in held
            for container in filter(is_sidegate, template["spec"]["containers"])
            for port in container.get("ports", [])
        }
        let_in = {(one["port"], one["protocol"]) for rule in spec.get("ingress", []) for one in rule["ports"]}
        if listening != let_in:
            yield f"{name}: lets in to {sorted(let_in)}, the pods listen on {sorted(listening)}"


def scraped(documents, page):
    """The PodMonitor of METRICS.md finds every Sidegate that shows its metrics to others, by a port that there is."""
    text = page.read_text(encoding="utf-8")
    [monitor] = [
        found for found in map(yaml.safe_load, re.findall(r"```yaml\n(apiVersion: monitoring.*?)```", text, re.S))
    ]
    [expression] = monitor["spec"]["selector"]["matchExpressions"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    shown = set()
    for name, labels, _, container, configuration in sidegates(documents):
        if configuration.get("admin", {}).get("listen") == f"0.0.0.0:{ADMIN_PORT}":
            shown.add(labels[expression["key"]])
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            if ports.get(endpoint["port"]) != ADMIN_PORT:
                yield f"{name}: {endpoint['port']} is {ports.get(endpoint['port'])}"
    if shown != set(expression["values"]):
        yield f"it selects {expression['values']}, of {sorted(shown)}"

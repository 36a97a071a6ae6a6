"""What a template must say alike in several places, and no linter knows; each rule yields what is wrong.

`check_all` takes a template's tree as embedded.py reads it. `planted` has one mistake for each rule, which it must find.
"""

import copy
import tomllib

import embedded

#: Of config/default.toml, in seconds.
GRACE, LINGER = 20, 0
DNS_PORT = 53
PORT_SYSCTL = "net.ipv4.ip_unprivileged_port_start"


def seconds(text):
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def of_type(tree, kind):
    return [one["Properties"] for one in tree["Resources"].values() if one["Type"] == f"AWS::{kind}"]


def tasks(tree):
    """Each task definition with its containers by name."""
    for task in of_type(tree, "ECS::TaskDefinition"):
        yield task, {container["Name"]: container for container in task["ContainerDefinitions"]}


def configurations(tree):
    """Task, container, configuration and `dns.listen` of every Sidegate that serves, for each branch of a condition."""
    for task, containers in tasks(tree):
        for container in containers.values():
            for environment in embedded.environments(container, tree.get("Parameters", {})):
                if "SIDEGATE_CONFIG_TOML" in environment and container["Name"] == "sidegate":
                    told = tomllib.loads(environment["SIDEGATE_CONFIG_TOML"])
                    listen = told.get("dns", {}).get("listen", [])
                    listen = environment.get("SIDEGATE_DNS__LISTEN", ",".join(listen))
                    yield task, container, told, [address for address in listen.split(",") if address]


def port(address):
    return int(address.rsplit(":", 1)[1])


def time_to_end(tree):
    for _, container, told, _ in configurations(tree):
        needed = seconds(told.get("linger", f"{LINGER}s")) + seconds(told.get("grace", f"{GRACE}s"))
        if container.get("StopTimeout", 30) <= needed:
            yield f"StopTimeout {container.get('StopTimeout')}: linger and grace are {needed} s"
        for group in of_type(tree, "ElasticLoadBalancingV2::TargetGroup"):
            attributes = {one["Key"]: one["Value"] for one in group["TargetGroupAttributes"]}
            if int(attributes["deregistration_delay.timeout_seconds"]) >= seconds(told.get("linger", f"{LINGER}s")):
                yield "linger is not longer than deregistration_delay"


def port_53(tree):
    """It takes the sysctl, or root with the capability."""
    for _, container, _, listen in configurations(tree):
        settings = {one["Namespace"]: int(one["Value"]) for one in container.get("SystemControls", [])}
        added = container.get("LinuxParameters", {}).get("Capabilities", {}).get("Add", [])
        allowed = settings.get(PORT_SYSCTL, 1024) <= DNS_PORT or container.get("User") == "0" and "NET_BIND_SERVICE" in added
        if any(port(address) < 1024 for address in listen) and not allowed:
            yield f"{listen} without {PORT_SYSCTL} or root with NET_BIND_SERVICE"


def least_privilege(tree):
    for _, container, _, _ in configurations(tree):
        if not container.get("ReadonlyRootFilesystem") or "ALL" not in container["LinuxParameters"]["Capabilities"]["Drop"]:
            yield f"{container['Name']}: a root that can be written to, or capabilities"


def order(tree):
    """The application starts once Sidegate is healthy, and once resolv.conf leads there."""
    for _, containers in tasks(tree):
        if "sidegate" not in containers:
            continue
        wanted = {("sidegate", "HEALTHY")}
        for name, container in containers.items():
            waits = {(one["ContainerName"], one["Condition"]) for one in container.get("DependsOn", [])}
            if container.get("Command", [])[:2] == ["resolv-conf", "install"]:
                if waits != wanted:
                    yield f"{name} waits for {waits}"
                wanted.add((name, "SUCCESS"))
        if "application" in containers:
            waits = {(one["ContainerName"], one["Condition"]) for one in containers["application"].get("DependsOn", [])}
            if waits != wanted:
                yield f"application waits for {waits}, not {wanted}"


def ways(tree):
    """Whoever asks Sidegate asks it where it listens."""
    for task, container, told, listen in configurations(tree):
        proxies = told.get("forward", {}).get("connect", {}).get("listen", [])
        own = {one["Name"] for one in task["ContainerDefinitions"]}
        for of_task, containers in tasks(tree):
            application = containers.get("application", {})
            for pair in application.get("Environment", []):
                if pair["Name"].lower() == "https_proxy" and pair["Value"].removeprefix("http://") not in proxies:
                    yield f"{pair['Name']} is {pair['Value']}, the proxy {proxies}"
            if application and "application" not in own:
                asked = [value for one in application.get("DnsServers", []) for value in embedded.values(one, tree["Parameters"])]
                if [f"{server}:{DNS_PORT}" for server in asked] != listen:
                    yield f"DnsServers {asked}, Sidegate listens on {listen}"
                if task["NetworkMode"] != "host" or of_task["NetworkMode"] != "bridge":
                    yield "Docker's bridge is in the instance's network"
            elif application and (task["NetworkMode"] != "awsvpc" or application.get("DnsServers")):
                yield "a sidecar is reached on loopback in awsvpc mode alone"


def whole_vpc(tree):
    """Rule, load balancer, security groups and task are about the same ports."""
    if not of_type(tree, "Route53Resolver::ResolverRule"):
        return
    groups = {name: one["Properties"] for name, one in tree["Resources"].items() if one["Type"] == "AWS::EC2::SecurityGroup"}
    for _, container, told, listen in configurations(tree):
        if told["dns"].get("whole_vpc") is not True:
            yield "dns.whole_vpc is not set: endpoint addresses from the apex go round in a circle"
        [dns], admin = [port(address) for address in listen], port(told["admin"]["listen"])
        [target], [listener] = (of_type(tree, f"ElasticLoadBalancingV2::{one}") for one in ("TargetGroup", "Listener"))
        if (target["Port"], int(target["HealthCheckPort"]), target["HealthCheckPath"]) != (dns, admin, "/ready"):
            yield f"targets {target['Port']}, health {target['HealthCheckPort']}{target['HealthCheckPath']}, not {dns}, {admin}"
        if (target["Protocol"], listener["Protocol"], listener["Port"]) != ("TCP_UDP", "TCP_UDP", DNS_PORT):
            yield f"listener {listener['Protocol']} {listener['Port']}, targets {target['Protocol']}"
        if [one["ContainerPort"] for one in container["PortMappings"]] != [dns]:
            yield f"{container['PortMappings']}: one mapping of {dns}, as CreateService refuses two of one port"
        [balancer] = [one for service in of_type(tree, "ECS::Service") for one in service["LoadBalancers"]]
        if balancer["ContainerPort"] != dns:
            yield f"the service registers {balancer['ContainerPort']}"
        asked, inside = {("udp", DNS_PORT), ("tcp", DNS_PORT)}, {("udp", dns), ("tcp", dns), ("tcp", admin)}
        for name, side, wanted in (
            ("ResolverGroup", "Egress", asked), ("BalancerGroup", "Ingress", asked),
            ("BalancerGroup", "Egress", inside), ("TaskGroup", "Ingress", inside), ("TaskGroup", "Egress", {("tcp", 443)}),
        ):
            rules = groups[name][f"SecurityGroup{side}"]
            found = {(one["IpProtocol"], number) for one in rules for number in range(one["FromPort"], one["ToPort"] + 1)}
            if found != wanted:
                yield f"{name}, {side}: {sorted(found)}, not {sorted(wanted)}"
    for service in of_type(tree, "ECS::Service"):
        if "DesiredCount" in service:
            yield "DesiredCount: each deployment undoes what autoscaling did"
    for name in ("EndpointId", "EndpointDnsName"):
        if "Default" in tree["Parameters"][name]:
            yield f"{name} has a default that is nobody's endpoint"


RULES = (time_to_end, port_53, least_privilege, order, ways, whole_vpc)


def check_all(tree):
    for rule in RULES:
        for problem in rule(tree):
            yield f"{rule.__name__}: {problem}"


def planted(trees):
    """Mistakes that no rule finds."""

    def edit(text, before, after):
        if isinstance(text, dict):
            return {key: edit(value, before, after) for key, value in text.items()}
        if isinstance(text, list):
            return [edit(value, before, after) for value in text]
        return text.replace(before, after) if isinstance(text, str) else text

    def properties(tree, name):
        return tree["Resources"][name]["Properties"]

    def container(tree, name, task="Task"):
        return next(one for one in properties(tree, task)["ContainerDefinitions"] if one["Name"] == name)

    vpc, files, proxy, bridge = "whole-vpc.yaml", "fargate-resolv-conf.yaml", "fargate-https-proxy.yaml", "ec2-bridge.yaml"
    for name, before, after in (
        (vpc, "whole_vpc = true\n", ""), (vpc, 'linger = "40s"', 'linger = "0s"'), (vpc, "0.0.0.0:5300", "127.0.0.1:5301"),
        (proxy, '"127.0.0.1:3128"', '"127.0.0.1:3129"'), (files, 'grace = "20s"', 'grace = "40s"'),
    ):
        tree = edit(trees[name], before, after)
        if tree == trees[name] or not list(check_all(tree)):
            yield f"{name}: {after!r} for {before!r}"
    for name, what, change in (
        (vpc, "StopTimeout 10", lambda tree: container(tree, "sidegate").update(StopTimeout=10)),
        (vpc, "HealthCheckPort 9999", lambda tree: properties(tree, "Targets").update(HealthCheckPort="9999")),
        (vpc, "a group's port", lambda tree: properties(tree, "TaskGroup")["SecurityGroupIngress"][0].update(FromPort=5400, ToPort=5400)),
        (vpc, "a second mapping", lambda tree: container(tree, "sidegate")["PortMappings"].append({"ContainerPort": 5300})),
        (vpc, "capabilities", lambda tree: container(tree, "sidegate")["LinuxParameters"].update(Capabilities={"Drop": []})),
        (vpc, "a default", lambda tree: tree["Parameters"]["EndpointId"].update(Default="vpce-0")),
        (vpc, "DesiredCount", lambda tree: properties(tree, "Service").update(DesiredCount=2)),
        (files, "no sysctl", lambda tree: container(tree, "sidegate").pop("SystemControls")),
        (files, "no SUCCESS", lambda tree: container(tree, "application")["DependsOn"].pop()),
        (files, "NetworkMode bridge", lambda tree: properties(tree, "Task").update(NetworkMode="bridge")),
        (bridge, "a second server", lambda tree: container(tree, "application", "ApplicationTask")["DnsServers"].append("10.0.0.2")),
        (bridge, "no capability", lambda tree: container(tree, "sidegate", "SidegateTask")["LinuxParameters"]["Capabilities"].pop("Add")),
        (bridge, "the task's network", lambda tree: properties(tree, "SidegateTask").update(NetworkMode="bridge")),
    ):
        tree = copy.deepcopy(trees[name])
        change(tree)
        if not list(check_all(tree)):
            yield f"{name}: {what}"

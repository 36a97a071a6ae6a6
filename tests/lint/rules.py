"""What a template's Sidegate and its resources must say alike, which neither cfn-lint nor `sidegate check` can know.

`planted.py` calls `problems` with each template; each rule yields what is wrong.
"""

import re
import tomllib

from embedded import environments, values

#: What the image does, and what counts where a configuration says nothing: config/default.toml.
USER, GRACE, LINGER, PROXY, ADMIN = "65532", "20s", "0s", "127.0.0.1:3128", "127.0.0.1:9180"
#: The ways to write what a program reads of its proxy; it takes all four.
PROXIES = {"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"}
#: A task's credentials, an instance's metadata: never by the proxy.
CREDENTIALS = {"169.254.170.2", "169.254.169.254"}
#: Fargate's most, in seconds.
LONGEST_STOP = 120


class Template:
    """A template's resources by type; a value is what its parameters' defaults make of it."""

    def __init__(self, tree):
        self.parameters, self.resources = tree.get("Parameters", {}), tree["Resources"]

    def of_type(self, name):
        """Properties of all resources of a type, by their names."""
        return {key: one["Properties"] for key, one in self.resources.items() if one["Type"] == name}

    def value(self, node, default=""):
        return default if node is None else values(node, self.parameters)[0]

    def rules_of(self, groups, direction):
        """(protocol, port, whom) of the security groups that something names."""
        for group in groups:
            for one in self.resources[group["Ref"]]["Properties"].get(direction, []):
                if one["FromPort"] != one["ToPort"]:
                    raise SystemExit(f"{group}: a range of ports, which tests/lint/rules.py does not know")
                yield one["IpProtocol"], one["FromPort"], one.get("SourceSecurityGroupId", one.get("CidrIp"))


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * (60 if unit == "m" else 1)


def port_of(address):
    return int(address.rpartition(":")[2])


def configurations(template, container):
    """Each configuration that a container may have, variables counted in."""
    for environment in environments(container, template.parameters):
        configuration = tomllib.loads(environment.pop("SIDEGATE_CONFIG_TOML", ""))
        for name, value in environment.items():
            *tables, key = name.removeprefix("SIDEGATE_").lower().split("__")
            table = configuration
            for one in tables:
                table = table.setdefault(one, {})
            table[key] = value.split(",") if tables == ["dns"] and key == "listen" else value
        yield configuration


def is_sidegate(container):
    """The image with a command is a job: it installs, and ends."""
    return container["Image"] == {"Ref": "SidegateImage"} and "Command" not in container


def sidegates(template):
    """(task, container, configuration) of each Sidegate that serves."""
    for task in template.of_type("AWS::ECS::TaskDefinition").values():
        for container in filter(is_sidegate, task["ContainerDefinitions"]):
            for configuration in configurations(template, container):
                yield task, container, configuration


def addresses(configuration):
    return configuration.get("dns", {}).get("listen", [])


def admin_of(configuration):
    return configuration.get("admin", {}).get("listen", ADMIN)


def end(template):
    """All that Sidegate does after SIGTERM has its time."""
    for _, container, configuration in sidegates(template):
        wanted = seconds(configuration.get("linger", LINGER)) + seconds(configuration.get("grace", GRACE))
        stop = int(template.value(container.get("StopTimeout"), "30"))
        if not wanted < stop <= LONGEST_STOP:
            yield f"StopTimeout {stop}: linger and grace alone are {wanted} s, {LONGEST_STOP} s are the most"


def privileges(template):
    """As little as it needs, and what it needs."""
    for task, container, configuration in sidegates(template):
        capabilities = container.get("LinuxParameters", {}).get("Capabilities", {})
        root = str(container.get("User", USER)) == "0"
        if capabilities.get("Drop") != ["ALL"] or not set(capabilities.get("Add", [])) <= {"NET_BIND_SERVICE"}:
            yield f"capabilities {capabilities}"
        if container.get("ReadonlyRootFilesystem") is not True:
            yield "its root file system can be written to"
        controls = {one["Namespace"]: int(one["Value"]) for one in container.get("SystemControls") or []}
        if controls and task["NetworkMode"] == "host":
            yield "SystemControls of the network in the instance's own"
        lowest = controls.get("net.ipv4.ip_unprivileged_port_start", 1024)
        privileged = root and "NET_BIND_SERVICE" in capabilities.get("Add", [])
        if any(port_of(address) < lowest for address in addresses(configuration)) and not privileged:
            yield f"dns.listen {addresses(configuration)} without a sysctl, or root with NET_BIND_SERVICE"
        elif root and lowest < 1024:
            yield "root, though a sysctl is there for the port"


def health(template):
    """`sidegate health` takes up to 2 s, and whoever waits for HEALTHY waits for it."""
    for _, container, _ in sidegates(template):
        check = container.get("HealthCheck", {})
        if check.get("Command") != ["CMD", "/sidegate", "health"] or check.get("Timeout", 0) <= 2:
            yield f"HealthCheck {check}"
        if not container.get("Essential") or not container.get("RestartPolicy", {}).get("Enabled"):
            yield "a crash goes unnoticed, or costs the task"


def order(template):
    """Nobody resolves a name before somebody answers."""
    for task in template.of_type("AWS::ECS::TaskDefinition").values():
        containers = {one["Name"]: one for one in task["ContainerDefinitions"]}
        serving = {name for name, one in containers.items() if is_sidegate(one)}
        jobs = {name for name, one in containers.items() if "resolv-conf" in one.get("Command", [])}
        for name, one in containers.items():
            waits = {(after["ContainerName"], after["Condition"]) for after in one.get("DependsOn", [])}
            wanted = set() if name in serving else {(other, "HEALTHY") for other in serving}
            if name not in serving | jobs:
                wanted |= {(other, "SUCCESS") for other in jobs}
            if not wanted <= waits:
                yield f"{name} waits for {sorted(waits)}, not for {sorted(wanted)}"
            able = str(one.get("User")) == "0" and not one.get("ReadonlyRootFilesystem") and not one.get("Essential")
            if name in jobs and not able:
                yield f"{name} writes /etc/resolv.conf as root and ends: User 0, a root to write to, not essential"


def ways(template):
    """Every application comes to Sidegate, by one way, at an address that it listens on."""
    served = list(sidegates(template))
    for task in template.of_type("AWS::ECS::TaskDefinition").values():
        beside = [one for one in task["ContainerDefinitions"] if "resolv-conf" in one.get("Command", [])]
        for container in task["ContainerDefinitions"]:
            if container["Image"] != {"Ref": "ApplicationImage"}:
                continue
            named = [template.value(server) for server in container.get("DnsServers", [])]
            variables = {one["Name"]: template.value(one["Value"]) for one in container.get("Environment", [])}
            proxies = {variables.get(name) for name in ("HTTPS_PROXY", "https_proxy")} - {None}
            if bool(named) + bool(proxies) + bool(beside) != 1:
                yield f"{container['Name']}: DnsServers {named}, HTTPS_PROXY {proxies}, resolv.conf by {len(beside)}"
            for other, _, configuration in served:
                listens = addresses(configuration)
                tunnels = configuration.get("forward", {}).get("connect", {}).get("listen", [PROXY])
                if named and (len(named) != 1 or listens != [f"{named[0]}:53"] or other["NetworkMode"] != "host"):
                    yield f"DnsServers {named}, and Sidegate in {other['NetworkMode']} at {listens}"
                if proxies and proxies != {f"http://{one}" for one in tunnels}:
                    yield f"HTTPS_PROXY {proxies}, and Sidegate at {tunnels}"
                if proxies and not variables.keys() >= PROXIES:
                    yield f"of {sorted(PROXIES)} there are {sorted(variables)}"
                kept = [set(variables.get(name, "").split(",")) for name in ("NO_PROXY", "no_proxy")]
                if proxies and not all(CREDENTIALS <= one for one in kept):
                    yield f"credentials of {sorted(CREDENTIALS)} by the proxy, NO_PROXY is {kept}"
                installs = [addresses(one) for job in beside for one in configurations(template, job)]
                if beside and any(one != ["127.0.0.1:53"] for one in [listens, *installs]):
                    yield f"resolv.conf says 127.0.0.1, Sidegate listens on {listens}, {installs} are installed"
                if other is not task and task["NetworkMode"] != "bridge":
                    yield f"an application in {task['NetworkMode']} with Sidegate on the instance's bridge"
                if other is task and task["NetworkMode"] != "awsvpc":
                    yield f"a sidecar in {task['NetworkMode']}: 127.0.0.1 is each container's own"


def balanced(template):
    """The load balancer, the service and the security groups agree with what Sidegate listens on."""
    for service in template.of_type("AWS::ECS::Service").values():
        for entry in service.get("LoadBalancers", []):
            target = template.resources[entry["TargetGroupArn"]["Ref"]]["Properties"]
            for task, container, configuration in sidegates(template):
                if container["Name"] == entry["ContainerName"]:
                    yield from target_problems(target, entry, container, configuration)
                    yield from group_problems(template, service, configuration)


def target_problems(target, entry, container, configuration):
    listens, admin = addresses(configuration), admin_of(configuration)
    if listens != [f"0.0.0.0:{target['Port']}"] or entry["ContainerPort"] != target["Port"]:
        yield f"dns.listen {listens}, target group {target['Port']}, service {entry['ContainerPort']}"
    if admin != f"0.0.0.0:{target['HealthCheckPort']}" or target["HealthCheckPath"] != "/ready":
        yield f"admin.listen {admin}, health checks of {target['HealthCheckPort']}{target['HealthCheckPath']}"
    if target["Protocol"] != "TCP_UDP" or target["TargetType"] != "ip":
        yield f"a target group of {target['TargetType']}, {target['Protocol']}"
    # CreateService refuses a port that is mapped twice.
    mapped = [one["ContainerPort"] for one in container["PortMappings"]]
    if mapped.count(entry["ContainerPort"]) != 1:
        yield f"port {entry['ContainerPort']} among those mapped, {mapped}, other than once"
    attributes = {one["Key"]: one["Value"] for one in target["TargetGroupAttributes"]}
    delay, linger = attributes["deregistration_delay.timeout_seconds"], configuration.get("linger", LINGER)
    if not int(delay) < seconds(linger):
        yield f"deregistration takes {delay} s, linger is {linger}: some are sent to who has gone"
    if configuration.get("dns", {}).get("whole_vpc") is not True:
        yield "dns.whole_vpc is not set: nothing keeps questions from going round"


def group_problems(template, service, configuration):
    tasks = service["NetworkConfiguration"]["AwsvpcConfiguration"]["SecurityGroups"]
    asked = {(protocol, port_of(address)) for protocol in ("udp", "tcp") for address in addresses(configuration)}
    asked.add(("tcp", port_of(admin_of(configuration))))
    (balancer,) = template.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    (listener,) = template.of_type("AWS::ElasticLoadBalancingV2::Listener").values()
    (resolver,) = template.of_type("AWS::Route53Resolver::ResolverEndpoint").values()
    (rule,) = template.of_type("AWS::Route53Resolver::ResolverRule").values()
    front = {(protocol, listener["Port"]) for protocol in ("udp", "tcp")}
    fixed = [one["PrivateIPv4Address"]["Ref"] for one in balancer["SubnetMappings"]]
    resolvers = {(protocol, port, f"${{{name}}}/32") for protocol, port in front for name in fixed}
    for what, groups, direction, wanted in (
        ("into the tasks", tasks, "SecurityGroupIngress", asked),
        ("from the load balancer", balancer["SecurityGroups"], "SecurityGroupEgress", asked),
        ("into the load balancer", balancer["SecurityGroups"], "SecurityGroupIngress", front),
        ("from the Resolver endpoint", resolver["SecurityGroupIds"], "SecurityGroupEgress", front),
        ("from the tasks", tasks, "SecurityGroupEgress", {("tcp", 443)}),
    ):
        allowed = {(protocol, port) for protocol, port, _ in template.rules_of(groups, direction)}
        if allowed != wanted:
            yield f"{what}: {sorted(allowed)}, needed is {sorted(wanted)}"
    whom = {(*one[:2], one[2]["Sub"]) for one in template.rules_of(resolver["SecurityGroupIds"], "SecurityGroupEgress")}
    targets = [(one["Ip"]["Ref"], str(one["Port"])) for one in rule["TargetIps"]]
    if whom != resolvers or targets != [(name, str(listener["Port"])) for name in fixed]:
        yield f"the load balancer has {fixed}; the rule asks {targets}, the Resolver endpoint may ask {sorted(whom)}"
    sources = [one for _, _, one in template.rules_of(tasks, "SecurityGroupIngress")]
    if any(one not in balancer["SecurityGroups"] for one in sources):
        yield f"others than the load balancer come to the tasks: {sources}"


def services(template):
    """How services are counted, who may be missing during a deployment, and when they are first asked."""
    scaled = template.of_type("AWS::ApplicationAutoScaling::ScalableTarget")
    for name, service in template.of_type("AWS::ECS::Service").items():
        if scaled and "DesiredCount" in service:
            yield f"{name}: DesiredCount undoes at each deployment what autoscaling did"
        least = template.value(service["DeploymentConfiguration"]["MinimumHealthyPercent"])
        if int(least) == 0:
            yield f"{name}: all at once may be missing during a deployment"
    counted = {*template.of_type("AWS::ECS::Service"), *scaled}
    for name in template.of_type("AWS::Route53Resolver::ResolverRuleAssociation"):
        if not counted <= set(template.resources[name].get("DependsOn", [])):
            yield f"{name}: a whole VPC asks before there are as many tasks as it needs"
    for name in ("EndpointId", "EndpointDnsName"):
        if "Default" in template.parameters.get(name, {}):
            yield f"{name} has a default, which is nobody's endpoint"


def problems(tree):
    """All that is wrong with a template."""
    template = Template(tree)
    for rule in (end, privileges, health, order, ways, balanced, services):
        # Each branch of a condition has its own configuration, and often the same mistake.
        for problem in dict.fromkeys(rule(template)):
            yield f"{rule.__name__}: {problem}"

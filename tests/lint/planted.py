"""The rules of rules.py for each template, then the rules themselves: mistakes are planted, and each has to be found.

`run` calls it with the templates. A mistake is a text and what stands in its place, where it comes first; with None the line
of the text is gone.
"""

import sys

import rules
import yaml
from embedded import Loader

VPC, BRIDGE = "config/vpc/whole-vpc.yaml", "config/ecs/ec2-bridge.yaml"
PROXY, RESOLV_CONF = "config/ecs/fargate-https-proxy.yaml", "config/ecs/fargate-resolv-conf.yaml"
#: By the rule that has to find them.
MISTAKES = {
    "end": [
        ("less time to end than it takes", VPC, "StopTimeout: 75", "StopTimeout: 10"),
        ("more time to end than Fargate gives", VPC, "StopTimeout: 75", "StopTimeout: 180"),
    ],
    "privileges": [
        ("capabilities that nobody needs", VPC, "LinuxParameters: {Capabilities", None),
        ("a root file system to write to", PROXY, "ReadonlyRootFilesystem: true", None),
        ("port 53 without the capability", BRIDGE, ", Add: [NET_BIND_SERVICE]", ""),
        ("a capability that the user cannot use", BRIDGE, 'User: "0"', None),
        ("port 53 without the sysctl", RESOLV_CONF, "- {Namespace: net.ipv4.ip_unprivileged_port_start", None),
    ],
    "health": [
        ("a crash that costs the task", PROXY, "RestartPolicy:", None),
        ("a health check that takes longer than its time", PROXY, " Timeout: 3", " Timeout: 2"),
    ],
    "order": [
        ("an application before its proxy is healthy", PROXY, "Condition: HEALTHY", "Condition: START"),
        (
            "an application that does not wait for resolv.conf",
            RESOLV_CONF,
            "- {ContainerName: resolv-conf, Condition: SUCCESS}",
            None,
        ),
        (
            "a resolv.conf that nobody may write",
            RESOLV_CONF,
            "ReadonlyRootFilesystem: false",
            "ReadonlyRootFilesystem: true",
        ),
    ],
    "ways": [
        ("a proxy at another port", PROXY, 'listen = ["127.0.0.1:3128"]', 'listen = ["127.0.0.1:3129"]'),
        ("a proxy in one spelling", PROXY, "- {Name: https_proxy", None),
        ("no word on what goes by no proxy", PROXY, "- {Name: NO_PROXY", None),
        ("credentials by the proxy", PROXY, '"169.254.170.2,', '"'),
        ("a sidecar that is not on the same loopback", PROXY, "NetworkMode: awsvpc", "NetworkMode: bridge"),
        ("a second server", BRIDGE, "[!Ref BridgeAddress]", "[!Ref BridgeAddress, 10.0.0.2]"),
        ("another server", BRIDGE, "[!Ref BridgeAddress]", "[10.0.0.2]"),
        ("no server", BRIDGE, "DnsServers:", None),
        ("a bridge's address in a network of its own", BRIDGE, "NetworkMode: host", "NetworkMode: bridge"),
        ("an application that is not on the bridge", BRIDGE, "NetworkMode: bridge", "NetworkMode: host"),
        ("a port that resolv.conf does not know", BRIDGE, "${BridgeAddress}:53", "${BridgeAddress}:5353"),
        ("a resolv.conf that leads nowhere", RESOLV_CONF, 'listen = ["127.0.0.1:53"]', 'listen = ["127.0.0.2:53"]'),
        ("resolv.conf that nobody rewrites", RESOLV_CONF, "Command: [resolv-conf, install]", "Command: [health]"),
        (
            "a resolv-conf that installs another address",
            RESOLV_CONF,
            'listen = ["127.0.0.1:53"]\n          LogConfiguration',
            'listen = ["127.0.0.3:53"]\n          LogConfiguration',
        ),
    ],
    "balanced": [
        ("a task that ends before the load balancer knows", VPC, 'linger = "40s"', 'linger = "0s"'),
        ("a target that is sent to after its end", VPC, 'timeout_seconds, Value: "30"', 'timeout_seconds, Value: "60"'),
        ("health checks of another port", VPC, 'HealthCheckPort: "9180"', 'HealthCheckPort: "9999"'),
        ("health checks that do not ask whether it is ready", VPC, "HealthCheckPath: /ready", "HealthCheckPath: /live"),
        ("health checks of loopback", VPC, 'listen = "0.0.0.0:9180"', 'listen = "127.0.0.1:9180"'),
        ("a listener on loopback and another port", VPC, 'listen = ["0.0.0.0:5300"]', 'listen = ["127.0.0.1:5301"]'),
        ("a target group of another port", VPC, "      Port: 5300", "      Port: 5400"),
        ("a target group without UDP", VPC, "Protocol: TCP_UDP", "Protocol: TCP"),
        (
            "a port that is mapped twice",
            VPC,
            "- {ContainerPort: 5300,",
            "- {ContainerPort: 5300, Protocol: udp}\n            - {ContainerPort: 5300,",
        ),
        (
            "a service that registers another port",
            VPC,
            "ContainerPort: 5300, TargetGroupArn",
            "ContainerPort: 53, TargetGroupArn",
        ),
        (
            "a security group with another port",
            VPC,
            "{IpProtocol: udp, FromPort: 5300, ToPort: 5300,",
            "{IpProtocol: udp, FromPort: 5400, ToPort: 5400,",
        ),
        ("a security group without TCP", VPC, "- {IpProtocol: tcp, FromPort: 5300", None),
        ("a security group without health checks", VPC, "- {IpProtocol: tcp, FromPort: 9180", None),
        ("a Resolver endpoint that may not ask", VPC, 'CidrIp: !Sub "${AddressB}/32"', 'CidrIp: !Sub "${AddressA}/32"'),
        ("a rule that asks one address twice", VPC, "{Ip: !Ref AddressB", "{Ip: !Ref AddressA"),
        (
            "tasks that anybody of the VPC reaches",
            VPC,
            "SourceSecurityGroupId: !Ref BalancerGroup",
            "CidrIp: !Ref VpcCidr",
        ),
        ("a mode that lets questions go round", VPC, "whole_vpc = true", None),
    ],
    "services": [
        ("an endpoint that is nobody's", VPC, "AllowedPattern: 'vpce-[0-9a-f]+'", "Default: vpce-0123456789abcdef0"),
        ("a number of tasks that undoes autoscaling", VPC, "LaunchType: FARGATE", "DesiredCount: 2"),
        ("a rule that holds while one task is there", VPC, "DependsOn: [Service, Scaling]", "DependsOn: [Service]"),
        ("a deployment to all instances at once", BRIDGE, "    Default: 50", "    Default: 0"),
    ],
}


def planted(text, wrong, instead):
    if wrong not in text:
        raise SystemExit(f"tests/lint/planted.py: `{wrong}` is in the template no more")
    if instead is not None:
        return text.replace(wrong, instead, 1)
    lines = text.splitlines(keepends=True)
    place = next(place for place, line in enumerate(lines) if wrong in line)
    return "".join(lines[:place] + lines[place + 1 :])


def main(*templates):
    texts, wrong = {}, 0
    for template in templates:
        with open(template, encoding="utf-8") as file:
            texts[template] = file.read()
        for problem in rules.problems(yaml.load(texts[template], Loader)):
            wrong += 1
            print(f"{template}: {problem}", file=sys.stderr)
        print(f"rules: {template}")
    count = 0
    for rule, mistakes in MISTAKES.items():
        for what, template, text, instead in mistakes:
            count += 1
            found = rules.problems(yaml.load(planted(texts[template], text, instead), Loader))
            if not any(problem.startswith(f"{rule}: ") for problem in found):
                wrong += 1
                print(f"{template}: {rule} does not find {what}", file=sys.stderr)
    print(f"rules: mistakes planted, each to be found: {count}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

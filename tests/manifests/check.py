"""The manifests of a folder: `check.py SIDEGATE FOLDER`. A line for each check, at the end `N passed, N failed`.

Kubernetes' own schemas say which fields there are; `sidegate check` says whether an embedded configuration is right;
rules.py, places.py, traffic.py and commands.py hold what neither can know.
"""

import copy
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import commands
import kubernetes_validate
import places
import rules
import traffic
import yaml

#: The oldest and the newest Kubernetes that the manifests are for: native sidecars are on by default since 1.29.
VERSIONS = ("1.29", "1.37")
METRICS = Path(__file__).parents[2] / "METRICS.md"


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, problems):
        """One check: passed if there is nothing to complain about."""
        problems = list(problems)
        self.passed, self.failed = self.passed + (not problems), self.failed + bool(problems)
        print(f"  {'FAIL' if problems else 'ok  '} {name}")
        for problem in problems:
            print("         " + str(problem).replace("\n", "\n         "))

    def finish(self):
        print(f"\n{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


def schema_problems(document, version):
    """What Kubernetes of this version does not know or not take; unknown fields count."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(str(part) for part in error.path)}: {error.message}"
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        yield error.message


def configurations(documents):
    """Every embedded configuration: the ConfigMap's name and the text."""
    for document in documents:
        if document["kind"] == "ConfigMap":
            for key, text in document.get("data", {}).items():
                if key.endswith(".toml"):
                    yield document["metadata"]["name"], text


def sidegate_problems(sidegate, text):
    """What `sidegate check` says of a configuration that it does not take, or warns of."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            [sidegate, "check", "--config", file.name], capture_output=True, text=True, env={}, timeout=30, check=False
        )
    if done.returncode != 0 or done.stderr:
        yield f"exit {done.returncode}: {done.stderr}{done.stdout}"


def name_of(document):
    return f"{document['kind']} {document['metadata']['name']}"


def check_manifests(report, sidegate, folder):
    everything = []
    for path in sorted(folder.glob("*.yaml")):
        documents = [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]
        print(f"\n{path.name}")
        for document in documents:
            for version in VERSIONS:
                report.check(f"{name_of(document)}: Kubernetes {version}", schema_problems(document, version))
        for name, text in configurations(documents):
            report.check(f"{name}: sidegate check", sidegate_problems(sidegate, text))
            told = rules.upstreams(tomllib.loads(text))
            report.check(f"{name}: leads to the VPC's resolver and nowhere in circles", told)
        for document in documents:
            if pod := rules.pod_of(document):
                report.check(f"{name_of(document)}: runs as little as it needs", rules.least_privilege(pod))
                report.check(f"{name_of(document)}: probes, order, time to end", rules.life(pod, documents))
        everything += documents
    together(report, folder, everything)
    return everything


def together(report, folder, everything):
    print("\nTogether")
    report.check("every ConfigMap that is mounted is shipped", rules.references(everything))
    report.check("selectors find what they are for", rules.selectors(everything))
    report.check("name servers, zones and Services have the same addresses", rules.addresses(everything, folder))
    report.check("Services, proxies and name servers lead to where Sidegate listens", traffic.ways(everything))
    report.check("a node's pods ask the Sidegate of that node", traffic.one_node(everything))
    report.check("every service account is shipped", traffic.accounts(everything))
    report.check("pods go where their image runs, and where they can be", places.nodes(everything))
    report.check("what is to be spread waits for no node that takes none of it", places.spreads(everything))
    report.check("policies let a Sidegate do its work", traffic.policies(everything))
    report.check("the Corefile's zone is that of the region of every configuration", rules.regions(everything, folder))


def check_plants(report, everything):
    """One mistake at a time, in a copy of everything."""

    def plant(what, rule, kind, name, change):
        documents = copy.deepcopy(everything)
        change(next(one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name)))
        report.check(what, [] if list(rule(documents)) else ["it is not"])

    def configure(before, after):
        def change(config_map):
            text = config_map["data"]["sidegate.toml"]
            config_map["data"]["sidegate.toml"] = text.replace(before, after)

        return change

    def egress(number, port):
        return lambda policy: policy["spec"]["egress"][number]["ports"][0].update(port=port)

    def wanted(key):
        def change(workload):
            affinity = rules.pod_of(workload)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            [term] = affinity["nodeSelectorTerms"]
            term["matchExpressions"] = [one for one in term["matchExpressions"] if one["key"] != key]

        return change

    stub, node, proxy = "sidegate-stub-zone", "sidegate-node", "sidegate-proxy"
    plant("a Service to loopback", traffic.ways, "ConfigMap", stub, configure('"0.0.0.0:53"', '"127.0.0.1:53"'))
    plant("a proxy on another port", traffic.ways, "ConfigMap", proxy, configure(":3128", ":3129"))
    plant("a Service to another port", traffic.ways, "Service", node, lambda one: one["spec"]["ports"][0].update(targetPort=5353))
    for kind, name in (("DaemonSet", node), ("Deployment", stub)):
        plant(
            f"{name} that asks the cluster's DNS for everything",
            traffic.ways, kind, name, lambda one: rules.pod_of(one).update(dnsPolicy="ClusterFirst"),
        )
    plant("nodes that share", traffic.one_node, "Service", node, lambda one: one["spec"].pop("internalTrafficPolicy"))
    plant(
        "a job without its account",
        traffic.accounts, "CronJob", "sidegate-discover", lambda one: rules.pod_of(one).update(serviceAccountName="default"),
    )
    for name in ("sidegate-sidecar", stub, node, "sidegate-discover"):
        plant(f"{name}: no way to the resolver", traffic.policies, "NetworkPolicy", name, egress(0, 54))
    plant("no way to public DNS over HTTPS", traffic.policies, "NetworkPolicy", stub, egress(2, 4443))
    plant("no way to credentials", traffic.policies, "NetworkPolicy", "sidegate-discover", egress(2, 81))
    plant("no way to the application's credentials", traffic.policies, "NetworkPolicy", "sidegate-sidecar", egress(3, 81))
    plant(
        "an application that is cut off",
        traffic.policies, "NetworkPolicy", "sidegate-sidecar", lambda one: one["spec"]["egress"].pop(),
    )
    for kind, name in (("DaemonSet", node), ("Deployment", "orders-node")):
        plant(f"{name} on Fargate", places.nodes, kind, name, wanted("eks.amazonaws.com/compute-type"))
        plant(f"{name} on arm64", places.nodes, kind, name, wanted("kubernetes.io/arch"))
    for kind, name in (("Deployment", stub), ("Deployment", "orders"), ("Deployment", "orders-proxy"), ("CronJob", "sidegate-discover")):
        plant(f"{name} on Windows", places.nodes, kind, name, lambda one: rules.pod_of(one)["nodeSelector"].pop("kubernetes.io/os"))
    plant(
        "a spread that counts nodes with taints",
        places.spreads, "Deployment", stub,
        lambda one: rules.pod_of(one)["topologySpreadConstraints"][0].pop("nodeTaintsPolicy"),
    )
    plant("no way in", traffic.policies, "NetworkPolicy", node, lambda one: one["spec"]["ingress"].pop())
    plant(
        "metrics that nobody may read",
        lambda documents: traffic.scraped(documents, METRICS),
        "ConfigMap", stub, configure("0.0.0.0:9180", "127.0.0.1:9180"),
    )


def check_checks(report, sidegate, folder):
    """A check that says yes to everything would have passed all of the above."""
    print("\nWhat is wrong is found")
    documents = list(yaml.safe_load_all((folder / "sidecar.yaml").read_text(encoding="utf-8")))
    deployment = documents[1]
    sidecar = deployment["spec"]["template"]["spec"]["initContainers"][0]

    def finds(what, problems):
        report.check(what, [] if list(problems) else ["it is not"])

    deployment["spec"]["template"]["spec"]["dnsPolicey"] = "None"
    finds("an unknown field", schema_problems(deployment, VERSIONS[0]))
    del deployment["spec"]["template"]["spec"]["dnsPolicey"]
    sidecar["startupProbe"]["periodSeconds"] = "often"
    finds("a field of another type", schema_problems(deployment, VERSIONS[0]))
    finds("an unknown key of Sidegate's", sidegate_problems(sidegate, "no_such_key = 1\n"))
    pod = deployment["spec"]["template"]["spec"]
    sidecar["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]
    finds("a capability", rules.least_privilege(pod))
    pod["terminationGracePeriodSeconds"] = 3
    finds("less time to end than grace and linger", rules.life(pod, documents))
    configuration = tomllib.loads(documents[0]["data"]["sidegate.toml"])
    configuration["upstream"]["vpc"] = ["127.0.0.1"]
    finds("the pod itself as its upstream", rules.upstreams(configuration))
    documents[0]["data"]["sidegate.toml"] = documents[0]["data"]["sidegate.toml"].replace("us-east-1", "eu-west-1")
    finds("another region than the Corefile's", rules.regions(documents, folder))
    pod["dnsConfig"]["nameservers"] = ["172.20.9.9"]
    finds("a name server that nobody is", rules.addresses(documents, folder))
    deployment["spec"]["selector"]["matchLabels"] = {"app": "other"}
    finds("a selector that finds nothing", rules.selectors(documents))
    line = "kubectl get -n orders deploy/none"
    finds("a kubectl line for nothing that there is", commands.wrong_in(line, folder.parents[1], documents, {"orders"}))
    line = "kubectl create -n orders -f config/eks/private-ids.yaml"
    finds("a namespace that nobody has made yet", commands.wrong_in(line, folder.parents[1], documents, {"kube-system"}))
    line = line.replace("create", "apply")
    finds("a list that is applied", commands.wrong_in(line, folder.parents[1], documents, {"orders"}))


def main():
    sidegate, folder = sys.argv[1], Path(sys.argv[2])
    report = Report()
    everything = check_manifests(report, sidegate, folder)
    print("\nREADME.md and the scripts")
    report.check("every kubectl line has a shape, and what it names exists", commands.kubectl(folder, everything))
    report.check("the job replaces the list in each namespace, by what its role allows", commands.publishes(everything))
    with tempfile.TemporaryDirectory() as home:
        mine = Path(home, "config", "eks")
        mine.mkdir(parents=True)
        report.check("the sed line replaces every value", commands.replaced(folder, mine))
        documents = [
            document
            for path in sorted(mine.glob("*.yaml"))
            for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        ]
        together(report, mine, documents)
    report.check("the PodMonitor of METRICS.md finds what shows its metrics", traffic.scraped(everything, METRICS))
    check_checks(report, sidegate, folder)
    check_plants(report, everything)
    sys.exit(report.finish())


main()

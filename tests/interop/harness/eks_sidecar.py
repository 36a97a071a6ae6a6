"""The native sidecar, as the pod's name server and as its proxy: order, clients, what is lost, a list that changes."""

import json
import re
import shutil
import signal
import time

from .clients import PUBLIC_API, SOURCES, ask
from .eks_lab import CLUSTER_DNS, PAYMENTS, PRIVATE_IDS, RESOLVER
from .forward_clients import outcome
from .gateways import GATEWAY, PRIVATE
from .processes import ProcessError, run, wait_until
from .world import ENDPOINT, LOCAL, ZONE

POD = "10.53.20.20"
#: What every variant leads to; Services by the names that programs in the namespace use.
NAMES = {
    PRIVATE: ENDPOINT,
    f"{PRIVATE}.": ENDPOINT,
    f"boundapi12.{ZONE}": ENDPOINT,
    GATEWAY: PUBLIC_API,
    ZONE: ENDPOINT,
    f"nobody9876.{ZONE}": "NONAME",
    "db.corp.internal": ["10.53.7.7", "fd53::7"],
    "payments": [PAYMENTS],
    "payments.orders": [PAYMENTS],
    "payments.orders.svc": [PAYMENTS],
    "payments.orders.svc.cluster.local": [PAYMENTS],
    "www.example.com": ["198.51.100.3", "198.51.100.4", "198.51.100.5", "2001:db8::3"],
}
CUSTOM = {"api.example.com": ["198.51.100.20", "2001:db8:a::20"]}
#: What a load asks: private, public and cached, a Service, never asked before.
LOADED = [PRIVATE, GATEWAY, "payments.orders.svc.cluster.local", "l@.wild.example.com"]
ROWS = ("glibc", "musl, static", "Python", "Java")


class Fetchers:
    """curl, requests and Java, which trust the lab's authority."""

    def __init__(self, world):
        self.home = world.work / "eks-fetch"
        self.home.mkdir()
        trust = self.home / "trust.p12"
        store = ["-keystore", trust, "-storetype", "PKCS12", "-storepass", "interop"]
        for command in (
            ["javac", "-d", self.home, SOURCES / "Fetch.java"],
            ["keytool", "-importcert", "-noprompt", "-alias", "interop", "-file", world.authority, *store],
        ):
            code, out, error = run(command, 60)
            if code != 0:
                raise ProcessError(f"{command[0]}: {out}{error}")
        java = [shutil.which("java"), "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", self.home]
        java += [f"-Djavax.net.ssl.trustStore={trust}", "-Djavax.net.ssl.trustStorePassword=interop"]
        self.environment = {"CURL_CA_BUNDLE": str(world.authority), "REQUESTS_CA_BUNDLE": str(world.authority)}
        self.commands = {
            "curl": ["sh", SOURCES / "fetch.sh"],
            "Python requests": ["/usr/bin/python3", SOURCES / "fetch.py"],
            "Java HttpClient": [*java, "Fetch"],
        }

    def check(self, report, pod, env=None, java=()):
        """Each of them calls a private API, a public one and a Service."""
        urls = [f"https://{api}/prod/echo" for api in (PRIVATE, GATEWAY)]
        urls.append("http://payments.orders.svc.cluster.local/")
        for name, command in self.commands.items():
            if name == "Java HttpClient":
                command = [*command[:-1], *java, command[-1]]
            calls = "".join(f"GET {url} -\n" for url in urls)
            code, out, error = pod.run(command, 60, {**self.environment, **(env or {})}, calls)
            got = [outcome(line) for line in out.splitlines()]
            wrong = [f"{url}: {one}" for url, one in zip(urls, got, strict=False) if one.get("status") != "200"]
            wrong += [f"exit {code}: {out}{error}"[-900:]] * (len(got) != len(urls))
            report.check(f"{name}: a private API, a public API and a Service answer 200", wrong)


def lost(report, what, summary, none=True):
    """Says what a load lost; a failure where nothing may be lost, and where anything came back wrong."""
    counts = [summary[kind] for kind in ("udp", "tcp", "getaddrinfo")]
    gone = [count["silent"] + count["refused"] + count["failed"] for count in counts]
    asked, missing = (" + ".join(map(str, each)) for each in ([count["asked"] for count in counts], gone))
    problems = []
    if any(count["wrong"] for count in counts) or none and any(gone):
        problems = [str(counts), *summary["examples"]]
    if any(count["asked"] < 10 for count in counts):
        problems.append("the load was none")
    text = f"{missing} lost of {asked} (UDP + TCP + getaddrinfo), longest gap {summary['longest_gap']} s"
    report.check(f"{what}: {text}", problems)


def under_load(report, pod, server, what, meanwhile, none=True, names=LOADED):
    """A load of a pod's while `meanwhile` runs, and one second before and after."""
    end = pod.load(server, *names)
    time.sleep(1)
    meanwhile()
    time.sleep(1)
    lost(report, what, json.loads(end()), none)


def look_up(report, pod, lookups, names, rows=ROWS):
    for row in rows:
        ask(report, row, lookups[row], names, pod.enter)


def resolves(pod, name):
    _, out, _ = pod.run(["/usr/bin/python3", SOURCES / "lookup.py", name])
    return sorted(out.split()[1:])


def order(cluster, report, lookups, pod):
    report.section("EKS, sidecar: the pod before it, and its start")
    text = (pod.home / "etc/resolv.conf").read_text()
    wanted = "search orders.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.1\noptions ndots:5\n"
    report.check("resolv.conf as kubelet writes it", [] if text == wanted else text)
    for row in ("glibc", "musl, static"):
        began = time.monotonic()
        _, out, _ = pod.run([*lookups[row], PRIVATE])
        seconds = time.monotonic() - began
        report.check(
            f"an init container before the sidecar has no DNS: {row} says {out.split()[-1]} after {seconds:.1f} s",
            [] if out.split()[-1] == "AGAIN" else out,
        )
    seconds = pod.start_sidegate()
    report.check(f"the startup probe passes {seconds:.1f} s after the start (a debug build)")
    status = dict(
        line.split(":\t", 1) for line in open(f"/proc/{pod.sidecar.pid}/status", encoding="ascii") if ":\t" in line
    )
    held = [status[name].strip() for name in ("Uid", "CapEff", "CapBnd", "NoNewPrivs")]
    right = held[0].split()[0] == "65532" and int(held[1], 16) == 0 == int(held[2], 16) and held[3] == "1"
    report.check("port 53 as user 65532, without any capability, by the sysctl alone", [] if right else str(held))
    for probe in ("readinessProbe", "livenessProbe"):
        report.check(f"the {probe} passes", pod.probe(probe))
    code, out, error = pod.in_sidegate("route", PRIVATE)
    told = re.search(r"^rule +2, .*\norigin +file /etc/sidegate/private-ids$", out, re.M)
    report.check("kubectl exec ... /sidegate route names the rule and the list", bool(told) or f"exit {code}: {out}{error}")


def circles(cluster, report):
    """Whatever resolv.conf says: it names Sidegate itself."""
    report.section("EKS, sidecar: never itself as its upstream")
    pod = cluster.pod_of("Deployment", "orders", "10.53.20.29", "noupstream")
    text = cluster.objects["ConfigMap", "sidegate"]["data"]["sidegate.toml"]
    pod.volume.write({"sidegate.toml": text.replace(f'vpc = ["{RESOLVER}"]', ""), "private-ids": "privapi123\n"})
    pod.start_sidegate()
    got = resolves(pod, "db.corp.internal")
    right = got == ["10.53.7.7", "fd53::7"]
    report.check("without upstream.vpc it asks 169.254.169.253, not 127.0.0.1 of resolv.conf", right or str(got))
    report.check("... and nothing came back to it", "itself" not in pod.sidecar.output() or pod.sidecar.output()[-800:])
    pod.stop()
    cluster.pods.remove(pod)


def faults(cluster, report, pod):
    report.section("EKS, sidecar: reload, restart, kill, drain under load")

    def reloads():
        for turn in range(10):
            if turn % 2:
                pod.sidecar.signal(signal.SIGHUP)
            else:
                pod.run(["curl", "-sS", "-X", "POST", "http://127.0.0.1:9180/reload"])
            time.sleep(0.2)

    under_load(report, pod, LOCAL, "10 reloads, by SIGHUP and POST /reload", reloads)
    _, out, _ = pod.run(["curl", "-sS", "http://127.0.0.1:9180/status"])
    report.check("... and 10 were made", json.loads(out)["reloads"] == {"succeeded": 10, "refused": 0} or out[-300:])

    def swap():
        cluster.publish([*PRIVATE_IDS, "pubapi1234"])
        began = time.monotonic()
        pod.mount_config_maps()
        wait_until(lambda: resolves(pod, GATEWAY) == sorted(ENDPOINT), 10, "the new id")
        report.check(f"a ConfigMap's symlink swap adds an id: in force after {time.monotonic() - began:.1f} s")
        cluster.publish(PRIVATE_IDS)
        pod.mount_config_maps()
        wait_until(lambda: resolves(pod, GATEWAY) == sorted(PUBLIC_API), 10, "the id gone")

    # Not of the id that comes and goes: either way is right for that.
    others = [name for name in LOADED if name != GATEWAY]
    under_load(report, pod, LOCAL, "a list that changes twice", swap, names=others)

    def killed():
        pod.kill()
        time.sleep(1)  # What a runtime takes to start it again.
        pod.start_sidegate()

    under_load(report, pod, LOCAL, "kill -9, started again 1 s later", killed, none=False)

    def terminated():
        pod.sidecar.signal(signal.SIGTERM)
        code = pod.sidecar.wait(30)
        report.check("SIGTERM ends it with 0", code == 0)
        pod.start_sidegate()

    under_load(report, pod, LOCAL, "SIGTERM (linger 0 s) and started again at once", terminated, none=False)

    # The end of the pod comes once the application has ended: nobody asks any more.
    began = time.monotonic()
    pod.sidecar.signal(signal.SIGTERM)
    code = pod.sidecar.wait(pod.spec["terminationGracePeriodSeconds"])
    report.check(f"the pod's end: 0 after {time.monotonic() - began:.1f} s", code == 0 or f"exit {code}")
    drain(report, pod)


def drain(report, pod, linger=4):
    """SIGTERM under a load that outlives the process: what is asked within `linger` seconds is answered."""
    pod.start_sidegate({"SIDEGATE_LINGER": f"{linger}s"})
    end = pod.load(LOCAL, *LOADED)
    time.sleep(1)
    began = time.monotonic()
    pod.sidecar.signal(signal.SIGTERM)
    code = pod.sidecar.wait(30)
    seconds = time.monotonic() - began
    time.sleep(0.5)
    summary = json.loads(end())
    lost(report, f"drain: SIGTERM with linger = {linger}s, and 0.5 s after its end", summary, none=False)
    first = summary["first_lost"]
    # Without any loss the load had ended first, and shows nothing.
    kept = first is not None and first - began >= linger
    after = "none" if first is None else f"{first - began:.2f} s after SIGTERM"
    report.check(f"... the first that was lost was asked: {after}", kept or summary["examples"])
    report.check(f"... and it ends with 0 after {seconds:.1f} s", code == 0 or f"exit {code}")


def check(cluster, report, lookups, fetchers):
    pod = cluster.pod_of("Deployment", "orders", POD)
    order(cluster, report, lookups, pod)
    report.section("EKS, sidecar: names and calls from the application")
    look_up(report, pod, lookups, {**NAMES, **CUSTOM})
    _, out, _ = pod.run(["dig", f"@{LOCAL}", "+short", "-x", PAYMENTS])
    report.check("a Service's address has its name", out.strip() == "payments.orders.svc.cluster.local." or out)
    fetchers.check(report, pod)
    circles(cluster, report)
    faults(cluster, report, pod)
    pod.stop()
    cluster.pods.remove(pod)


def proxy(cluster, report, fetchers):
    """HTTPS_PROXY: the pod's DNS is the cluster's, with the endpoint's addresses for every API."""
    report.section("EKS, sidecar as a proxy: HTTPS_PROXY, DNS as it is")
    pod = cluster.pod_of("Deployment", "orders-proxy", "10.53.20.30")
    # The lab's public addresses are reserved ones, which the public route does not dial otherwise.
    pod.start_sidegate({"SIDEGATE_FORWARD__PUBLIC_NETWORKS": "198.51.100.0/24", "SIDEGATE_LOG__ACCESS": "true"})
    for probe in ("readinessProbe", "livenessProbe"):
        report.check(f"the {probe} passes", pod.probe(probe))
    text = (pod.home / "etc/resolv.conf").read_text()
    report.check("resolv.conf is the cluster's", f"nameserver {CLUSTER_DNS}\n" in text or text)
    got = resolves(pod, GATEWAY)
    report.check("for which a public API is at the endpoint: the problem is there", got == sorted(ENDPOINT) or str(got))
    application = next(container for container in pod.spec["containers"] if container["name"] == "orders")
    env = {entry["name"]: entry["value"] for entry in application["env"]}
    java = ["-Dhttps.proxyHost=127.0.0.1", "-Dhttps.proxyPort=3128", "-Dhttp.nonProxyHosts=*.svc|*.cluster.local"]
    fetchers.check(report, pod, env, java)

    def all_came():
        # A connection is written down when it ends.
        return all(pod.sidecar.output().count(name) >= 3 for name in (PRIVATE, GATEWAY))

    wait_until(all_came, 10, lambda: f"three calls to each API in the access log: {pod.sidecar.output()}")
    report.check("every call to an API came through the proxy")
    code = pod.sidecar.stop(10)
    report.check("SIGTERM ends it with 0", code == 0 or f"exit {code}")
    pod.stop()
    cluster.pods.remove(pod)

"""The tasks of config/ecs as their templates have them: configuration, users, order, sysctl, health check, way to end."""

import signal
import time

from .ecs_task import NAMES, Load, calls_of
from .gateways import GATEWAY, PRIVATE
from .processes import ProcessError, run, wait_until
from .templates import Template
from .world import LOCAL, PUBLIC

#: What an application in ECS has from the platform, and this world's servers in place of the internet's.
REGION = {"AWS_REGION": "us-east-1"}


class Shipped:
    """The containers of one task definition, started as ECS's agent starts them."""

    def __init__(self, task, path):
        self.task, self.template = task, Template(path, PrivateApiIds="privapi123")
        self.lab = {
            **REGION,
            "SIDEGATE_UPSTREAM__PUBLIC": f"udp://{PUBLIC}",
            "SIDEGATE_FORWARD__EXTRA_ROOTS": str(task.world.authority),
            "SIDEGATE_FORWARD__PUBLIC_NETWORKS": "198.51.100.0/24,2001:db8::/32",
        }
        self.sidecar, self.said = None, {}
        for setting in self.template.system_controls():
            task._run(["ip", "netns", "exec", "task", "sysctl", "-qw", setting])

    def _container(self, name):
        return self.task.container(
            user=self.template.user(name),
            read_only=self.template.containers[name].get("ReadonlyRootFilesystem", False),
            bare=self.template.drops_capabilities(name),
        )

    def environment(self, name):
        return {**self.lab, **self.template.configuration(name)}

    def run(self, name, words, within=40):
        """A command of Sidegate in a container of its own; exit code and all that it said."""
        command = [*self._container(name), self.task.world.sidegate, *words]
        code, out, error = run(command, within, env=self.environment(name))
        return code, out + error

    def start(self):
        """The container `sidegate` alone; gives the seconds until its health check passes."""
        began = time.monotonic()
        self.sidecar = self.task.world.start(
            "run", env=self.environment("sidegate"), before=self._container("sidegate"), name="the sidecar"
        )
        words, within = self.template.health_check("sidegate")
        if words[0] != "/sidegate":
            raise ProcessError(f"the health check is {words}")

        def healthy():
            if not self.sidecar.alive():
                raise ProcessError(f"the sidecar has ended: {self.sidecar.output()[-2000:]}")
            return self.run("sidegate", words[1:], within)[0] == 0

        wait_until(healthy, 30, lambda: f"the sidecar's health: {self.sidecar.output()[-2000:]}")
        return time.monotonic() - began

    def up(self):
        """All containers in the template's order, each as soon as what it depends on allows, but the application."""
        began = set()
        while len(began) < len(self.template.containers) - 1:
            ready = [
                name
                for name, container in self.template.containers.items()
                if name not in {*began, "application"} and {one["ContainerName"] for one in container.get("DependsOn", [])} <= began
            ]
            if not ready:
                raise ProcessError(f"nothing that {set(self.template.containers) - began} wait for comes")
            # Those that wait for nothing come at once, and whoever ends by itself is quicker than one that gets healthy.
            for name in sorted(ready, key=lambda name: name == "sidegate"):
                began.add(name)
                if name == "sidegate":
                    self.start()
                else:
                    self.said[name] = self.run(name, self.template.containers[name]["Command"])
        wanted = {
            (one["ContainerName"], one["Condition"]) for one in self.template.containers["application"]["DependsOn"]
        }
        right = {("sidegate", "HEALTHY"), *((name, "SUCCESS") for name in self.said)}
        failed = [f"{name}: {code} {said}" for name, (code, said) in self.said.items() if code != 0]
        return failed + ([] if wanted == right else [f"the application waits for {wanted}, not {right}"])

    def stop(self):
        """SIGTERM; problems if that takes longer than ECS waits."""
        self.sidecar.signal(signal.SIGTERM)
        code = self.sidecar.wait(self.template.containers["sidegate"]["StopTimeout"])
        return [] if code == 0 else [f"exit {code}: {self.sidecar.output()[-2000:]}"]


def status(shipped):
    """Of the kernel: user, capabilities in effect."""
    with open(f"/proc/{shipped.sidecar.pid}/status", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return lines["Uid"].split()[0], int(lines["CapEff"], 16), int(lines["CapBnd"], 16)


def lost(report, what, load, none=True):
    """How many a load lost; where some may be lost, none may be wrong, and it has to have been a load."""
    text = f"{load.lost} of {load.asked if isinstance(load, Load) else load.calls} lost, {load.wrong} wrong"
    wrong = load.none_lost() if none else load.none_wrong()
    gap = f", the first and the last within {load.gap / 1000:.1f} s" if load.lost and isinstance(load, Load) else ""
    report.check(f"{what}: {text}, the slowest {load.slowest / 1000:.1f} s{gap}", wrong)


def crash(shipped, seconds):
    """kill -9, and the restart policy `seconds` later."""
    shipped.sidecar.signal(signal.SIGKILL)
    shipped.sidecar.wait(5)
    time.sleep(seconds)
    shipped.start()


def reloads(shipped):
    for _ in range(10):
        shipped.sidecar.signal(signal.SIGHUP)
        time.sleep(0.3)


def under(load, meanwhile, *words):
    """What `load` lost with this in its midst."""
    time.sleep(1)
    meanwhile(*words)
    time.sleep(1)
    return load.end()


def doctor(report, shipped):
    """The page's `run-task --overrides` line: the container `sidegate` with another command."""
    for host, wanted in ((PRIVATE, (0, "works")), (GATEWAY, (1, "public-api-through-endpoint"))):
        code, said = shipped.run("sidegate", ["doctor", f"https://{host}/prod/bytes/10"])
        right = code == wanted[0] and wanted[1] in said
        report.check(f"doctor as a task of its own, {host}: exit {wanted[0]}, {wanted[1]}", [] if right else f"{code} {said}")


def resolv_conf(report, task, application):
    report.section("ECS: config/ecs/fargate-resolv-conf.yaml as it is")
    shipped = Shipped(task, "ecs/fargate-resolv-conf.yaml")
    doctor(report, shipped)
    code, said = shipped.run("resolv-conf", shipped.template.containers["resolv-conf"]["Command"])
    report.check(
        "the second container before the first is healthy: 1, the file as it was",
        task.is_untouched() if code == 1 and "stays as it is" in said else f"{code} {said}",
    )
    report.check("the containers in the template's order: HEALTHY, then SUCCESS", shipped.up())
    held = status(shipped)
    report.check("the sidecar is user 65532 without any capability, port 53 by the sysctl", held == ("65532", 0, 0) or str(held))
    report.check("resolv.conf has one server, 127.0.0.1", task.servers() == [LOCAL])
    report.check("glibc and musl find both APIs, and by the search domain what only the VPC knows", application.lookups(NAMES))
    for fetcher in application.fetchers:
        got = [application.status(fetcher, host) for host in (PRIVATE, GATEWAY)]
        report.check(f"{fetcher} reaches the private and the public API", [] if got == ["200", "200"] else got)
    lost(report, "10 reloads, look-ups", under(Load(application), reloads, shipped))
    lost(report, "10 reloads, HTTPS calls", under(calls_of(application, False), reloads, shipped))
    for seconds in (0, 3):
        load = under(Load(application), crash, shipped, seconds)
        lost(report, f"kill -9 and a restart {seconds} s later", load, none=False)
    report.check("... which finds its VPC servers in the comments", application.lookups(NAMES))

    report.check("SIGTERM, once the application has ended: 0 within StopTimeout", shipped.stop())
    task.reset()


def proxy(report, task, application):
    report.section("ECS: config/ecs/fargate-https-proxy.yaml as it is")
    shipped = Shipped(task, "ecs/fargate-https-proxy.yaml")
    report.check("the containers in the template's order", shipped.up())
    given = shipped.template.variables("application")
    told = application.environment(True)
    report.check(
        "the application's HTTPS_PROXY is the one that these calls use",
        [] if given["HTTPS_PROXY"] == given["https_proxy"] == told["HTTPS_PROXY"] else str(given),
    )
    for fetcher in application.fetchers:
        got = [application.status(fetcher, host, True) for host in (PRIVATE, GATEWAY)]
        report.check(f"{fetcher} reaches the private and the public API", [] if got == ["200", "200"] else got)
    report.check("resolv.conf is untouched", task.is_untouched())
    lost(report, "10 reloads, HTTPS calls by the proxy", under(calls_of(application, True), reloads, shipped))
    calls = under(calls_of(application, True), crash, shipped, 0)
    lost(report, "kill -9 and a restart at once", calls, none=False)
    report.check("SIGTERM ends it with 0 within StopTimeout", shipped.stop())


def check(report, task, application):
    resolv_conf(report, task, application)
    proxy(report, task, application)

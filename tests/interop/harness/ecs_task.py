"""An ECS task in awsvpc mode: containers with one network and one writable resolv.conf, which each of them has mounted."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from .calls import Calls
from .gateways import GATEWAY, PRIVATE
from .processes import ProcessError, run, wait_until
from .truth import FRESH, asked
from .world import ENDPOINT, LOCAL, PUBLIC, VPC

SOURCES = Path(__file__).parent.parent / "clients"
#: As ECS writes it: the VPC's resolver, and a domain to search.
BEFORE = f"search corp.internal\noptions timeout:2 attempts:2\nnameserver {VPC}\n"
POLICY = '[policy]\nregion = "us-east-1"\nprivate_api_ids = ["privapi123"]\n'
ADMIN = f"{LOCAL}:9180"
#: Whom applications run as; they may not write resolv.conf.
NOBODY = 65534
PUBLIC_API = ["198.51.100.10", "198.51.100.11"]
#: What a name must resolve to in the task, IPv4 alone. `db` is found by the search domain, and in the VPC only.
NAMES = {PRIVATE: ENDPOINT, GATEWAY: PUBLIC_API, "db": ["10.53.7.7"], "www.example.com": ["198.51.100.3"]}
#: What the loads ask.
LOADED = [f"{name}={','.join(addresses)}" for name, addresses in asked(PRIVATE, GATEWAY, FRESH).items()]


class Task:
    """Its network: a namespace with one way out, on which peers and gateways are reached by their addresses."""

    def __init__(self, world):
        self.world = world
        self.home = world.work / "task"
        self.home.mkdir()
        os.chmod(world.work, 0o711)
        self.resolv_conf = self.home / "resolv.conf"
        self.reset()
        hosts = self.home / "hosts"
        hosts.write_text("127.0.0.1 localhost\n")
        self.hosts = hosts
        for words in (
            "ip netns add task",
            "ip link add task0 type veth peer name eth0 netns task",
            "ip address add 10.53.9.1/24 dev task0",
            "ip address add fd53:9::1/64 dev task0 nodad",
            "ip link set task0 up",
            "ip -n task link set lo up",
            "ip -n task address add 10.53.9.2/24 dev eth0",
            "ip -n task address add fd53:9::2/64 dev eth0 nodad",
            "ip -n task link set eth0 up",
            "ip -n task route add default via 10.53.9.1",
            "ip -n task -6 route add default via fd53:9::1",
        ):
            self._run(words.split())

    @staticmethod
    def _run(command):
        code, out, error = run(command, 60)
        if code != 0:
            raise ProcessError(f"{' '.join(map(str, command))}: {out}{error}")

    def end(self):
        run(["ip", "netns", "delete", "task"])
        run(["ip", "link", "delete", "task0"])

    def reset(self, text=BEFORE):
        """What the agent does before the first container starts; in place, as the mounts are of this one file."""
        with open(self.resolv_conf, "w", encoding="ascii") as out:
            out.write(text)

    def text(self):
        return self.resolv_conf.read_text()

    def is_untouched(self):
        return [] if self.text() == BEFORE else self.text()

    def servers(self):
        return [line.split()[1] for line in self.text().splitlines() if line.startswith("nameserver")]

    def container(self, user=None, read_only=False, bare=False):
        """The words before a command that runs in a container of the task; `bare` is without any capability."""
        protect = "mount -o remount,bind,ro /etc/resolv.conf && " if read_only else ""
        mounts = (
            f"mount --bind {self.resolv_conf} /etc/resolv.conf && {protect}"
            f'mount --bind {self.hosts} /etc/hosts && exec "$@"'
        )
        drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        if bare:
            drop += ["--inh-caps=-all", "--bounding-set=-all"] if drop else ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
        return ["nsenter", "--net=/run/netns/task", "unshare", "--mount", "sh", "-c", mounts, "sh", *drop]

    # The sidecar.

    def configuration(self, dns="take_over = true", listen=f"{LOCAL}:53", admin=ADMIN, connect=(f"{LOCAL}:3128",), head=""):
        """Neither `upstream.vpc` nor `upstream.default` is set: both follow from resolv.conf."""
        return self.world.configuration(
            POLICY,
            listen=[listen],
            upstream=f'public = ["udp://{PUBLIC}"]',
            dns=dns,
            head=head,
            connect=connect,
            admin=admin,
            forward=f'extra_roots = ["{self.world.authority}"]\npublic_networks = ["198.51.100.0/24", "2001:db8::/32"]',
        )

    def start(self, configuration, env=None, **how):
        return self.world.start("run", "--config", configuration, env=env, before=self.container(**how))

    def sidegate(self, *words, within=40, **how):
        """Runs a command of Sidegate in a container of its own; exit code and all that it said."""
        code, out, error = run([*self.container(**how), self.world.sidegate, *words], within)
        return code, out + error

    def healthy(self, sidecar, configuration):
        """What `dependsOn: HEALTHY` waits for."""

        def is_healthy():
            if not sidecar.alive():
                raise ProcessError(f"the sidecar has ended: {sidecar.output()[-2000:]}")
            return self.sidegate("health", "--config", configuration)[0] == 0

        wait_until(is_healthy, 30, lambda: f"the sidecar's health: {sidecar.output()[-2000:]}")

    def up(self, configuration, **how):
        sidecar = self.start(configuration, **how)
        self.healthy(sidecar, configuration)
        return sidecar


class Application:
    """What runs beside the sidecar and knows nothing of it."""

    def __init__(self, task, short=False):
        self.task, self.home = task, task.home
        lookup, load = SOURCES / "lookup.c", SOURCES / "load.c"
        for compiler, name in ((["musl-gcc", "-static"], "musl"), (["gcc"], "glibc")):
            for source in (lookup, load):
                out = self.home / f"{source.stem}-{name}"
                task._run([*compiler, "-O1", "-Wall", "-Werror", "-D_GNU_SOURCE", "-o", out, source])
        authority = task.world.authority
        os.chmod(authority, 0o644)
        for fetch in ("fetch.sh", "fetch.py", "calls.py"):
            shutil.copy(SOURCES / fetch, self.home)
        trust = self.home / "trust.p12"
        self.fetchers = {
            "curl": ["sh", self.home / "fetch.sh"],
            "Python requests": [sys.executable, self.home / "fetch.py"],
        }
        if not short:
            task._run(["javac", "-d", self.home, SOURCES / "Fetch.java"])
            task._run(
                [
                    *("keytool", "-importcert", "-noprompt", "-alias", "interop", "-file", authority),
                    *("-keystore", trust, "-storetype", "PKCS12", "-storepass", "interop"),
                ]
            )
            self.fetchers["Java HttpClient"] = [
                *(shutil.which("java"), "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", self.home),
                *(f"-Djavax.net.ssl.trustStore={trust}", "-Djavax.net.ssl.trustStorePassword=interop", "Fetch"),
            ]

    def lookups(self, names):
        """Problems of both C libraries with these names."""
        for library in ("glibc", "musl"):
            code, out, error = run(
                [*self.task.container(NOBODY), self.home / f"lookup-{library}", *names], 60
            )
            found = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
            for name, wanted in names.items():
                got = sorted(address for address in found.get(name, []) if ":" not in address)
                # One of several is enough: rotation is another part's.
                if got != sorted(wanted) and not (name == "www.example.com" and set(wanted) <= set(got)):
                    yield f"{library}, {name}: {found.get(name)}, exit {code} {error}"

    def environment(self, proxy):
        authority = str(self.task.world.authority)
        way = {"HTTPS_PROXY": "http://127.0.0.1:3128"} if proxy else {}
        return {**os.environ, "CURL_CA_BUNDLE": authority, "REQUESTS_CA_BUNDLE": authority, "TMPDIR": "/tmp", **way}

    def status(self, fetcher, host, proxy=False):
        """What a call to an API comes to."""
        env = self.environment(proxy)
        command = list(self.fetchers[fetcher])
        if proxy and "Java" in fetcher:
            command[1:1] = ["-Dhttps.proxyHost=127.0.0.1", "-Dhttps.proxyPort=3128"]
        code, out, error = run(
            [*self.task.container(NOBODY), *command], 60, env=env, stdin=f"GET https://{host}/prod/bytes/10 -\n"
        )
        return out.split("\t")[0] if code == 0 and out and not out.startswith("ERROR") else f"{code} {out}{error}"


def calls_of(application, proxy, hosts=(PRIVATE, GATEWAY)):
    """HTTPS calls of the application without end, by the proxy or by resolv.conf."""
    before = application.task.container(NOBODY)
    return Calls(before, application.environment(proxy), application.home / "calls.py", hosts)


class Load:
    """Both C libraries, asking without end in containers of their own, and what came of it: `elsewhere` are addresses that no
    Sidegate gave, as resolv.conf named another server then."""

    EACH = 2

    def __init__(self, application):
        self.lines = []
        self._children = []
        for library in ("glibc", "musl"):
            for _ in range(self.EACH):
                command = [*application.task.container(NOBODY), application.home / f"load-{library}"]
                child = subprocess.Popen(
                    [*map(str, command), *LOADED],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                self._children.append((library, child))

    def end(self):
        """Ends it and sums up."""
        for _, child in self._children:
            child.send_signal(signal.SIGTERM)
        self.asked = self.lost = self.wrong = self.elsewhere = self.slowest = self.gap = 0
        for library, child in self._children:
            out, error = child.communicate(timeout=60)
            if child.returncode != 0:
                raise ProcessError(f"load-{library}: {child.returncode} {out}{error[-500:]}")
            asked, lost, wrong, elsewhere, slowest, gap = map(int, out.split())
            self.elsewhere += elsewhere
            self.asked, self.lost, self.wrong = self.asked + asked, self.lost + lost, self.wrong + wrong
            self.slowest, self.gap = max(self.slowest, slowest), max(self.gap, gap)
            self.lines += [f"{library}: {line}" for line in error.splitlines()[:3]]
        return self

    def __str__(self):
        others = f"{self.elsewhere} of another server in resolv.conf, " if self.elsewhere else ""
        return f"{self.asked} look-ups, {self.lost} lost, {self.wrong} wrong, {others}slowest {self.slowest} ms"

    def none_wrong(self):
        return [str(self), *self.lines] if self.wrong or self.asked < 100 else []

    def none_lost(self, most_seconds=1.9):
        """Problems, where nothing may be lost. A datagram that was lost and asked again is seen by the time: with the options
        of BEFORE glibc asks again after 2 s. BIND does so after 1.2 s, for a datagram between the peers."""
        if self.lost or self.slowest > most_seconds * 1000:
            return [str(self), *self.lines]
        return self.none_wrong()

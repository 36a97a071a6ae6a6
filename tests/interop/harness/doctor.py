"""`sidegate doctor` with resolv.conf as a program has it: through the VPC's resolver, through Sidegate, with doors closed."""

import json
import time
from contextlib import contextmanager

from .compare import PLAIN
from .gateways import GATEWAY, PRIVATE, Gateways
from .processes import ProcessError, run
from .world import LOCAL, PUBLIC, VPC, ZONE

UPSTREAM = f'public = ["udp://{PUBLIC}"]\nvpc = ["{VPC}"]\ndefault = "vpc"'
#: The public addresses of this world are for documents, not for the internet.
NETWORKS = 'public_networks = ["198.51.100.0/24", "2001:db8::/32"]'


class Doctor:
    """The command under one configuration, and the resolv.conf that it finds."""

    def __init__(self, world, report):
        self.world, self.report = world, report
        forward = f'extra_roots = ["{world.authority}"]\n{NETWORKS}'
        self.configuration = world.configuration(PLAIN, upstream=UPSTREAM, forward=forward)
        self.longest = 0

    def resolve_by(self, *servers):
        text = "".join(f"nameserver {server}\n" for server in servers)
        (self.world.work / "resolv.conf").write_text(text, encoding="ascii")

    def says(self, name, url, cause, *words, **wanted):
        """One check: the cause, the exit code that goes with it, words of the action, and values by their path."""
        began = time.monotonic()
        command = [self.world.sidegate, "doctor", "--json", url, "--config", self.configuration]
        code, out, error = run(command, 30)
        self.longest = max(self.longest, time.monotonic() - began)
        try:
            found = json.loads(out)
        except ValueError:
            self.report.check(name, f"exit {code}: {out}{error}")
            return
        problems = []
        if found["verdict"]["cause"] != cause:
            problems.append(f"{found['verdict']['cause']} and not {cause}: {found['verdict']['because']}")
        if code != (0 if cause == "works" else 1):
            problems.append(f"exit {code}")
        problems += [f"no {word!r} in {found['action']!r}" for word in words if word not in found["action"]]
        for path, value in wanted.items():
            got = found
            for key in path.split("__"):
                got = got[key] if got is not None else None
            if got != value:
                problems.append(f"{path} is {got!r} and not {value!r}")
        self.report.check(name, [*problems, json.dumps(found["calls"])] if problems else [])


    def fits_a_terminal(self, url):
        command = [self.world.sidegate, "doctor", url, "--config", self.configuration]
        _, out, error = run(command, 30)
        lines = out.splitlines()
        fits = len(lines) <= 40 and all(len(line) <= 100 for line in lines) and sum(line.startswith("do  ") for line in lines) == 1
        self.report.check("... said in at most 40 lines of 100 columns", [] if fits else out + error)


@contextmanager
def closed(*rules):
    """Packets that these rules of the INPUT chain fit are dropped meanwhile."""
    for rule in rules:
        code, _, error = run(["iptables", "-I", "INPUT", *rule.split(), "-j", "DROP"])
        if code != 0:
            raise ProcessError(f"iptables {rule}: {error}")
    try:
        yield
    finally:
        for rule in rules:
            run(["iptables", "-D", "INPUT", *rule.split(), "-j", "DROP"])


def check(world, report, short):
    report.section("sidegate doctor")
    gateways = Gateways(world, home="doctor")
    gateways.start()
    before = (world.work / "resolv.conf").read_text(encoding="ascii")
    doctor = Doctor(world, report)
    public, private = f"https://{GATEWAY}/prod/orders", f"https://{PRIVATE}/prod/orders"
    try:
        doctor.resolve_by(VPC)
        doctor.says(
            "through the VPC's resolver: a public API through the endpoint",
            public,
            "public-api-through-endpoint",
            "sidegate run",
            private_dns="on",
            way__now="endpoint",
            way__with_sidegate="internet",
            calls__endpoint__reply__status=403,
            calls__endpoint__reply__error_type="ForbiddenException",
            calls__internet__reply__status=200,
        )
        doctor.fits_a_terminal(public)
        doctor.says("... and a private one works", private, "works", way__now="endpoint")
        doctor.says("... and an id that nobody knows is said to be none", f"nobody1234.{ZONE}/prod", "no-such-api")
        doctor.resolve_by(PUBLIC)
        doctor.says("through public DNS: the public API works", public, "works", way__now="internet")
        world.run_sidegate(doctor.configuration)
        doctor.resolve_by(VPC)
        doctor.says(
            "Sidegate runs, and resolv.conf does not have it: it is to be asked",
            public,
            "public-api-through-endpoint",
            "running Sidegate",
            way__running_sidegate="internet",
        )
        doctor.resolve_by(LOCAL)
        doctor.says("through Sidegate: the public API works", public, "works", way__now="internet")
        doctor.says("... and the private one too", private, "works", way__now="endpoint")
        with closed("-p tcp -d 10.53.1.10 --dport 443", "-p tcp -d 10.53.1.11 --dport 443"):
            doctor.says("the endpoint's port is closed to us: its security group", private, "security-group")
        if not short:
            with closed("-p tcp -d 198.51.100.0/24 --dport 443"):
                run(["ip", "address", "delete", "2001:db8:a::10/128", "dev", "lo"])
                doctor.says("the internet is: no route out", public, "no-route-out")
            with closed(f"-p udp -d {PUBLIC}", f"-p tcp -d {PUBLIC}"):
                # What it has cached, it would give.
                world.stop_sidegates()
                world.run_sidegate(doctor.configuration)
                doctor.says("public DNS is: it says so", f"always1234.{ZONE}/x", "public-dns-unreachable")
            with closed(f"-p udp -d {PUBLIC}", f"-p udp -d {VPC}", "-p tcp --dport 443", "-p tcp --dport 53"):
                doctor.says("everything is: the VPC's resolver first", private, "dns-failing", "upstream.vpc")
        report.check(f"each is over within 15 s: {doctor.longest:.1f} s", doctor.longest < 15)
    finally:
        world.stop_sidegates()
        (world.work / "resolv.conf").write_text(before, encoding="ascii")
        gateways.stop()

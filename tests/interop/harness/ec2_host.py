"""An EC2 host's /etc/resolv.conf, the shipped configuration, and what the shipped drop-ins make of both."""

import json
import socket
import subprocess
import sys
import time

from . import clients
from .eks_sidecar import lost
from .gateways import GATEWAY, PRIVATE
from .processes import ProcessError, run
from .supervisor import UNITS, Supervisor, listeners
from .truth import DATABASE, FRESH, asked
from .world import ENDPOINT, LOCAL, PUBLIC, VPC

#: As the page has it, one for the proxy beside those that we ship.
SOCKETS = [*listeners("sidegate.socket"), (socket.SOCK_STREAM, LOCAL, 3128)]
#: As DHCP leaves it.
RESOLV_CONF = f"search corp.internal\nnameserver {VPC}\noptions timeout:2 attempts:5\n"


def environment(world):
    """The shipped configuration with the world's region, ids and public DNS. Who is the VPC's resolver stands in resolv.conf."""
    return {
        "SIDEGATE_CONFIG": str(UNITS / "sidegate.toml"),
        "SIDEGATE_STATE_DIR": str(world.work / "ec2-state"),
        "SIDEGATE_POLICY__REGION": "us-east-1",
        "SIDEGATE_POLICY__PRIVATE_API_IDS": "privapi123",
        "SIDEGATE_UPSTREAM__PUBLIC": f"udp://{PUBLIC}",
        "SIDEGATE_FORWARD__EXTRA_ROOTS": str(world.authority),
        "SIDEGATE_FORWARD__PUBLIC_NETWORKS": "198.51.100.0/24,2001:db8::/32",
    }


def resolv_conf(world):
    """A host's /etc/resolv.conf, for who has it mounted there."""
    path = world.work / "ec2-resolv.conf"
    path.write_text(RESOLV_CONF, encoding="ascii")
    return path


def taken_over(world, report):
    """resolv.conf by the shipped drop-ins and configuration; programs that know nothing but that file, meanwhile."""
    report.section("EC2: resolv.conf by the shipped drop-ins, for programs that know nothing else")
    path = resolv_conf(world)
    unit = Supervisor(world, SOCKETS, environment(world), path)
    names = asked(PRIVATE, GATEWAY, DATABASE, FRESH)

    def servers():
        return [line.split()[1] for line in path.read_text(encoding="ascii").splitlines() if line.startswith("nameserver")]

    def leads_here():
        return servers() == [LOCAL] or path.read_text(encoding="ascii")

    def load():
        words = [LOCAL, *(f"{name}={','.join(addresses)}" for name, addresses in names.items())]
        command = [*unit.inside, sys.executable, "-m", "harness.eks_load", *words]
        child = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if child.stdout.readline().strip() != "under way":
            raise ProcessError("the load does not come under way")
        return lambda: json.loads(child.communicate("\n", timeout=60)[0])

    def gateway_is():
        code, out, error = run([*unit.inside, sys.executable, clients.SOURCES / "lookup.py", GATEWAY])
        return sorted(out.split()[1:]) if code == 0 else out + error

    def once(end):
        end()
        report.check("... between two processes resolv.conf names Sidegate still", leads_here())
        unit.start()

    try:
        at = gateway_is()
        report.check("before: the VPC's resolver has the public API at the endpoint", at == ENDPOINT or str(at))
        unit.start()
        report.check("after the start resolv.conf names Sidegate and nobody else", leads_here())
        end = load()
        for _ in range(3):
            once(unit.end)
        time.sleep(0.5)
        lost(report, "3 restarts", end())
        end = load()
        for _ in range(2):
            once(unit.kill)
        time.sleep(0.5)
        summary = end()
        lost(report, "kill -9 and a start on the file that is taken over, twice", summary, none=False)
        gone = sum(summary[kind][how] for kind in ("udp", "tcp", "getaddrinfo") for how in ("silent", "refused", "failed"))
        # Each of seven askers has one question under way.
        report.check(f"... {gone} lost, at most what was under way", gone <= 2 * 7)

        played = unit.played
        unit.close(power_cut=True)
        report.check("a power cut: the file leads to Sidegate still", leads_here())
        unit = Supervisor(world, SOCKETS, environment(world), path)
        report.check("... and the next boot begins with the former servers", servers() == [VPC] or str(servers()))
        unit.start()
        report.check("... until Sidegate is up", leads_here())
        report.check("a stop: exit 0, the file stays until the sockets are closed", unit.end() == 0 and leads_here())
        unit.close()
        left = path.read_text(encoding="ascii")
        report.check("... then it is as it was, to the byte", left == RESOLV_CONF or left)
        at = gateway_is()
        report.check("... and the VPC's resolver is asked again", at == ENDPOINT or str(at))
        report.check("no line of the drop-ins failed", [str(each) for each in [*played, *unit.played] if each[2] != 0])
    finally:
        unit.close()

"""Runs the parts in order: `python3 -m harness BINARY DIRECTORY MOTO [--short] [PART...]`, inside the namespace."""

import argparse
import sys
import traceback

from . import (
    clients,
    commands,
    compare,
    discovery,
    doctor,
    ec2,
    ecs,
    eks,
    faults,
    forward,
    matrix,
    policy,
    readme,
    stelline,
    tools,
    vpc,
)
from .processes import ProcessError
from .report import Report
from .world import World


def page(world, report, short):
    """Its browser is installed only where it is asked for."""
    from . import page as part

    part.check(world, report, short)


PARTS = {
    "policy": policy.check,
    "compare": compare.check,
    "matrix": matrix.check,
    "stelline": stelline.check,
    "tools": tools.check,
    "clients": clients.check,
    "faults": faults.check,
    "commands": commands.check,
    "forward": forward.check,
    "doctor": doctor.check,
    "discovery": discovery.check,
    "readme": readme.check,
    "page": page,
    "ec2": ec2.check,
    "ecs": ecs.check,
    "eks": eks.check,
    "vpc": vpc.check,
}
#: What --short leaves out.
LONG = {"faults", "stelline", "page", "ec2", "ecs", "eks", "vpc"}


def main():
    parser = argparse.ArgumentParser(prog="harness")
    parser.add_argument("sidegate")
    parser.add_argument("work")
    parser.add_argument("moto")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_intermixed_args()
    parts = arguments.parts or [part for part in PARTS if not (arguments.short and part in LONG)]
    report = Report()
    world = World(arguments.sidegate, arguments.work, arguments.moto)
    try:
        report.section("Peers")
        world.prepare()
        for peer in ("public", "second", "vpc", "unbound", "dnsmasq"):
            world.start_peer(peer)
            report.check(f"{peer} is up and knows the zones")
        for part in parts:
            try:
                PARTS[part](world, report, arguments.short)
            except (ProcessError, AssertionError, OSError) as error:
                report.check(f"{part} runs to its end", f"{error}\n{traceback.format_exc(limit=-3)}")
                world.stop_sidegates()
    except ProcessError as error:
        report.check("the peers come up", str(error))
    finally:
        world.stop_all()
    sys.exit(report.finish())


main()

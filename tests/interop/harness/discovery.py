"""Sources of private ids between moto, a server of lists and files; each group of checks is a file of its own."""

import traceback

from . import discovery_apis, discovery_credentials, discovery_lists, discovery_reload
from .discovery_health import Health
from .discovery_lab import APIS, Lab
from .processes import ProcessError


def guarded(lab, report, name, group):
    """A group of checks that does not come to its end is one that failed; the next begins anew."""
    try:
        group()
    except (ProcessError, AssertionError, OSError, ValueError, LookupError, TypeError) as error:
        report.check(f"{name} runs to its end", f"{error}\n{traceback.format_exc(limit=-4)}")
        lab.switch()


def check(world, report, short):
    report.section("Discovery: moto as API Gateway, a server of lists")
    lab = Lab(world)
    health = Health(lab)
    try:
        lab.start()
        report.check("moto, pages and faults, public DNS that knows every id, services of credentials")
        if not short:
            health.start()
        lab.create_all()
        kinds = {kind: len(lab.of_kind(kind)) for kind in ("PRIVATE", "REGIONAL", "EDGE")}
        report.check(
            f"{APIS:,} APIs: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}", len(lab.apis) == APIS
        )
        groups = [("API Gateway", discovery_apis.check), ("lists", discovery_lists.check)]
        if not short:
            groups += [("credentials", discovery_credentials.check), ("reload", discovery_reload.check)]
        for name, group in groups:
            guarded(lab, report, name, lambda group=group: group(lab, report, short))
        if not short:
            health.report(report)
    finally:
        world.stop_sidegates()
        lab.stop()

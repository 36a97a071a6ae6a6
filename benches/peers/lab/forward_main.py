"""The forwarder's part: every contestant in turn, round by round, through each way of forwarding."""

import resource
import subprocess

from . import machine
from .certificates import make_certificate
from .forward_configs import FILES, Place
from .forward_contestants import CONTESTANTS, DIRECT, WAYS, Absent, leave_out, running
from .forward_ends import ZONE, resolve_names, start
from .forward_loads import WORKLOADS, hold, take
from .forward_report import tables
from .report import number

__all__ = ["contestants", "measure", "tables", "workloads"]

FIRST_PORT = 8401


def contestants():
    return list(dict.fromkeys(contestant.name for contestant in CONTESTANTS))


def workloads():
    return [workload.name for workload in WORKLOADS]


def measure(options):
    """Yields a record for each sample."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    # Squid, which gives up being root, must get to its own folder.
    options.work.chmod(0o711)
    folder = options.work / "ends"
    folder.mkdir()
    certificate = make_certificate(folder, [f"DNS:*.{ZONE}"])
    resolve_names(folder)
    helpers = start(folder, options.work / "bin", certificate)
    chosen = [workload for workload in WORKLOADS if workload.name in options.workloads]
    for round_ in range(options.rounds):
        for way in WAYS:
            for port, contestant in enumerate(CONTESTANTS):
                wanted = [workload for workload in chosen if workload.way == way]
                if contestant.way != way or contestant.name not in options.only or not wanted:
                    continue
                place = Place(
                    options.work / f"{way}-{contestant.name}",
                    FIRST_PORT + 2 * port,
                    options.work / "bin",
                    options.sidegate,
                    certificate,
                )
                place.folder.mkdir(exist_ok=True)
                for record in _turn(contestant, wanted, place, helpers, options):
                    record = {"contestant": contestant.name, "round": round_, **record}
                    _show(record)
                    yield record


def _turn(contestant, wanted, place, helpers, options):
    """A contestant's samples of one round. Tunnels are held by a fresh process: memory is seldom given back."""
    timed = [workload for workload in wanted if workload.by != "memory"]
    if contestant.name == DIRECT:
        for workload in timed:
            yield from _sample(contestant, workload, take, place, helpers[0], helpers, options)
        return
    try:
        with running(contestant, place) as (pid, first_answer):
            yield {
                "workload": f"{contestant.way}-start",
                "first_answer_ms": 1000 * first_answer,
                "idle_kib": machine.memory(pid),
            }
            for workload in timed:
                yield from _sample(contestant, workload, take, place, pid, helpers, options)
        for workload in wanted:
            if workload.by == "memory":
                with running(contestant, place) as (pid, _):
                    yield from _sample(contestant, workload, hold, place, pid)
    except Absent as absent:
        leave_out(contestant, absent)


def _sample(contestant, workload, measured, *arguments):
    """One record; none where the load gives up."""
    try:
        yield {"workload": workload.name, **measured(contestant, workload, *arguments)}
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        leave_out(contestant, f"{workload.name}: {error}")


def _show(record):
    words = [f"{key} {number(record[key], digits)}" for key, digits in SHOWN.items() if record.get(key) is not None]
    print(f"round {record['round']}  {record['contestant']:10} {record['workload']:20} {', '.join(words)}", flush=True)


#: What a line shows as a sample ends, with so many digits.
SHOWN = {
    "per_second": 0,
    "octets_per_second": 0,
    "p50_us": 0,
    "p99_us": 0,
    "failed": 0,
    "cpu_per_thousand": 4,
    "noise": 2,
    "first_answer_ms": 0,
    "idle_kib": 0,
    "held": 0,
    "tunnel_kib": 1,
}

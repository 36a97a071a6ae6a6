"""The forwarder's part: every contestant in turn, round by round, through each way of forwarding.

All of a way run while one of them has its turn, so that the samples of a round lie a few seconds apart: the machine's speed
drifts.
"""

import contextlib
import resource
import subprocess
import time

from . import machine
from .certificates import make_certificate
from .forward_configs import FILES, Place
from .forward_contestants import CONTESTANTS, DIRECT, WAYS, Absent, leave_out, running
from .forward_ends import ZONE, resolve_names, start
from .forward_loads import REST, WORKLOADS, hold, take
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
    for way in WAYS:
        wanted = [workload for workload in chosen if workload.way == way]
        places = {}
        for port, contestant in enumerate(CONTESTANTS):
            if contestant.way == way and contestant.name in options.only and wanted:
                folder = options.work / f"{way}-{contestant.name}"
                folder.mkdir()
                binaries = options.work / "bin"
                places[contestant] = Place(folder, FIRST_PORT + 2 * port, binaries, options.sidegate, certificate)
        for round_ in range(options.rounds):
            for contestant, place in places.items():
                if contestant.name != DIRECT:
                    yield from _shown(round_, contestant, _alone(contestant, wanted, place, round_ == 0, options))
        yield from _together(places, [workload for workload in wanted if workload.by != "memory"], helpers, options)


def _alone(contestant, wanted, place, is_first, options):
    """What is measured of a process of its own: its start, for which the program is read from disk the first time, and its memory.
    Tunnels are held by a fresh one, as memory is seldom given back."""
    program = contestant.command(place)[0]
    if is_first and program:
        machine.forget(program)
    machine.wait_until_quiet(options.settle)
    try:
        with running(contestant, place) as (pid, first_answer):
            time.sleep(REST)
            yield {
                "workload": f"{contestant.way}-start",
                "first_answer_ms": 1000 * first_answer,
                "idle_kib": machine.memory(pid),
            }
        for workload in wanted:
            if workload.by == "memory":
                with running(contestant, place) as (pid, _):
                    yield from _sample(contestant, workload, hold, place, pid)
    except Absent as absent:
        leave_out(contestant, absent)


def _together(places, timed, helpers, options):
    """Of each workload some rounds, in which each contestant has its turn."""
    with contextlib.ExitStack() as stack:
        processes = {}
        for contestant, place in places.items() if timed else ():
            if contestant.name == DIRECT:
                processes[contestant] = helpers[0]
                continue
            try:
                processes[contestant], _ = stack.enter_context(running(contestant, place))
            except Absent as absent:
                leave_out(contestant, absent)
        direct = [contestant for contestant in processes if contestant.name == DIRECT]
        for workload in timed:
            for round_ in range(options.rounds):
                for contestant in machine.in_turn(processes, round_):
                    idlers = [pid for other, pid in processes.items() if other not in (contestant, *direct)]
                    pid = processes[contestant]
                    sample = _sample(contestant, workload, take, places[contestant], pid, helpers, idlers, options)
                    yield from _shown(round_, contestant, sample)


def _shown(round_, contestant, records):
    for record in records:
        record = {"contestant": contestant.name, "round": round_, **record}
        _show(record)
        yield record


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

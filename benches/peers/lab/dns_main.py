"""The part called dns: what a resolver serves on one core, in rounds in which each contestant has its turn.

All run while one of them has its turn, so that the samples of a round lie a few seconds apart: the machine's speed drifts.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass

from . import dns_ask, dns_contestants, dns_data, dns_report, dns_upstreams, machine, processes
from .dns_contestants import LIMIT, takes_part
from .dns_upstreams import DOH, DOT, UDP, WAYS

FIRST_PORT = 5301
#: In flight at a time. Enough to fill one core of any contestant, too little to fill its socket's queue.
IN_FLIGHT = 100
RATE = 10_000
#: Seconds of asking for everything that must be cached.
WARMING = 1
#: Seconds that a file has been left alone before anybody reads it: Sidegate waits with one that may still be written.
AGE = 4
#: The load waits a second for late replies, and may have to be told that its contestant hangs.
PATIENCE = 30


@dataclass(frozen=True)
class Workload:
    """One kind of sample; `needs` says whether everything is cached before it, or nothing ever."""

    questions: str
    way: str
    value: int
    needs: str = ""
    upstream: str = UDP


WORKLOADS = {
    "private": Workload("private", "udp", IN_FLIGHT),
    "cached": Workload("cached", "udp", IN_FLIGHT, "cache"),
    "mix": Workload("mix", "udp", IN_FLIGHT, "cache"),
    "tcp": Workload("mix", "tcp", IN_FLIGHT, "cache"),
    "latency": Workload("mix", "rate", RATE, "cache"),
    "misses": Workload("misses", "udp", IN_FLIGHT, "upstream"),
    "misses-dot": Workload("misses", "udp", IN_FLIGHT, "upstream", DOT),
    "misses-doh": Workload("misses", "udp", IN_FLIGHT, "upstream", DOH),
}


def contestants():
    return dns_contestants.NAMES


def workloads():
    return list(WORKLOADS)


tables = dns_report.tables


class Lab:
    """The data, the upstreams, and each contestant's place."""

    def __init__(self, options):
        self.options = options
        self.programs = options.work / "bin"
        self.data = dns_data.Data(options.work)
        self.misses = 0
        self.ways = {way: [name for name in options.workloads if WORKLOADS[name].upstream == way] for way in WAYS}
        self.ways = {way: workloads for way, workloads in self.ways.items() if workloads}
        self.upstreams = dns_upstreams.start(self.ways, options.work, self.programs)
        self.ports = {name: FIRST_PORT + number for number, name in enumerate(dns_contestants.NAMES)}
        self.commands = {
            (way, name): self._command(way, name)
            for way in self.ways
            for name in options.only
            if takes_part(name, way)
        }
        time.sleep(AGE)

    def _command(self, way, name):
        folder = self.options.work / f"{name}-{way}"
        setting = dns_contestants.Setting(folder, self.ports[name], self.upstreams[way], self.data)
        return dns_contestants.command(name, setting, self.programs, self.options.sidegate)

    def load(self, port, questions, seconds, way, value, unique=0):
        words = [self.programs / "dns_load", port, self.data.questions(questions), seconds, way, value, unique]
        return json.loads(processes.load(words, seconds + PATIENCE))

    def warm(self, port):
        self.load(port, "all", WARMING, "udp", 20)

    def sample(self, process, port, workload, idlers):
        """One sample, and what was used meanwhile, as one record."""

        def work():
            # A sample that is taken again asks for other names.
            self.misses += workload.needs == "upstream"
            unique = self.misses if workload.needs == "upstream" else 0
            return self.load(port, workload.questions, self.options.secs, workload.way, workload.value, unique)

        before = (lambda: self.warm(port)) if workload.needs == "cache" else None
        helpers = [self.upstreams[workload.upstream].pid]
        result, usage = machine.sample(work, process.pid, self.options, helpers, idlers, before)
        if process.poll() is not None or not result["answered"]:
            raise OSError(f"has stopped, or answers nothing: {process.returncode}")
        used = usage.user + usage.system
        return {**result, **usage.record(), "cpu_us": used / result["answered"] * 1e6, "noise": usage.noise}

    def start(self, way, name):
        """A contestant that has just started, and the seconds to its first answer; `None` if there is none."""
        command, port = self.commands[way, name], self.ports[name]
        if command is None:
            say(f"{name}: not installed, left out")
            return None
        log = self.options.work / f"{name}-{way}.log"
        began = time.monotonic()
        process = processes.start(command, processes.CONTESTANT_CORE, log)
        first = dns_ask.first_answer(process, port, self.data.private[0], began) if name != LIMIT else 0
        if first is None:
            say(f"{name}: does not answer, left out: {log.read_text(errors='replace')[-500:]}")
            processes.stop(process)
            return None
        return process, first

    def starts(self, is_first):
        """How long each takes to its first answer, and the memory it has then. The first time a program is read from disk."""
        for (way, name), command in self.commands.items():
            if way == UDP and name != LIMIT:
                if is_first and command:
                    machine.forget(command[0])
                machine.wait_until_quiet(self.options.settle)
                started = self.start(way, name)
                if started:
                    process, first = started
                    time.sleep(1)
                    yield name, {"first_ms": first * 1e3, "idle_kib": machine.memory(process.pid)}
                    processes.stop(process)

    def samples(self, way):
        """All samples with this upstream: of each workload some rounds, in which each contestant has its turn."""
        running = {name: self.start(way, name) for of, name in self.commands if of == way}
        running = {name: started[0] for name, started in running.items() if started}
        time.sleep(1)
        for name in running:
            if name != LIMIT:
                for fault in dns_ask.faults(self.ports[name], self.data):
                    say(f"{name}: {fault}")
        for workload in self.ways[way]:
            asks = WORKLOADS[workload].needs == "upstream"
            for turn in range(1, self.options.rounds + 1):
                # Who answers everything by itself asks nobody.
                for name in machine.in_turn([name for name in running if name != LIMIT or not asks], turn):
                    if asks:
                        # With a cache full of what was asked before, it would be another workload each time.
                        processes.stop(running[name])
                    if running[name].poll() is not None:
                        started = self.start(way, name)
                        if not started:
                            continue
                        running[name] = started[0]
                    idlers = [process.pid for other, process in running.items() if other != name]
                    try:
                        sample = self.sample(running[name], self.ports[name], WORKLOADS[workload], idlers)
                        yield turn, name, workload, sample
                    except (OSError, ValueError, subprocess.SubprocessError) as error:
                        say(f"{name}: {error}")
        for process in running.values():
            processes.stop(process)


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure(options):
    lab = Lab(options)
    if UDP in lab.ways:
        for turn in range(1, options.rounds + 1):
            for name, numbers in lab.starts(turn == 1):
                yield record(turn, name, "start", numbers)
    for way in lab.ways:
        for turn, name, workload, numbers in lab.samples(way):
            yield record(turn, name, workload, numbers)


def record(turn, name, workload, numbers):
    say(f"round {turn}  {name:14} {workload:10} {dns_report.line(workload, numbers)}")
    return {"contestant": name, "workload": workload, "round": turn, **numbers}

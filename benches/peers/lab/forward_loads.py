"""What is asked of the forwarders, and asking it."""

import contextlib
import json
import subprocess
import time
from dataclasses import dataclass

from . import machine, processes
from .forward_configs import ROOM
from .forward_contestants import DIRECT
from .forward_ends import BIG, BIG_BYTES, SMALL, SMALL_BYTES, STAYING, WEB, End

RATE = 1500
TUNNELS = min(10_000, ROOM // 2 - 100)
#: Seconds until memory is measured, so that what only starting or opening takes is given back.
REST = 1


@dataclass(frozen=True)
class Workload:
    """A kind of load for one way; `by` says what its result is counted in."""

    name: str
    way: str
    title: str
    kind: str
    end: End
    connections: int
    by: str = "requests"
    words: tuple = ()


def _tunnelled(way):
    small, big = f"bytes={SMALL_BYTES}", f"bytes={BIG_BYTES}"
    return [
        Workload(f"{way}-connections", way, "new connections, no TLS at the ends", "raw", SMALL, 16, words=(small,)),
        Workload(f"{way}-bulk", way, "1 MiB a connection, no TLS at the ends", "raw", BIG, 4, "bytes", (big,)),
        Workload(f"{way}-requests", way, "small requests, 32 kept TLS connections", "requests", WEB, 32),
        Workload(
            f"{way}-latency", way, f"{RATE:,} requests/s", "requests", WEB, 32, "latency", (f"rate={RATE}",)
        ),
        Workload(
            f"{way}-tunnels", way, f"{TUNNELS:,} open tunnels", "hold", STAYING, TUNNELS, "memory", (small,)
        ),
    ]


WORKLOADS = (
    *_tunnelled("sni"),
    *_tunnelled("connect"),
    Workload("tls-requests", "tls", "small requests, 32 kept connections", "requests", WEB, 32),
    Workload("tls-bodies", "tls", "1 MiB bodies, 4 kept connections", "requests", WEB, 4, "bytes", ("path=/big",)),
    Workload("tls-connections", "tls", "new connections", "connections", WEB, 16),
)


def _command(contestant, workload, place, port, connections, seconds):
    load = place.binaries / "forward_load"
    command = [load, workload.kind, port, workload.end.host, connections, seconds, *workload.words]
    if contestant.way == "connect" and contestant.name != DIRECT:
        command.append(f"target={workload.end.host}:{contestant.port_of(workload.end)}")
    return command


def take(contestant, workload, place, pid, helpers, idlers, options):
    """One sample, as a record."""
    port = workload.end.port if contestant.name == DIRECT else place.port
    command = _command(contestant, workload, place, port, workload.connections, options.secs)
    result, usage = machine.sample(
        lambda: json.loads(processes.load(command, options.secs + 30)), pid, options, helpers, idlers
    )
    record = {**result, **usage.record(), "noise": usage.noise}
    if contestant.name != DIRECT:
        cpu = usage.user + usage.system
        if result["done"]:
            record["cpu_per_thousand"] = 1000 * cpu / result["done"]
            record["cpu_per_gigabyte"] = 1e9 * cpu / result["octets"]
    return record


def hold(contestant, workload, place, pid):
    """Opens the tunnels and says how much memory each of them takes of the contestant's own, not of the kernel's."""
    ports = place.ports if contestant.name == "sidegate" else (place.port,)
    before = machine.memory(pid)
    with contextlib.ExitStack() as stack:
        loads = []
        for port in ports:
            command = _command(contestant, workload, place, port, workload.connections // len(ports), 30)
            words = processes.pinned(command, processes.LOAD_CORE)
            load = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(load)
            stack.callback(load.kill)
            loads.append(load)
        for load in loads:
            load.stdout.readline()
        time.sleep(REST)
        after = machine.memory(pid)
        held = failed = 0
        for load in loads:
            load.stdin.close()
            line = load.stdout.readline()
            # One that gave up has said nothing.
            counts = json.loads(line) if line else {"held": 0, "failed": 0}
            held += counts["held"]
            failed += counts["failed"]
    per_tunnel = (after - before) / held if held else None
    return {"held": held, "failed": failed, "idle_kib": before, "full_kib": after, "tunnel_kib": per_tunnel}

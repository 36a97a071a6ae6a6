"""What the machine does: CPU time and memory of a contestant, and how much of the machine anybody else uses.

The run has a process namespace of its own, so `/proc` shows it alone. The machine's own `/proc`, where everybody else is, lies
where MACHINE_PROC says.
"""

import contextlib
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .processes import tree

TICKS = os.sysconf("SC_CLK_TCK")
PAUSE = 0.3


@dataclass
class Usage:
    """What one sample took, in CPU seconds. What others took is in cores: programs of this machine that are not of the run,
    the host, and contestants whose turn it was not."""

    wall: float
    user: float
    system: float
    helpers: float
    foreign: float
    stolen: float
    idlers: float
    waited: float = 0
    tries: int = 1

    @property
    def noise(self):
        return self.foreign + self.stolen + self.idlers

    def record(self):
        return asdict(self)


def cpu_seconds(pid):
    """User and system time of a process and all below it, children that have ended included."""
    user = system = 0
    for process in tree(pid):
        times = _times(Path(f"/proc/{process}/stat"))
        user += times[0] + times[2]
        system += times[1] + times[3]
    return user / TICKS, system / TICKS


def _times(stat):
    """utime, stime, cutime and cstime; zeros once the process has ended."""
    try:
        # The name of the program, in parentheses, may have spaces in it.
        fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0, 0, 0, 0
    return tuple(map(int, fields[11:15]))


def memory(pid):
    """Resident KiB of a process and all below it; what they share counts once."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(OSError), open(f"/proc/{process}/smaps_rollup", encoding="ascii") as lines:
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def forget(program):
    """Has the kernel read a program from disk as it is needed. One that was just built or installed lies in the page cache whole,
    and of what is cached the kernel maps more than is used."""
    with contextlib.suppress(OSError), open(program, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _foreign_times():
    """CPU time so far, its own and its ended children's, of each process of the machine that is not of this run."""
    processes = Path(os.environ["MACHINE_PROC"])
    own = os.readlink("/proc/self/ns/pid")
    found = {}
    for process in processes.iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(process / "ns/pid") != own:
                    times = _times(process / "stat")
                    found[process.name] = sum(times[:2]), sum(times[2:])
    return found


def _foreign_ticks(before, after):
    """What others used between two such looks."""
    nothing = 0, 0
    own = sum(times[0] - before.get(process, nothing)[0] for process, times in after.items())
    # What has ended meanwhile is with its parents now, together with what it had used before.
    ended = sum(times[1] - before.get(process, nothing)[1] for process, times in after.items())
    ended -= sum(sum(times) for process, times in before.items() if process not in after)
    return own + max(0, ended)


def _cores():
    """Ticks of all cores together: in use, in all, and taken by the host."""
    with open("/proc/stat", encoding="ascii") as stat:
        values = [int(value) for value in stat.readline().split()[1:9]]
    idle = values[3] + values[4]
    return sum(values) - idle, sum(values), values[7]


def _snapshot(pid, helpers, idlers):
    return {
        "at": time.monotonic(),
        "contestant": cpu_seconds(pid),
        "helpers": sum(sum(cpu_seconds(helper)) for helper in helpers),
        "idlers": sum(sum(cpu_seconds(idler)) for idler in idlers),
        "foreign": _foreign_times(),
        "stolen": _cores()[2],
    }


def metered(work, pid, helpers=(), idlers=()):
    """What `work()` gives, and what the contestant and everybody else used meanwhile."""
    before = _snapshot(pid, helpers, idlers)
    result = work()
    after = _snapshot(pid, helpers, idlers)
    wall = after["at"] - before["at"]
    return result, Usage(
        wall=wall,
        user=after["contestant"][0] - before["contestant"][0],
        system=after["contestant"][1] - before["contestant"][1],
        helpers=after["helpers"] - before["helpers"],
        foreign=_foreign_ticks(before["foreign"], after["foreign"]) / TICKS / wall,
        stolen=(after["stolen"] - before["stolen"]) / TICKS / wall,
        idlers=(after["idlers"] - before["idlers"]) / wall,
    )


def wait_until_quiet(longest, share=0.06, times=2):
    """Waits until the cores are idle, some times running, or for the longest; gives the seconds that took."""
    began = time.monotonic()
    quiet = 0
    while quiet < times and time.monotonic() - began < longest:
        busy, total, _ = _cores()
        time.sleep(PAUSE)
        busy_then, total_then, _ = _cores()
        quiet = quiet + 1 if busy_then - busy < share * max(1, total_then - total) else 0
    return time.monotonic() - began


def in_turn(names, turn):
    """The order of a round: every other one backwards, so that who is measured late is measured early next time."""
    return list(names) if turn % 2 else list(reversed(list(names)))


def sample(work, pid, options, helpers=(), idlers=(), before=None):
    """Takes a sample in a quiet moment, again while others disturb it; gives the least disturbed and its usage."""
    best = None
    for attempt in range(1, options.tries + 1):
        waited = wait_until_quiet(options.settle)
        if before:
            before()
        result, usage = metered(work, pid, helpers, idlers)
        usage.waited, usage.tries = waited, attempt
        if best is None or usage.noise < best[1].noise:
            best = result, usage
        if usage.noise <= options.accept:
            break
    return best

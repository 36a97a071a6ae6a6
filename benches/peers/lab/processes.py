"""The programs that a run starts: each on a core of its own choice, and none left when the run ends."""

import contextlib
import os
import signal
import subprocess
import sys

#: A contestant has one core for itself; whatever else the run starts shares the other.
CONTESTANT_CORE = 0
LOAD_CORE = 1

_running = []


def start(command, core, log, env=None, cwd=None):
    """Starts a program on one core, its output added to a file."""
    with open(log, "ab") as out:
        process = subprocess.Popen(
            pinned(command, core), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd
        )
    _running.append(process)
    return process


def pinned(command, core):
    return ["taskset", "--cpu-list", str(core), *map(str, command)]


def load(command, within, env=None):
    """Runs a program on the load's core to its end and gives what it printed."""
    done = subprocess.run(
        pinned(command, LOAD_CORE), capture_output=True, text=True, timeout=within, env=env, check=False
    )
    if done.returncode != 0:
        raise OSError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def stop(process, within=5):
    """Ends a program and its children, gently at first."""
    children = tree(process.pid)[1:]
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    # A killed parent takes nobody along.
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    if process in _running:
        _running.remove(process)


@contextlib.contextmanager
def stopped_at_the_end():
    """Stops whatever still runs when the block ends, also by a signal."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        for process in list(_running):
            stop(process)


def tree(pid):
    """The process and all below it, parents first."""
    found, rest = [], [pid]
    while rest:
        parent = rest.pop()
        found.append(parent)
        # It may end meanwhile.
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as children:
                    rest += map(int, children.read().split())
    return found

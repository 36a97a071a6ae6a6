"""Runs one part: `python3 -m lab PART SIDEGATE WORK [OPTION...]`, inside the namespaces that `../inside` prepares.

A part is a module called `PART_main` with `contestants()`, `workloads()` and `measure(options)`, which yields one record after
the other as the samples are taken, and `tables(records)`, which gives the text of the report.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from . import processes, report

PARTS = ("dns", "forward")


def options():
    parts = {part: importlib.import_module(f".{part}_main", __package__) for part in PARTS}
    known = "; ".join(f"workloads of {part}: {', '.join(module.workloads())}" for part, module in parts.items())
    parser = argparse.ArgumentParser(prog="benches/peers/run", usage=argparse.SUPPRESS, epilog=known)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("sidegate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="how often each contestant has its turn")
    parser.add_argument("--secs", type=float, default=5, help="how long a sample takes")
    parser.add_argument("--only", type=words, help="these contestants, by name, with commas between them")
    parser.add_argument("--workloads", type=words, help="these workloads, by name, with commas between them")
    parser.add_argument("--out", type=Path, help="a file to which each sample is added, a line of JSON each")
    parser.add_argument("--report", type=Path, help="such a file of earlier runs: prints its tables, measures nothing")
    parser.add_argument("--tries", type=int, default=4, help="how often a sample that others disturb is taken at most")
    parser.add_argument(
        "--accept", type=float, default=0.06, help="how many cores others may use during a sample that counts at once"
    )
    parser.add_argument("--settle", type=float, default=60, help="how many seconds a sample waits for a quiet machine")
    return parser.parse_args()


def words(text):
    return text.split(",")


def pick(wanted, known, what):
    """The known names that are wanted, in the order of the known; all where nothing particular is."""
    for name in wanted or ():
        if name not in known:
            sys.exit(f"benches/peers/run: no {what} is called {name}; there are: {' '.join(known)}")
    return [name for name in known if not wanted or name in wanted]


def main():
    chosen = options()
    part = importlib.import_module(f".{chosen.part}_main", __package__)
    if chosen.report:
        print(part.tables([record for record in report.read(chosen.report) if record["part"] == chosen.part]))
        return
    chosen.only = pick(chosen.only, part.contestants(), "contestant")
    chosen.workloads = pick(chosen.workloads, part.workloads(), "workload")
    records = []
    run = f"{time.time():.0f}"
    with processes.stopped_at_the_end():
        for record in part.measure(chosen):
            record = {"part": chosen.part, "run": run, **record}
            records.append(record)
            if chosen.out:
                with chosen.out.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(record) + "\n")
    print(part.tables(records))


main()

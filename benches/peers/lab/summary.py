"""Puts runs beside each other: `benches/peers/run summary RUN.jsonl...`, each of one part, in the order of the columns.

For each workload Sidegate's number to that of the best peer, as the median of ratios within a round, and whose number that is.
"""

import argparse
from pathlib import Path

from . import dns_report, forward_loads, forward_report, report
from .dns_contestants import LIMIT
from .report import LIMITS, OURS, median, number

#: What is compared of a sample that has it: its key, what it is called, and whether less is better.
RATIOS = (
    ("rate", "rate", False),
    ("octets_per_second", "rate", False),
    ("per_second", "rate", False),
    ("p50_us", "p50", True),
    ("p99_us", "p99", True),
    ("cpu_us", "CPU", True),
    ("cpu_per_gigabyte", "CPU", True),
    ("cpu_per_thousand", "CPU", True),
    ("first_ms", "first answer", True),
    ("first_answer_ms", "first answer", True),
    ("idle_kib", "idle memory", True),
    ("tunnel_kib", "memory of a tunnel", True),
)
SHOWN = {"first_ms": (1, "ms"), "first_answer_ms": (1, "ms"), "idle_kib": (1024, "MiB"), "tunnel_kib": (1, "KiB")}


def keys(workload, sample):
    """What to compare: latency where the rate is given, the rate elsewhere, which is one of bytes where those are the work."""
    rated = "latency" in workload
    in_bytes = {load.name for load in forward_loads.WORKLOADS if load.by == "bytes"}
    left_out = ("per_second", "cpu_per_thousand") if workload in in_bytes else ("octets_per_second", "cpu_per_gigabyte")
    for key, title, less in RATIOS:
        fits = title not in (("rate",) if rated else ("p50", "p99"))
        if key in sample and fits and key not in left_out:
            yield key, title, less


def cell(records, workload, key, less):
    peers = [name for name in report.names(records, "contestant") if name not in (OURS, *LIMITS)]
    best = report.best(records, peers, workload, key, smallest=less)
    ratio = report.ratio(records, OURS, best, workload, key) if best else None
    words = f"{number(ratio, 2)} of {best}" if ratio is not None else "-"
    if key in SHOWN:
        scale, unit = SHOWN[key]
        ours = median(report.values(records, OURS, workload, key))
        return f"{number(ours and ours / scale, 1)} {unit}, {words}"
    limit = report.ratio(records, OURS, LIMIT, workload, key)
    return f"{words}, {number(limit, 2)} of limit" if limit is not None and not less else words


def titles():
    ways = forward_report.TITLES
    found = {"start": "Start and idle memory", **dns_report.TITLES}
    found |= {f"{way}-start": f"{title}: start and idle memory" for way, title in ways.items()}
    return found | {workload.name: f"{ways[workload.way]}: {workload.title}" for workload in forward_loads.WORKLOADS}


def table(runs):
    names, rows = titles(), []
    for workload in dict.fromkeys(workload for run in runs for workload in report.names(run, "workload")):
        ours = next((sample for run in runs for sample in report.of(run, OURS, workload)), {})
        for key, title, less in keys(workload, ours):
            cells = [cell(run, workload, key, less) for run in runs]
            rows.append([names[workload], title, *cells])
    return report.table(["", "", *(f"run {position + 1}" for position in range(len(runs)))], rows)


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run summary")
    parser.add_argument("runs", type=Path, nargs="+", help="files that --out wrote, all of one part")
    print(table([report.read(file) for file in parser.parse_args().runs]))


if __name__ == "__main__":
    main()

"""The tables of the forwarder's part: for each workload medians, what they spread over, and ratios within a round."""

from . import report
from .forward_contestants import DIRECT, LIMIT, WAYS
from .forward_loads import WORKLOADS
from .report import median, number, spread, values

TITLES = {"sni": "By the name in the ClientHello", "connect": "By CONNECT", "tls": "TLS in and out"}
MEGABYTE = 1e6


def tables(records):
    parts = []
    for way in WAYS:
        parts += _started(records, way)
        for workload in WORKLOADS:
            of = [record for record in records if record["workload"] == workload.name]
            if workload.way == way and of:
                make = {"memory": _memory, "latency": _latency}.get(workload.by, _throughput)
                parts += [f"\n### {TITLES[way]}: {workload.title} (`{workload.name}`)\n", make(of, workload)]
    return "\n".join(parts)


def _started(records, way):
    """How long until the first answer, and memory before any load."""
    workload = f"{way}-start"
    of = [record for record in records if record["workload"] == workload]
    rows = [
        [
            name,
            number(median(values(of, name, workload, "first_answer_ms"))),
            number(_mebibytes(values(of, name, workload, "idle_kib")), 1),
        ]
        for name in report.names(of, "contestant")
    ]
    head = ["", "first answer, ms", "idle, MiB"]
    return [f"\n### {TITLES[way]}: the start\n", report.table(head, rows)] if rows else []


def _mebibytes(kibibytes):
    middle = median(kibibytes)
    return None if middle is None else middle / 1024


def _names(records):
    """All contestants, those that are limits, and the others."""
    names = report.names(records, "contestant")
    return names, [name for name in names if name not in (DIRECT, LIMIT)]


def _throughput(records, workload):
    names, forwarders = _names(records)
    limit = LIMIT if LIMIT in names else DIRECT
    in_bytes = workload.by == "bytes"
    key, scale, unit = ("octets_per_second", MEGABYTE, "MB/s") if in_bytes else ("per_second", 1, "per s")
    cpu, of_what, digits = ("cpu_per_gigabyte", "GB", 3) if in_bytes else ("cpu_per_thousand", "1,000", 4)
    best = report.best(records, [name for name in forwarders if name != "sidegate"], workload.name, key)
    rows = []
    for name in names:
        found = [value / scale for value in values(records, name, workload.name, key)]
        rows.append(
            [
                name,
                number(median(found)),
                spread(found),
                number(report.ratio(records, name, limit, workload.name, key), 2),
                number(report.ratio(records, name, best, workload.name, key), 2),
                number(median(values(records, name, workload.name, cpu)), digits),
                *_troubles(records, name, workload),
            ]
        )
    ratios = [f"to {limit}", f"to {best or 'the best'}"]
    return report.table(["", unit, "min..max", *ratios, f"CPU-s per {of_what}", "failed", "noise, %"], rows)


def _latency(records, workload):
    names, _ = _names(records)
    rows = []
    for name in names:
        keys = ("p50_us", "p99_us")
        rows.append(
            [
                name,
                number(median(values(records, name, workload.name, "per_second"))),
                *(number(median(values(records, name, workload.name, key))) for key in keys),
                *(number(_added(records, name, workload.name, key)) for key in keys),
                number(median(values(records, name, workload.name, "cpu_per_thousand")), 4),
                *_troubles(records, name, workload),
            ]
        )
    head = ["", "per s", "p50, us", "p99, us", "added p50", "added p99", "CPU-s per 1,000", "failed", "noise, %"]
    return report.table(head, rows)


def _added(records, name, workload, key):
    """What a forwarder adds to the way straight there, the median of the rounds."""
    straight = {report.moment(record): record[key] for record in report.of(records, DIRECT, workload)}
    if name == DIRECT:
        return None
    return median(
        record[key] - straight[report.moment(record)]
        for record in report.of(records, name, workload)
        if report.moment(record) in straight
    )


def _memory(records, workload):
    rows = []
    for name in _names(records)[0]:
        found = values(records, name, workload.name, "tunnel_kib")
        rows.append(
            [
                name,
                number(median(found), 1),
                spread(found, 1),
                *(number(_mebibytes(values(records, name, workload.name, key)), 1) for key in ("idle_kib", "full_kib")),
                number(median(values(records, name, workload.name, "held"))),
                number(sum(values(records, name, workload.name, "failed"))),
            ]
        )
    return report.table(["", "KiB a tunnel", "min..max", "idle, MiB", "with all, MiB", "held", "failed"], rows)


def _troubles(records, name, workload):
    """What went wrong, and how much of the machine others had meanwhile."""
    noise = median(values(records, name, workload.name, "noise"))
    return number(sum(values(records, name, workload.name, "failed"))), number(noise and 100 * noise)

"""The tables of the part called dns."""

from . import report
from .dns_contestants import LIMIT, OURS
from .report import median, number, spread

TITLES = {
    "private": "Private names: A over UDP, 100 in flight",
    "cached": "Cached names: A over UDP, 100 in flight",
    "mix": "Private and cached names: A, AAAA and HTTPS over UDP, 100 in flight",
    "tcp": "The mix over 20 TCP connections that stay, pipelined, 100 in flight",
    "latency": "The mix over UDP, 10,000 queries a second whatever comes back",
    "misses": "Names that nobody asked before: A over UDP, 100 in flight",
    "misses-dot": "Names that nobody asked before, upstream over TLS: A over UDP, 100 in flight",
    "misses-doh": "Names that nobody asked before, upstream over HTTPS: A over UDP, 100 in flight",
}

NOTES = {
    "misses-dot": "PowerDNS Recursor takes any certificate; the others check the name and the root.",
    "misses-doh": "dnsdist 1.7 leaves Nagle's algorithm on towards its upstream and waits 40 ms for an ACK there. Its rate is "
    "that wait, not what it could do on its core, so neither are ratios to it.",
}


def line(workload, numbers):
    """One sample, for whoever watches the run."""
    if workload == "start":
        idle = number(numbers["idle_kib"] / 1024, 1)
        return f"{number(numbers['first_ms'], 1)} ms to the first answer, {idle} MiB idle"
    rate, cost, typical = number(numbers["rate"]), number(numbers["cpu_us"], 2), number(numbers["p50_us"])
    return (
        f"{rate:>8} q/s  {cost:>6} us CPU  {typical:>5} us median  {numbers['lost']} lost"
        f"  {numbers['failed'] + numbers['wrong']} wrong  {numbers['noise']:.0%} noise  try {numbers['tries']}"
    )


def tables(records):
    parts = []
    workloads = report.names(records, "workload")
    if "start" in workloads:
        parts.append("### Start and idle memory\n\n" + _start(records))
    parts += [
        "\n\n".join(filter(None, [f"### {TITLES[workload]}", _workload(records, workload), NOTES.get(workload)]))
        for workload in workloads
        if workload in TITLES
    ]
    return "\n\n".join(parts)


def _start(records):
    rows = []
    for name in report.names(records, "contestant"):
        first = report.values(records, name, "start", "first_ms")
        idle = [kib / 1024 for kib in report.values(records, name, "start", "idle_kib")]
        if first:
            rows.append([name, number(median(first), 1), spread(first, 1), number(median(idle), 1), spread(idle, 1)])
    return report.table(["", "first answer, ms", "min..max", "idle, MiB", "min..max"], rows)


def _workload(records, workload):
    """At a given rate latency tells them apart, otherwise throughput."""
    rated = workload == "latency"
    key, digits = ("p99_us", 1) if rated else ("rate", 0)
    names = [name for name in report.names(records, "contestant") if report.of(records, name, workload)]
    best = report.best(records, [name for name in names if name not in (LIMIT, OURS)], workload, key, smallest=rated)
    shown = ["p99, us"] if rated else ["queries/s"]
    others = ["p50, us", "p99.9, us", "max, us"] if rated else ["p50, us", "p99, us"]
    other_keys = ["p50_us", "p999_us", "max_us"] if rated else ["p50_us", "p99_us"]
    compared = ["/ limit", f"/ {best or 'best peer'}"]
    head = ["", *shown, "min..max", *compared, "CPU us/query", "min..max", *others, "lost", "wrong", "noise"]
    rows = []
    for name in names:

        def of(key, name=name):
            return report.values(records, name, workload, key)

        rows.append(
            [
                name,
                number(median(of(key)), digits),
                spread(of(key), digits),
                number(report.ratio(records, name, LIMIT, workload, key), 2),
                number(report.ratio(records, name, best, workload, key), 2),
                number(median(of("cpu_us")), 2),
                spread(of("cpu_us"), 2),
                *(number(median(of(other)), 1) for other in other_keys),
                number(sum(of("lost"))),
                # The limit knows no private names.
                number(None if name == LIMIT else sum(of("failed")) + sum(of("wrong"))),
                f"{median(of('noise')):.0%}",
            ]
        )
    return report.table(head, rows)

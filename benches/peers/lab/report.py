"""Medians, ratios of the same round, and tables.

A record is a dictionary with `contestant`, `workload`, `round` and numbers by name.
"""

import json
import statistics

#: Whose numbers are compared, and who does none of the work and stands for what the machine can carry.
OURS, LIMITS = "sidegate", ("limit", "direct")


def read(file):
    """The records that a run wrote with --out."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def names(records, key):
    """What the records have under this key, each once, in the order they came in."""
    return list(dict.fromkeys(record[key] for record in records))


def of(records, contestant, workload):
    return [record for record in records if record["contestant"] == contestant and record["workload"] == workload]


def values(records, contestant, workload, key):
    return [record[key] for record in of(records, contestant, workload) if record.get(key) is not None]


def ratio(records, contestant, other, workload, key):
    """The median of one's value to the other's in the same round: the machine's own speed drifts, and takes both along."""
    theirs = {moment(record): record[key] for record in of(records, other, workload) if record.get(key)}
    return median(
        record[key] / theirs[moment(record)]
        for record in of(records, contestant, workload)
        if record.get(key) is not None and moment(record) in theirs
    )


def moment(record):
    """The run and its round. A file may hold several runs, and their rounds have nothing to do with each other."""
    return record.get("run"), record["round"]


def best(records, contestants, workload, key, smallest=False):
    """Whose median is the best of these; None where none of them has any."""
    medians = {name: median(values(records, name, workload, key)) for name in contestants}
    medians = {name: value for name, value in medians.items() if value is not None}
    return (min if smallest else max)(medians, key=medians.get, default=None)


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def spread(found, digits=0):
    return f"{number(min(found), digits)}..{number(max(found), digits)}" if found else "-"


def table(head, rows):
    """A table in Markdown, the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row):
        first, *rest = (
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if index else "-") for index, width in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])

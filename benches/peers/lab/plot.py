"""Draws what earlier runs wrote with `--out`: `benches/peers/run plot SVG DNS.jsonl [FORWARD.jsonl]`.

A panel for each workload, a bar for each contestant: its length is the median of the rounds, its whisker what the rounds were.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from . import report
from .report import LIMITS, OURS

WIDTH, MARGIN, GAP = 840, 24, 32
COLUMN = (WIDTH - 2 * MARGIN - GAP) // 2
#: Of a panel: room for names, for what stands behind the longest bar, and for its title and axis.
NAMES, BEHIND, ABOVE, BELOW, ROW, BAR = 88, 58, 34, 30, 18, 11
TEXT, FAINT, GRID = "#1f2328", "#59636e", "#e4e8ec"
PEER, PEER_FAINT, ACCENT, ACCENT_FAINT = "#9aa4af", "#d3d9df", "#c2410c", "#f3b594"
#: A sample with more than this share of answers lost, refused or wrong does not count like the others.
TROUBLED = 0.01


@dataclass(frozen=True)
class Panel:
    """One workload; `low` is the key of a second, smaller number, drawn inside the first one's bar."""

    workload: str
    title: str
    unit: str
    key: str = "rate"
    scale: float = 1
    low: str | None = None


DNS = (
    Panel("private", "Private names", "queries/s"),
    Panel("cached", "Cached names", "queries/s"),
    Panel("mix", "Private and cached names, A, AAAA and HTTPS", "queries/s"),
    Panel("tcp", "The same over TCP connections that stay", "queries/s"),
    Panel("misses", "Names that nobody asked before", "queries/s"),
    Panel("latency", "Latency at 10,000/s, p50 and p99: less is better", "µs", "p99_us", low="p50_us"),
)
FORWARD = (
    Panel("sni-connections", "By ClientHello: new connections", "connections/s", "per_second"),
    Panel("sni-bulk", "By ClientHello: 1 MiB a connection", "MB/s", "octets_per_second", 1e6),
    Panel("connect-connections", "By CONNECT: new connections", "connections/s", "per_second"),
    Panel("tls-requests", "TLS in and out: small requests", "requests/s", "per_second"),
)


def text(x, y, words, anchor="start", size=11, fill=TEXT, more=""):
    look = f'font-size="{size}" fill="{fill}" text-anchor="{anchor}"{more}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>'


def line(x, y, to_x, to_y, stroke, more=""):
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{stroke}"{more}/>'


def bar(x, y, width, fill):
    return f'<rect x="{x}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{BAR}" rx="2" fill="{fill}"/>'


def step(longest):
    """A round distance for about four ticks."""
    power = 10 ** math.floor(math.log10(longest / 4))
    return next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= longest / 4)


def short(value):
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    if value >= 10_000:
        return f"{value / 1e3:.0f}k"
    return f"{value:,.0f}"


def tick(value):
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1000 else f"{value:g}"


def troubled(records, name, workload):
    samples = report.of(records, name, workload)
    bad = sum(sample.get(key, 0) for sample in samples for key in ("lost", "failed", "wrong"))
    return bad > TROUBLED * sum(sample.get("sent", sample.get("done", 0)) for sample in samples)


def draw(panel, records, left, top):
    """The panel's elements, its height, and whether any contestant was in trouble."""

    def of(name, key):
        return [value / panel.scale for value in report.values(records, name, panel.workload, key)]

    names = [name for name in report.names(records, "contestant") if of(name, panel.key)]
    limit = next((name for name in LIMITS if name in names), None)
    rows = [name for name in names if name not in LIMITS]
    rows.sort(key=lambda name: report.median(of(name, panel.key)), reverse=panel.low is None)
    longest = max(value for name in [*rows, *filter(None, [limit])] for value in of(name, panel.key))
    start, width = left + NAMES, COLUMN - NAMES - BEHIND
    end = top + ABOVE + len(rows) * ROW

    def at(value):
        return start + width * value / longest

    parts = [text(left, top + 14, panel.title, size=13, more=' font-weight="600"')]
    distance = step(longest)
    for number in range(int(longest / distance + 1e-9) + 1):
        x = at(number * distance)
        parts += [line(x, top + ABOVE - 4, x, end, GRID), text(x, end + 13, tick(number * distance), "middle", 10, FAINT)]
    parts.append(text(left, end + 13, panel.unit, size=10, fill=FAINT))
    if limit:
        x = at(report.median(of(limit, panel.key)))
        parts += [line(x, top + ABOVE - 4, x, end, FAINT, ' stroke-dasharray="3 3"')]
        parts += [text(x, top + ABOVE - 7, limit, "middle", 10, FAINT)]
    marks = False
    for number, name in enumerate(rows):
        y, found, ours = top + ABOVE + number * ROW, of(name, panel.key), name == OURS
        middle, weight = report.median(found), ' font-weight="600"' if ours else ""
        full, faint = (ACCENT, ACCENT_FAINT) if ours else (PEER, PEER_FAINT)
        parts.append(text(start - 6, y + 10, name, "end", fill=ACCENT if ours else TEXT, more=weight))
        parts.append(bar(start, y, at(middle) - start, faint if panel.low else full))
        words = short(middle)
        if panel.low:
            low = report.median(of(name, panel.low))
            parts.append(bar(start, y, at(low) - start, full))
            words = f"{short(low)}, {words}"
        if min(found) < max(found):
            parts += whisker(at(min(found)), at(max(found)), y + BAR / 2)
        if troubled(records, name, panel.workload):
            words, marks = words + " *", True
        # A line of the limit may cross it.
        halo = ' stroke="#fff" stroke-width="3" paint-order="stroke"' + weight
        parts.append(text(at(max(found)) + 5, y + 10, words, more=halo))
    return parts, end + BELOW - top, marks


def whisker(low, high, y):
    return [line(low, y, high, y, TEXT), *(line(x, y - 3, x, y + 3, TEXT) for x in (low, high))]


def section(title, panels, records, top):
    """Panels in two columns, below each other; those without any sample are left out."""
    parts, marks = [text(MARGIN, top + 16, title, size=15, more=' font-weight="600"')], False
    top += 32
    workloads = report.names(records, "workload")
    panels = [panel for panel in panels if panel.workload in workloads]
    for first in range(0, len(panels), 2):
        heights = []
        for number, panel in enumerate(panels[first : first + 2]):
            drawn, height, marked = draw(panel, records, MARGIN + number * (COLUMN + GAP), top)
            parts += drawn
            heights.append(height)
            marks |= marked
        top += max(heights)
    return parts, top, marks


def picture(files):
    records = [record for file in files for record in report.read(file)]
    parts, top, marks, rounds = [], MARGIN + 52, False, []
    for part, title, panels in (("dns", "The resolver", DNS), ("forward", "The forwarder", FORWARD)):
        of = [record for record in records if record["part"] == part]
        if of:
            drawn, top, marked = section(title, panels, of, top)
            parts += drawn
            marks |= marked
            rounds.append(len(report.names(of, "round")))
    counts = " and ".join(map(str, dict.fromkeys(rounds)))
    # Whoever looks must be able to tell a quiet machine from one that others kept busy.
    noise = sorted(record["noise"] for record in records if "noise" in record)
    what = f"One pinned core for each, same run, median of {counts} round{'s' * (max(rounds) > 1)}, whiskers min to max. "
    what += f"9 of 10 samples: others took at most {noise[len(noise) * 9 // 10]:.0%} of a core."
    parts.append(text(MARGIN, MARGIN + 14, "Sidegate beside other programs", size=18, more=' font-weight="600"'))
    parts.append(text(MARGIN, MARGIN + 34, what, fill=FAINT))
    if marks:
        parts.append(text(MARGIN, top + 6, "* More than 1 % of the answers were lost, refused or wrong.", fill=FAINT))
        top += 16
    height = top + MARGIN - 12
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    head += ' font-family="system-ui, -apple-system, \'Segoe UI\', Roboto, sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" rx="12" fill="#fff"/>', *parts, "</svg>\n"])


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run plot")
    parser.add_argument("svg", type=Path, help="the picture to write")
    parser.add_argument("samples", type=Path, nargs="+", help="files that --out wrote")
    chosen = parser.parse_args()
    chosen.svg.write_text(picture(chosen.samples), encoding="utf-8")


if __name__ == "__main__":
    main()

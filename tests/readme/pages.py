"""Links from a page of ours to our own pages and files, and to headings in them."""

import re
from pathlib import Path


def headings(text):
    """The anchors of a page, as GitHub makes them of its headings."""
    found, fenced = set(), False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if fenced or not re.match("#{1,6} ", line):
            continue
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line.lstrip("#").strip()).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while f"{anchor}-{number}" in found or (number == 0 and anchor in found):
            number += 1
        found.add(f"{anchor}-{number}" if number else anchor)
    return found


def dead_links(text, path):
    """Each link of a page, whose text is given, that leads nowhere. Other hosts are not asked."""
    unfenced = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", unfenced):
        if re.match("[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = Path(path).parent / name if name else Path(path)
        if not there.exists():
            yield f"links to {target}, which is not there"
        elif anchor and anchor not in headings(text if not name else there.read_text(encoding="utf-8")):
            yield f"links to {target}: there is no such heading"

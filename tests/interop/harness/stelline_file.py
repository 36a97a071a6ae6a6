"""Reads scenarios in the format of Stelline (NLnet Labs' testbound, CZ.NIC's Deckard), as far as ../stelline uses it.

README.md there lists the words. A word that is not known is an error: a scenario that is half understood would pass.
"""

import ipaddress
import re
from dataclasses import dataclass, field

import dns.flags
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype

FLAGS = {name: getattr(dns.flags, name) for name in ("QR", "AA", "TC", "RD", "RA", "AD", "CD")}
#: What MATCH may compare.
FIELDS = {
    "opcode", "qname", "qtype", "qcase", "subdomain", "flags", "rcode", "question", "answer", "authority", "additional",
    "ttl", "UDP", "TCP", "DO", "edns", "noedns", "all",
}
ADJUSTMENTS = {"copy_id", "copy_query", "do_not_answer", "close", "from_elsewhere", "flip_case", "raw"}


class ScenarioError(Exception):
    """The file is not a scenario."""


@dataclass
class Record:
    owner: dns.name.Name
    ttl: int
    rtype: int
    rdata: dns.rdata.Rdata

    def key(self, with_ttl):
        return (self.owner.canonicalize(), int(self.rtype), self.rdata.to_digestable(), self.ttl if with_ttl else None)


@dataclass
class Entry:
    """A query, a reply, or what one of them must be."""

    match: set = field(default_factory=set)
    #: Extended errors that must be there.
    ede: set = field(default_factory=set)
    #: The least and the most that every TTL may be.
    ttls: tuple | None = None
    adjust: set = field(default_factory=set)
    #: Seconds before the reply, octets of it that are sent.
    sleep: float = 0.0
    cut: int | None = None
    reply: set = field(default_factory=set)
    opcode: int = 0
    rcode: int = 0
    raw: bytes = b""
    question: tuple | None = None
    answer: list = field(default_factory=list)
    authority: list = field(default_factory=list)
    additional: list = field(default_factory=list)
    #: How often it has been the reply.
    used: int = 0
    most: int | None = None

    @property
    def flags(self):
        return sum(FLAGS[word] for word in self.reply if word in FLAGS)


@dataclass
class Range:
    start: int
    end: int
    address: str
    entries: list = field(default_factory=list)


@dataclass
class Step:
    number: int
    kind: str
    entry: Entry | None = None
    words: list = field(default_factory=list)


@dataclass
class Scenario:
    title: str
    config: str
    ranges: list
    steps: list


def parse(text):
    """The scenario in a file."""
    lines = iter(_lines(text))
    config, title, ranges, steps = [], None, [], []
    for line in lines:
        if line.strip() == "CONFIG_END":
            break
        config.append(line)
    for line in lines:
        word, *rest = line.split()
        if word == "SCENARIO_BEGIN":
            title = " ".join(rest)
        elif word == "RANGE_BEGIN":
            ranges.append(_range(lines, *map(int, rest)))
        elif word == "STEP":
            steps.append(_step(lines, int(rest[0]), *rest[1:]))
        elif word == "SCENARIO_END":
            break
        else:
            raise ScenarioError(f"{line!r} has no place in a scenario")
    if not title or not steps:
        raise ScenarioError("no SCENARIO_BEGIN with a title, or no STEP")
    return Scenario(title, "\n".join(config), ranges, steps)


def _lines(text):
    """Lines without comments, which begin with a semicolon; empty ones are left out."""
    for line in text.splitlines():
        line = re.sub(r"(^|\s);.*", "", line).rstrip()
        if line:
            yield line


def _range(lines, start, end):
    made = Range(start, end, "")
    for line in lines:
        word, *rest = line.split()
        if word == "ADDRESS":
            made.address = str(ipaddress.ip_address(rest[0]))
        elif word == "ENTRY_BEGIN":
            made.entries.append(_entry(lines))
        elif word == "RANGE_END":
            break
        else:
            raise ScenarioError(f"{line!r} has no place in a range")
    return made


def _step(lines, number, kind, *words):
    if kind in ("TIME_PASSES", "CHECK_ASKED", "CHECK_METRIC"):
        return Step(number, kind, words=list(words))
    if kind not in ("QUERY", "CHECK_ANSWER") or next(lines).strip() != "ENTRY_BEGIN":
        raise ScenarioError(f"step {number} is no {kind}")
    return Step(number, kind, _entry(lines), list(words))


def _entry(lines):
    entry, section = Entry(), None
    for line in lines:
        word, *rest = line.split()
        if word == "ENTRY_END":
            return entry
        if word == "MATCH":
            _match(entry, rest)
        elif word == "ADJUST":
            _adjust(entry, rest)
        elif word == "REPLY":
            _reply(entry, rest)
        elif word == "OPCODE":
            entry.opcode = int(rest[0])
        elif word == "RAW":
            entry.raw = bytes.fromhex("".join(rest))
        elif word == "SECTION":
            section = rest[0].lower()
        elif section == "question":
            rtype = dns.rdatatype.from_text(rest[-1])
            entry.question = (dns.name.from_text(word), rtype, dns.rdataclass.from_text(rest[0]))
        elif section in ("answer", "authority", "additional"):
            getattr(entry, section).append(_record(word, rest))
        else:
            raise ScenarioError(f"{line!r} has no place in an entry")
    raise ScenarioError("an entry does not end")


def _match(entry, words):
    for word in words:
        name, _, value = word.partition("=")
        if name == "ede":
            entry.ede.add(int(value))
        elif name == "ttls":
            least, most = value.split("-")
            entry.ttls = (int(least), int(most))
        elif word in FIELDS:
            entry.match.add(word)
        else:
            raise ScenarioError(f"MATCH {word} is not known")
    if "all" in entry.match:
        entry.match |= {"opcode", "qname", "qtype", "flags", "rcode", "answer", "authority", "additional"}


def _adjust(entry, words):
    for word in words:
        name, _, value = word.partition("=")
        if name == "sleep":
            entry.sleep = float(value)
        elif name == "cut":
            entry.cut = int(value)
        elif name == "times":
            entry.most = int(value)
        elif word in ADJUSTMENTS:
            entry.adjust.add(word)
        else:
            raise ScenarioError(f"ADJUST {word} is not known")


def _reply(entry, words):
    for word in words:
        if word in FLAGS or word in ("DO", "EDNS"):
            entry.reply.add(word)
        else:
            entry.rcode = dns.rcode.from_text(word)


def _record(owner, words):
    """`owner [TTL] [IN] TYPE data`."""
    words = list(words)
    ttl = int(words.pop(0)) if words[0].isdigit() else 300
    if words[0] == "IN":
        words.pop(0)
    rtype = dns.rdatatype.from_text(words.pop(0))
    rdata = dns.rdata.from_text(dns.rdataclass.IN, rtype, " ".join(words), origin=dns.name.root, relativize=False)
    return Record(dns.name.from_text(owner), ttl, rtype, rdata)

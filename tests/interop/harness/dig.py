"""dig as the client: what it is told to ask, and its answer taken apart."""

import re
from dataclasses import dataclass, field

from .processes import run

HEADER = re.compile(r"^;; ->>HEADER<<- opcode: (\S+), status: (\S+), id: (\d+)", re.M)
FLAGS = re.compile(r"^;; flags:([a-z ]*);(?: MBZ: (\S+);)? (?:QUERY|ZONE): (\d+),", re.M)
EDNS = re.compile(r"^; EDNS: version: (\d+), flags:([a-z ]*);(?: MBZ: (\S+),)? udp: (\d+)", re.M)
OPTION = re.compile(r"^; (EDE|OPT=\d+|NSID|COOKIE|CLIENT-SUBNET|EXPIRE|TCP[- ]KEEPALIVE|PAD)\b:?\s*(.*)$", re.M)
SECTION = re.compile(r"^;; (QUESTION|ANSWER|AUTHORITY|ADDITIONAL) SECTION:\n((?:.+\n?)*)", re.M)


@dataclass
class Reply:
    """What dig printed for one question."""

    status: str = ""
    opcode: str = ""
    flags: set = field(default_factory=set)
    #: The header bit that must be zero, if it is not.
    mbz: bool = False
    #: EDNS version, None without an OPT record.
    edns: int | None = None
    edns_flags: set = field(default_factory=set)
    edns_mbz: bool = False
    udp: int = 0
    #: Option name and text, extended errors as EDE.
    options: list = field(default_factory=list)
    question: str = ""
    #: Section name to lists of (owner, ttl, type, data).
    sections: dict = field(default_factory=dict)
    text: str = ""

    @classmethod
    def parse(cls, text):
        reply = cls(text=text)
        if header := HEADER.search(text):
            reply.opcode, reply.status = header[1], header[2]
        if flags := FLAGS.search(text):
            reply.flags, reply.mbz = set(flags[1].split()), bool(flags[2])
        if edns := EDNS.search(text):
            reply.edns, reply.udp = int(edns[1]), int(edns[4])
            reply.edns_flags, reply.edns_mbz = set(edns[2].split()), bool(edns[3])
            reply.options = OPTION.findall(text)
        for name, body in SECTION.findall(text):
            lines = [line for line in body.splitlines() if line]
            if name == "QUESTION":
                reply.question = lines[0].lstrip(";").split()[0] if lines else ""
                continue
            reply.sections[name] = [(owner, int(ttl), rtype, data)
                                    for owner, ttl, _, rtype, data in (line.split(None, 4) for line in lines)]
        return reply

    @property
    def answer(self):
        return self.sections.get("ANSWER", [])

    @property
    def authority(self):
        return self.sections.get("AUTHORITY", [])

    def data(self, rtype):
        """The data of the answer's records of one type, sorted."""
        return sorted(data for _, _, kind, data in self.answer if kind == rtype)

    def has(self, rtype, section="ANSWER"):
        return any(kind == rtype for _, _, kind, _ in self.sections.get(section, []))

    @property
    def extended(self):
        """The codes of its extended errors, and their text."""
        found = [re.match(r"(\d+)(.*)", text) for name, text in self.options if name == "EDE"]
        return {int(match[1]): match[2] for match in found if match}


def dig(*words, server="127.0.0.1", port=53, within=15):
    """One dig."""
    code, out, error = run(["dig", f"@{server}", "-p", port, "+tries=1", "+timeout=6", "+nocookie", *words], within)
    return Reply.parse(out if code == 0 else out + error)


def batch(questions, work, server="127.0.0.1", port=53, within=120):
    """Many questions, each a string of words, by one dig; a reply for each, in order."""
    path = work / "dig-batch"
    path.write_text("".join(f"{question}\n" for question in questions), encoding="utf-8")
    _, out, _ = run(["dig", f"@{server}", "-p", port, "+tries=1", "+timeout=6", "+nocookie", "-f", path], within)
    parts = re.split(r"^; <<>> DiG .*$", out, flags=re.M)[1:]
    if len(parts) != len(questions):
        raise AssertionError(f"dig printed {len(parts)} replies to {len(questions)} questions:\n{out[-2000:]}")
    return [Reply.parse(part) for part in parts]

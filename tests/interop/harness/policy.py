"""Every row of the policy's table, asked with dig: UDP and TCP, several types, in lower and in mixed case."""

from dataclasses import dataclass, field

from .dig import batch
from .world import BEYOND, ENDPOINT, LOCAL, PUBLIC, VPC, ZONE

TYPES = ["A", "AAAA", "HTTPS", "SVCB", "TXT", "ANY", "CNAME"]
FIRST, BOUND, UNKNOWN_ENDPOINT = ("vpce-" + pair * 8 + "0" for pair in ("0a", "0b", "0c"))
FRANKFURT = "execute-api.eu-central-1.amazonaws.com"

POLICY = f"""
[policy]
region = "us-east-1"
private_api_ids = ["privapi123"]
always_public = ["always1234", "forced1234.{ZONE}"]
private_names = {{ "orders.corp.example" = "{FIRST}" }}

[[endpoint]]
vpce_id = "{FIRST}"

[[endpoint]]
vpce_id = "{BOUND}"
addresses = ["10.53.1.20", "fd53::1:20"]
private_api_ids = ["boundapi12"]
health = "off"

[[endpoint]]
region = "eu-central-1"
dns_name = "vpce-0d0d0d0d0d0d0d0d0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com"
"""

UPSTREAM = f"""
public = ["udp://{PUBLIC}"]
vpc = ["{VPC}"]
default = "@DEFAULT@"
[[upstream.zone]]
name = "corp.internal"
servers = ["{VPC}"]
"""


@dataclass
class Endpoint:
    """The name answers with an endpoint's addresses and nothing else."""

    v4: list = field(default_factory=lambda: ENDPOINT)
    v6: list = field(default_factory=list)

    def problems(self, qtype, name, reply, _peer, _upstream):
        yield from own_flags(name, reply)
        wanted = {"A": self.v4, "AAAA": self.v6}.get(qtype, [])
        if qtype == "ANY":
            if [(owner, kind, data) for owner, _, kind, data in reply.answer] != [(f"{name}.", "HINFO", '"RFC8482" ""')]:
                yield f"not the answer of RFC 8482: {reply.answer}"
        elif wanted:
            if reply.status != "NOERROR" or reply.data(qtype) != sorted(wanted) or len(reply.answer) != len(wanted):
                yield f"{reply.status} {reply.answer}, not {wanted}"
            if any(owner != f"{name}." or not 5 <= ttl <= 60 for owner, ttl, _, _ in reply.answer):
                yield f"owner or TTL (5 to 60): {reply.answer}"
        else:
            yield from no_answer("NOERROR", reply)


class NoSuchName:
    """The policy says that the name does not exist."""

    @staticmethod
    def problems(_qtype, name, reply, _peer, _upstream):
        yield from own_flags(name, reply)
        yield from no_answer("NXDOMAIN", reply)


@dataclass
class AsPeer:
    """The answer is the peer's, record for record; for A it has these addresses."""

    addresses: list
    status: str = "NOERROR"

    def problems(self, qtype, name, reply, peer, _upstream):
        yield from own_flags(name, reply)
        if qtype == "A" and (reply.status != self.status or reply.data("A") != sorted(self.addresses)):
            yield f"{reply.status} {reply.data('A')}, not {self.status} {self.addresses}"
        if (reply.status, records(reply.answer)) != (peer.status, records(peer.answer)):
            yield f"{reply.status} {reply.answer}\nnot the peer's {peer.status} {peer.answer}"


@dataclass
class Chain:
    """The CNAME rule: these aliases, then what the policy says of the last. CNAME and ANY show the alias as it is."""

    aliases: list
    tail: object
    #: With which default upstreams the peer's answer is cut, so that its records get one TTL.
    cut: tuple = ("vpc",)
    dname: bool = False

    def problems(self, qtype, name, reply, peer, upstream):
        yield from own_flags(name, reply)
        if qtype in ("CNAME", "ANY"):
            if (reply.status, records(reply.answer)) != (peer.status, records(peer.answer)):
                yield f"{reply.status} {reply.answer}\nnot the peer's {peer.status} {peer.answer}"
            return
        links = [data.rstrip(".").lower() for _, _, kind, data in reply.answer if kind == "CNAME"]
        if links != self.aliases:
            yield f"aliases {links}, not {self.aliases}"
        if upstream in self.cut and len({ttl for _, ttl, _, _ in reply.answer}) > 1:
            yield f"not one TTL: {reply.answer}"
        if reply.has("DNAME") != self.dname:
            yield f"DNAME: {reply.answer}"
        wanted = self.tail.get(qtype, [])
        rest = [data for _, _, kind, data in reply.answer if kind not in ("CNAME", "DNAME")]
        if sorted(rest) != sorted(wanted):
            yield f"{rest}, not {wanted}"
        status = self.tail.get("status", "NOERROR")
        if reply.status != status or not wanted and not reply.has("SOA", "AUTHORITY"):
            yield f"{reply.status}, not {status}, or no SOA: {reply.authority}"


def records(section):
    """Names without their case, which `case_survives` looks at; text in quotes keeps it."""
    return sorted((owner.lower(), kind, data if '"' in data else data.lower()) for owner, _, kind, data in section)


def own_flags(name, reply):
    if not {"qr", "rd", "ra"} <= reply.flags or reply.flags & {"aa", "tc"}:
        yield f"flags {sorted(reply.flags)}: {reply.text.strip()[:300]}"
    if reply.question != f"{name}.":
        yield f"question {reply.question}: case is not echoed"


def no_answer(status, reply):
    """A negative answer of our own."""
    soa = [(ttl, data) for _, ttl, kind, data in reply.authority if kind == "SOA"]
    if reply.status != status or reply.answer or len(soa) != 1 or soa[0][0] > 10:
        yield f"not {status} with one SOA of at most 10 s: {reply.status} {reply.answer} {reply.authority}"


def mixed(name):
    """The name in an odd mixture of cases."""
    return "".join(letter.upper() if place % 3 else letter for place, letter in enumerate(name))


PUBLIC_API = AsPeer(["198.51.100.10", "198.51.100.11"])
CUSTOM = {"A": ["198.51.100.20"], "AAAA": ["2001:db8:a::20"]}
FRANKFURT_ENDPOINT = Endpoint(["10.53.1.30"], ["fd53::1:30"])
BOUND_ENDPOINT = Endpoint(["10.53.1.20"], ["fd53::1:20"])
TARGET = f"d-custom1234.{ZONE}"

BOTH = ("public", "vpc")

#: Rule, name, what is expected. The CNAME rule stands below the table in the design and here.
ROWS = [
    ("0", f"always1234.{ZONE}", AsPeer(["198.51.100.12"])),
    ("0", f"forced1234.{ZONE}", AsPeer(["198.51.100.13"])),
    ("0", "orders.corp.example", Endpoint()),
    ("1", ZONE, Endpoint()),
    ("1", FRANKFURT, FRANKFURT_ENDPOINT),
    ("2", f"privapi123.{ZONE}", Endpoint()),
    ("2", f"boundapi12.{ZONE}", BOUND_ENDPOINT),
    ("2", f"privapi123.{FRANKFURT}", FRANKFURT_ENDPOINT),
    ("3", f"pubapi1234-{FIRST}.{ZONE}", Endpoint()),
    ("3", f"privapi123-{BOUND}.{ZONE}", BOUND_ENDPOINT),
    ("3", f"pubapi1234-{UNKNOWN_ENDPOINT}.{ZONE}", AsPeer(["10.53.1.99"])),
    ("4", f"below.privapi123.{ZONE}", NoSuchName),
    ("4", f"a.b.boundapi12.{ZONE}", NoSuchName),
    ("4", f"below.pubapi1234-{FIRST}.{ZONE}", NoSuchName),
    ("4", "below.orders.corp.example", NoSuchName),
    ("5", f"pubapi1234.{ZONE}", PUBLIC_API),
    ("5", TARGET, AsPeer(CUSTOM["A"])),
    ("5", f"d-chained123.{ZONE}", AsPeer(CUSTOM["A"])),
    ("5", f"nobody9876.{ZONE}", AsPeer([], "NXDOMAIN")),
    ("5", f"xprivapi123.{ZONE}", AsPeer([], "NXDOMAIN")),
    ("7", f"privapi123.{ZONE.replace('us-east-1', 'eu-west-1')}", AsPeer(["198.51.100.30"])),
    ("7", f"pubapi1234.{ZONE.replace('us-east-1', 'eu-west-1')}", AsPeer(["198.51.100.31"])),
    ("7", f"privapi123.{ZONE.replace('api.', 'api-fips.', 1)}", AsPeer(["198.51.100.32"])),
    ("7", f"privapi123.x{ZONE}", AsPeer(["198.51.100.35"])),
    ("7", f"privapi123.{ZONE}.svc.cluster.local", AsPeer([], "NXDOMAIN")),
    ("7", "s3.us-east-1.amazonaws.com", AsPeer(["198.51.100.33"])),
    ("7", "www.example.com", AsPeer(["198.51.100.3", "198.51.100.4", "198.51.100.5"])),
    ("CNAME", "api.example.com", Chain([TARGET], CUSTOM)),
    ("CNAME", "api2.example.com", Chain(["api3.example.com", f"d-chained123.{ZONE}", TARGET], CUSTOM)),
    ("CNAME", "apigone.example.com", Chain([f"d-gone123456.{ZONE}"], {"status": "NXDOMAIN"})),
    ("CNAME", "privalias.example.com", Chain([f"privapi123.{ZONE}"], {"A": ENDPOINT}, BOTH)),
    ("CNAME", "belowalias.example.com", Chain([f"below.privapi123.{ZONE}"], {"status": "NXDOMAIN"}, BOTH)),
    ("CNAME", "apexalias.example.com", Chain([ZONE], {"A": ENDPOINT}, BOTH)),
    ("CNAME", "d-custom1234.captured.example.com", Chain([TARGET], CUSTOM, dname=True)),
    ("CNAME", "edgeapi.example.com", Chain(["edge.example.net"], {"A": ["198.51.100.81"]}, ())),
]
#: Rules that need the VPC's resolver as the peer.
INSIDE = [
    ("6", "db.corp.internal", AsPeer(["10.53.7.7"])),
    ("6", "corp.internal", AsPeer([])),
    ("6", "nowhere.corp.internal", AsPeer([], "NXDOMAIN")),
    ("CNAME", "orders.corp.internal", Chain([TARGET], CUSTOM)),
]


def ask_all(world, rows, peer, upstream):
    """For each row the problems found over all types, transports and spellings."""
    asked = [(row, name, qtype, transport)
             for row in rows for qtype in TYPES for transport in ("", " +tcp") for name in (row[1], mixed(row[1]))]
    questions = [f"{name} {qtype}{transport or ' +notcp'}" for _, name, qtype, transport in asked]
    ours = batch(questions, world.work)
    theirs = {}
    for (_, name, qtype, _), reply in zip(asked, batch([f"{n} {q} +tcp" for _, n, q, _ in asked], world.work, peer)):
        theirs[name, qtype] = reply
    found = {}
    for (row, name, qtype, transport), reply in zip(asked, ours):
        rule, lower, expected = row
        for problem in expected.problems(qtype, name, reply, theirs[name, qtype], upstream):
            found.setdefault((rule, lower), []).append(f"{name} {qtype}{transport}: {problem}")
    return found


def check_rows(world, report, rows, peer, upstream, label=""):
    found = ask_all(world, rows, peer, upstream)
    for rule, name, expected in rows:
        title = rule if rule == "CNAME" else f"rule {rule}"
        report.check(f"{title:7} {name}{label}: {described(expected)}", found.get((rule, name), []))


def case_survives(world, report):
    """Only the question's own name takes the case of the question; other names stay as the peer wrote them."""
    problems = []
    for lower, qtype in (("api.example.com", "A"), ("corp.internal", "ANY"), ("example.com", "MX"), ("nowhere.example.com", "A")):
        name = mixed(lower)
        plain, odd = batch([f"{lower} {qtype} +tcp", f"{name} {qtype} +tcp"], world.work)
        for section in ("ANSWER", "AUTHORITY"):
            wanted = sorted((name + "." if owner == lower + "." else owner, kind, data)
                            for owner, _, kind, data in plain.sections.get(section, []))
            got = sorted((owner, kind, data) for owner, _, kind, data in odd.sections.get(section, []))
            if got != wanted:
                problems.append(f"{name} {qtype}: {got}\nnot {wanted}")
    report.check("names in records keep their case when the question comes in another", problems)


def described(expected):
    match expected:
        case Endpoint():
            return "endpoint " + " ".join(expected.v4 + expected.v6)
        case AsPeer():
            return " ".join(["as the peer,", expected.status, *expected.addresses])
        case Chain():
            return f"{len(expected.aliases)} aliases, then " + " ".join(expected.tail.get("A", [])
                                                                        or [expected.tail.get("status", "NODATA")])
        case _:
            return "does not exist"


def check(world, report, short):
    report.section(f"Policy: {len(TYPES)} types, UDP and TCP, lower and mixed case")
    sidegate = world.run_sidegate(world.configuration(POLICY, listen=[f"{LOCAL}:53", f"{BEYOND}:53"],
                                                      upstream=UPSTREAM.replace("@DEFAULT@", "public")))
    check_rows(world, report, ROWS, PUBLIC, "public")
    check_rows(world, report, INSIDE, VPC, "vpc")
    case_survives(world, report)
    code = sidegate.stop()
    report.check("SIGTERM ends it with 0", [] if code == 0 else f"exit {code}: {sidegate.output()[-1000:]}")

    report.section("Policy with the VPC's resolver as the default, which captures every name of the zone")
    rows = [row for row in ROWS if row[0] in ("7", "CNAME")]
    if short:
        rows = [row for row in rows if row[0] == "CNAME"]
    sidegate = world.run_sidegate(world.configuration(POLICY, upstream=UPSTREAM.replace("@DEFAULT@", "vpc")))
    check_rows(world, report, rows, VPC, "vpc", label=" (vpc)")
    [reply] = batch(["api.signed.example A +dnssec +adflag"], world.work)
    report.check("CNAME   api.signed.example with DO: AD is clear, the alias keeps its signature", [
        problem for problem, true in [
            (f"AD is set: {reply.answer}", "ad" in reply.flags),
            (f"no RRSIG of the CNAME: {reply.answer}",
             not any(kind == "RRSIG" and data.startswith("CNAME ") for _, _, kind, data in reply.answer)),
            (f"{reply.data('A')}, not {CUSTOM['A']}", reply.data("A") != CUSTOM["A"]),
        ] if true])
    sidegate.stop()

    report.section("Policy without a list of ids: what public DNS does not know goes to the endpoint")
    learned = '[policy]\nregion = "us-east-1"\n[[discovery]]\nkind = "learned"\n'
    sidegate = world.run_sidegate(world.configuration(learned, upstream=UPSTREAM.replace("@DEFAULT@", "public")))
    rows = [
        ("2", f"nobody9876.{ZONE}", Endpoint()),
        ("5", f"pubapi1234.{ZONE}", PUBLIC_API),
        ("5", f"d-gone123456.{ZONE}", AsPeer([], "NXDOMAIN")),
        ("5", TARGET, AsPeer(CUSTOM["A"])),
    ]
    check_rows(world, report, rows, PUBLIC, "public", label=" (learned)")
    sidegate.stop()

"""What a peer answers and what Sidegate makes of it, record by record.

Both are asked the same question; whatever differs is a finding unless the contract says so (see `differences`).
"""

import concurrent.futures
import random
import socket
import struct
from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.flags
import dns.name
import dns.rcode
import dns.rdatatype

import dns.message

from .world import DNSMASQ, LOCAL, PUBLIC, TLS_NAME, UNBOUND, VPC

#: Asked for every name.
COMMON = ["A", "AAAA", "CNAME", "MX", "TXT", "HTTPS", "ANY", "DS"]
#: Asked where there is something to find, or a proof that there is nothing.
SPECIAL = {
    "example.com": ["NS", "SOA", "CAA", "DNSKEY", "TYPE65280"],
    "_sip._tcp.example.com": ["SRV"],
    "naptr.example.com": ["NAPTR"],
    "svc.example.com": ["SVCB"],
    "sshfp.example.com": ["SSHFP"],
    "loc.example.com": ["LOC"],
    "hinfo.example.com": ["HINFO"],
    "rp.example.com": ["RP"],
    "ptr.example.com": ["PTR"],
    "afsdb.example.com": ["AFSDB"],
    "kx.example.com": ["KX"],
    "tlsa.example.com": ["TLSA"],
    "uri.example.com": ["URI"],
    "eui48.example.com": ["EUI48"],
    "caa.example.com": ["CAA"],
    "ds.example.com": ["NS"],
    "unknown.example.com": ["TYPE65280", "TYPE65281", "TYPE731", "TYPE65282"],
    "aliasunk.example.com": ["TYPE65280"],
    "x.dname.example.com": ["DNAME"],
    "dname.example.com": ["DNAME"],
    "signed.example": ["NS", "SOA", "DNSKEY", "NSEC", "RRSIG", "NSEC3PARAM", "CDS"],
    "_sip._tcp.signed.example": ["SRV"],
    "unknown.signed.example": ["TYPE65280"],
    ".": ["NS", "SOA"],
}
LONGEST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 49, "example.com"])
NAMES = [
    *SPECIAL,
    *(
        f"{label}.example.com"
        for label in (
            "www v4only v6only shortttl longttl zerottl mail https httpsalias txt emptytxt medium large huge manymx "
            "alias aliasnx aliasnodata aliasout hop1 chain1 chain2 chain3 loop1 sub.dname captured wild any.wild deep.any.wild "
            "taken.wild below.taken.wild x.wildalias ent b.ent a.b.ent x.ent mixed.case MiXeD.CaSe UPPER under_score -dash- "
            "sp\\032ace do\\.t "
            'at\\@sign quo\\"te semi\\;colon back\\\\slash \\000\\001 \\195\\188ber \\255 star\\* xn--bcher-kva '
            "1.2.3.4 nowhere a.nowhere \\*.wild edgeapi"
        ).split()
    ),
    LONGEST,
    "a" * 63 + ".example.com",
    *(
        f"{label}.signed.example"
        for label in (
            "www txt mail alias aliasout aliasnx any.wild a.b.ent ent https nowhere a.nowhere x.dname dname"
        ).split()
    ),
    "bogus.example",
    "www.bogus.example",
    "nowhere.bogus.example",
    "ns.example.net",
    "com",
    "nowhere",
    "1.0.0.127.in-addr.arpa",
]
SHORT_NAMES = [name for name in NAMES if name in SPECIAL or "wild" in name or "signed" in name or "\\" in name] + [
    f"{label}.example.com" for label in "www huge large chain1 hop1 aliasnx MiXeD.CaSe a.b.ent ent nowhere".split()
]


@dataclass(frozen=True)
class Mode:
    """How a question is put."""

    name: str
    edns: bool = True
    size: int = 1232
    dnssec: bool = False
    flags: int = dns.flags.RD
    tcp: bool = False

    def query(self, name, rtype):
        query = dns.message.make_query(dns.name.from_text(name), rtype, want_dnssec=self.dnssec)
        query.flags = self.flags
        if self.edns:
            query.use_edns(0, dns.flags.DO if self.dnssec else 0, payload=self.size)
        else:
            query.use_edns(-1)
        return query


MODES = [
    Mode("plain"),
    Mode("+dnssec", dnssec=True),
    Mode("+adflag", flags=dns.flags.RD | dns.flags.AD),
    Mode("+cdflag", flags=dns.flags.RD | dns.flags.CD),
    Mode("+cdflag +dnssec", flags=dns.flags.RD | dns.flags.CD, dnssec=True),
    Mode("+noedns", edns=False),
    Mode("+tcp", tcp=True),
    Mode("+tcp +dnssec", tcp=True, dnssec=True),
    Mode("+bufsize=512", size=512),
    Mode("+bufsize=4096", size=4096),
]


class Stream:
    """One TCP connection with questions one after another, opened again when the other side has closed it."""

    def __init__(self, address):
        self._address = address
        self._socket = None

    def ask(self, query, timeout=8):
        for attempt in range(2):
            try:
                if self._socket is None:
                    self._socket = socket.create_connection((self._address, 53), timeout)
                self._socket.sendall(struct.pack("!H", len(query)) + query)
                (length,) = struct.unpack("!H", self._read(2))
                return self._read(length)
            except (OSError, EOFError):
                self._socket = None
                if attempt:
                    raise
        return None

    def _read(self, count):
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data


class Asker:
    """Asks one server; for one thread."""

    def __init__(self, address):
        self._address = address
        self._stream = Stream(address)

    def ask(self, query, tcp):
        """The reply and its length on the wire."""
        if tcp:
            wire = self._stream.ask(query.to_wire())
            return dns.message.from_wire(wire), len(wire)
        wire = query.to_wire()
        for attempt in range(2):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.settimeout(6)
                udp.connect((self._address, 53))
                udp.send(wire)
                try:
                    reply = udp.recv(65536)
                    return dns.message.from_wire(reply), len(reply)
                except TimeoutError:
                    if attempt:
                        raise
        return None, 0


def records(section, asked, cached):
    """Each record as text, without its TTL, and the TTLs. Names keep their case, but that of the name that was asked,
    which some write as in the question and some as in the zone; and a cache gives owners the case in which somebody
    asked for them before."""
    found = {}
    for rrset in section:
        owner = asked if rrset.name == asked else rrset.name.canonicalize() if cached else rrset.name
        for rdata in rrset:
            found[owner.to_text(), dns.rdatatype.to_text(rrset.rdtype), rdata.to_text()] = rrset.ttl
    return found


def extended_errors(message):
    return sorted(int(option.code) for option in message.options if option.otype == dns.edns.OptionType.EDE)


#: Peers that answer from a cache of their own. What that holds when they are asked decides what they say to ANY and
#: RRSIG, and what they add to the answer: both are compared with the others only.
CACHES = {VPC, UNBOUND}

#: RFC 8914 section 4.23.
NO_REACHABLE_AUTHORITY = 22

#: Flags of the header that must be the peer's. AA is never set by us; TC is judged by size.
COMPARED = dns.flags.QR | dns.flags.RD | dns.flags.RA | dns.flags.AD | dns.flags.CD


def differences(query, mode, theirs, ours, full, cached):
    """What differs without leave. `full` is the peer's whole reply, over TCP where its own was cut."""
    asked = query.question[0].name
    if ours.rcode() != theirs.rcode():
        yield f"{dns.rcode.to_text(ours.rcode())}, peer {dns.rcode.to_text(theirs.rcode())}"
    if (ours.flags ^ theirs.flags) & COMPARED or ours.flags & dns.flags.AA:
        yield f"flags {dns.flags.to_text(ours.flags)}, peer {dns.flags.to_text(theirs.flags)}"
    if (ours.edns >= 0) != mode.edns:
        yield "OPT record" if ours.edns >= 0 else "no OPT record"
    if ours.edns >= 0 and theirs.edns >= 0 and (ours.ednsflags ^ theirs.ednsflags) & dns.flags.DO:
        yield "DO bit"
    # A cache may give another reason for the same failure when it is asked again; for a failure without any we say that
    # no server had an answer.
    reasons = [extended_errors(theirs), extended_errors(full)]
    if ours.rcode() == dns.rcode.SERVFAIL and mode.edns:
        reasons = [reason or [NO_REACHABLE_AUTHORITY] for reason in reasons]
    if extended_errors(ours) not in reasons:
        yield f"extended errors {extended_errors(ours)}, peer {extended_errors(theirs)}"
    if [(q.name.to_text(), q.rdtype) for q in ours.question] != [(asked.to_text(), query.question[0].rdtype)]:
        yield f"question {ours.question}"
    if ours.rcode() == dns.rcode.SERVFAIL:
        # The failure is passed on, the records that led to it are not: BIND shows how far a loop of aliases went.
        if ours.answer or ours.authority or ours.additional:
            yield "SERVFAIL with records"
        return
    for label, mine, other in (
        ("answer", ours.answer, full.answer),
        ("authority", ours.authority, full.authority),
        ("additional", ours.additional, full.additional),
    ):
        if label == "additional" and cached:
            continue
        mine, other = records(mine, asked, cached), records(other, asked, cached)
        for key in mine.keys() - other.keys():
            yield f"{label} has {' '.join(key)}, the peer's has not"
        for key in other.keys() - mine.keys():
            yield f"{label} lacks {' '.join(key)}"
        # A second for rounding: both count down on clocks of their own. A cache that had a second left has asked again
        # by the time it is asked by us.
        for key in mine.keys() & other.keys():
            if mine[key] > other[key] + 1 and not (cached and other[key] <= 1):
                yield f"{label} TTL {mine[key]} of {' '.join(key)}, peer {other[key]}"


def compare_one(peer, sidegate, mode, name, rtype, cached):
    """Asks both; a list of what differs. `cached` says that the peer is one of CACHES."""
    query = mode.query(name, rtype)
    try:
        theirs, _ = peer.ask(query, mode.tcp)
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return [f"the peer: {error!r}"]
    try:
        query.id = random.randrange(65536)
        ours, size = sidegate.ask(query, mode.tcp)
        full = theirs
        small = not mode.tcp and (not mode.edns or mode.size < 1232)
        if small or (theirs.flags | ours.flags) & dns.flags.TC or theirs.rcode() == dns.rcode.SERVFAIL:
            full, _ = peer.ask(mode.query(name, rtype), True)
            if full.flags & dns.flags.TC:
                return ["the peer cuts over TCP"]
        problems = []
        if not mode.tcp:
            whole, length = sidegate.ask(mode.query(name, rtype), True)
            most = mode.size if mode.edns else 512
            if bool(ours.flags & dns.flags.TC) != (length > most):
                problems.append(f"TC is {bool(ours.flags & dns.flags.TC)}, the whole is {length} octets of {most}")
            if size > most:
                problems.append(f"{size} octets in a datagram of {most}")
            if ours.flags & dns.flags.TC:
                if ours.answer:
                    problems.append("TC with records")
                ours = whole
        problems.extend(differences(query, mode, theirs, ours, full, cached))
        return problems
    except (OSError, EOFError, dns.exception.DNSException) as error:
        return [repr(error)]


def compare(report, label, peer, names, modes, server=LOCAL, threads=6, apart=()):
    """One check for each mode; the questions `apart` have one of their own in each."""
    questions = [
        (name, rtype)
        for name in dict.fromkeys(names)
        for rtype in [*COMMON, *SPECIAL.get(name, [])]
        if (peer not in CACHES or rtype not in ("ANY", "RRSIG")) and (name, rtype) not in apart
    ]

    def share(work):
        theirs, ours = Asker(peer), Asker(server)
        return [
            (mode, question, problem)
            for mode, question in work
            for problem in compare_one(theirs, ours, mode, *question, peer in CACHES)
        ]

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for mode in modes:
            work = [(mode, question) for question in questions]
            found = [item for part in pool.map(share, (work[n::threads] for n in range(threads))) for item in part]
            report.check(
                f"{label:26} {mode.name}: {len(questions)} questions",
                [f"{name} {rtype}: {problem}" for _, (name, rtype), problem in found],
            )
            if apart:
                found = share([(mode, question) for question in apart])
                report.check(
                    f"{label:26} {mode.name}: a record of an unknown type without data (RFC 3597)",
                    [f"{name} {rtype}: {problem}" for _, (name, rtype), problem in found],
                )


PLAIN = """
[policy]
region = "us-east-1"
private_api_ids = ["privapi123"]
"""


def check(world, report, short):
    report.section(f"Forwarded answers against the peer's, {'a part of the' if short else 'all'} names")
    roots = f'extra_roots = ["{world.authority}"]'
    some = [mode for mode in MODES if mode.name in ("plain", "+dnssec", "+cdflag", "+noedns", "+tcp", "+bufsize=512")]
    few = [mode for mode in MODES if mode.name in ("plain", "+tcp +dnssec")]
    # Address, servers, names, modes. The transport is that between Sidegate and the peer.
    matrix = [
        ("BIND, authority, udp", PUBLIC, f"udp://{PUBLIC}", NAMES, MODES),
        ("BIND, validating, udp", VPC, f"udp://{VPC}", NAMES, MODES),
        ("Unbound, udp", UNBOUND, f"udp://{UNBOUND}", NAMES, MODES),
        ("dnsmasq, udp", DNSMASQ, f"udp://{DNSMASQ}", NAMES, some),
        ("BIND, authority, tcp", PUBLIC, f"tcp://{PUBLIC}", SHORT_NAMES, few),
        ("BIND, authority, tls", PUBLIC, f"tls://{PUBLIC}#{TLS_NAME}", SHORT_NAMES, few),
        ("BIND, authority, https", PUBLIC, f"https://{PUBLIC}/dns-query", SHORT_NAMES, few),
        ("Unbound, tcp", UNBOUND, f"tcp://{UNBOUND}", SHORT_NAMES, few),
        ("Unbound, tls", UNBOUND, f"tls://{UNBOUND}#{TLS_NAME}", SHORT_NAMES, few),
        ("dnsmasq, tcp", DNSMASQ, f"tcp://{DNSMASQ}", SHORT_NAMES, few),
    ]
    if short:
        matrix = [("BIND, validating, udp", VPC, f"udp://{VPC}", SHORT_NAMES, some)]
    for label, peer, server, names, modes in matrix:
        report.note(f"upstream {server}")
        sidegate = world.run_sidegate(
            world.configuration(PLAIN, upstream=f'public = ["{server}"]\nvpc = ["{VPC}"]', forward=roots)
        )
        # A library reads what comes over HTTPS, and may stumble where our own reader does not.
        apart = [("unknown.example.com", rtype) for rtype in ("TYPE65281", "ANY")] if "https" in server else ()
        compare(report, label, peer, names, modes, apart=apart)
        if not sidegate.alive():
            report.check(f"{label}: Sidegate runs on", sidegate.output()[-2000:])
        sidegate.stop()

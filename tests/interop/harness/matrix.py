"""The dig matrix of RFC 8906 section 8, what else RFC 6891 asks of a server, and packets that no client should send."""

import socket
import struct

from .compare import PLAIN
from .dig import dig
from .world import BEYOND, LOCAL, PUBLIC, VPC, ZONE

FORWARDED, PRIVATE = "signed.example", f"privapi123.{ZONE}"


def wants(*conditions):
    """Reads conditions such as "NOERROR", "SOA", "no OPT" into one function from a reply to what is wrong with it."""
    def problems(reply):
        for condition in conditions:
            negated = condition.startswith("no ")
            word = condition.removeprefix("no ")
            if FACTS.get(word, lambda reply: reply.status == word)(reply) == negated:
                yield f"not {condition}: {reply.text.strip()}"
    problems.words = ", ".join(conditions)
    return problems


FACTS = {
    # For a private name the SOA stands in the authority section: it has no record of that type.
    "SOA": lambda reply: reply.has("SOA") or reply.has("SOA", "AUTHORITY"),
    "answer": lambda reply: bool(reply.answer),
    "OPT": lambda reply: reply.edns is not None,
    "version 0": lambda reply: reply.edns == 0,
    "MBZ": lambda reply: reply.mbz,
    "EDNS MBZ": lambda reply: reply.edns_mbz,
    "DO": lambda reply: "do" in reply.edns_flags,
    "option 100": lambda reply: any(name == "OPT=100" for name, _ in reply.options),
    "hop options": lambda reply: any(name in ("NSID", "COOKIE", "EXPIRE", "PAD") or name.startswith("TCP")
                                     for name, _ in reply.options),
    "opcode 15": lambda reply: reply.opcode == "RESERVED15",
    **{flag.upper(): lambda reply, flag=flag: flag in reply.flags for flag in ("aa", "ad", "cd", "ra", "rd", "tc")},
}
SERVED = ("NOERROR", "SOA", "RA", "no AA", "no TC", "no MBZ")
NO_EDNS = ("+noedns", "+noad", "+norec")
EDNS = ("+edns=0", "+noad", "+norec")
VERSION_1 = ("+edns=1", "+noednsneg", "+noad", "+norec")

#: Section of RFC 8906, what is tried, dig's words, what must come. NAME stands for the name.
MATRIX = [
    ("8.1.1", "a plain query", [*NO_EDNS, "NAME", "SOA"], wants(*SERVED, "no OPT", "no RD", "no AD", "no CD")),
    ("8.1.2", "an unknown type", [*NO_EDNS, "NAME", "TYPE1000"], wants("NOERROR", "no answer", "no AA", "no OPT")),
    ("8.1.3.1", "CD", [*NO_EDNS, "+cd", "NAME", "SOA"], wants(*SERVED, "CD", "no OPT")),
    ("8.1.3.2", "AD", ["+noedns", "+norec", "+ad", "NAME", "SOA"], wants(*SERVED, "no OPT")),
    ("8.1.3.3", "the reserved bit", [*NO_EDNS, "+zflag", "NAME", "SOA"], wants(*SERVED, "no OPT")),
    ("8.1.3.4", "RD", ["+noedns", "+noad", "+rec", "NAME", "SOA"], wants(*SERVED, "RD", "no OPT")),
    ("8.1.3", "AA in a query", [*NO_EDNS, "+aaflag", "NAME", "SOA"], wants(*SERVED)),
    ("8.1.3", "TC in a query", [*NO_EDNS, "+tcflag", "NAME", "SOA"], wants(*SERVED)),
    ("8.1.3", "RA in a query", [*NO_EDNS, "+raflag", "NAME", "SOA"], wants(*SERVED)),
    ("8.1.4", "an unknown opcode, header only", ["+noedns", "+noad", "+opcode=15", "+norec", "+header-only", "NAME"],
     wants("NOTIMP", "opcode 15", "no SOA", "no AA", "no MBZ", "no OPT")),
    ("8.1.4", "an unknown opcode with all flags", ["+noedns", "+opcode=15", "+header-only", "+aaflag", "+tcflag", "+rec",
                                                   "+raflag", "+zflag", "+ad", "+cd", "NAME"],
     wants("NOTIMP", "opcode 15", "no SOA", "no AA", "no TC", "no AD", "no MBZ", "no OPT")),
    ("8.1.4", "an unknown opcode with a question", ["+edns=0", "+opcode=15", "NAME", "SOA"],
     wants("NOTIMP", "opcode 15", "no SOA", "no AA", "no MBZ")),
    ("8.2.1", "minimal EDNS", [*EDNS, "NAME", "SOA"], wants(*SERVED, "OPT", "version 0", "no EDNS MBZ", "no DO")),
    ("8.2.2", "EDNS version 1", [*VERSION_1, "NAME", "SOA"],
     wants("BADVERS", "no SOA", "no AA", "OPT", "version 0", "no EDNS MBZ")),
    ("8.2.2", "EDNS version 1, negotiated", ["+edns=1", "+ednsneg", "+noad", "+norec", "NAME", "SOA"],
     wants(*SERVED, "OPT", "version 0")),
    ("8.2.3", "an unknown EDNS option", [*EDNS, "+ednsopt=100", "NAME", "SOA"],
     wants(*SERVED, "OPT", "version 0", "no option 100", "no EDNS MBZ")),
    ("8.2.4", "an unknown EDNS flag", [*EDNS, "+ednsflags=0x40", "NAME", "SOA"],
     wants(*SERVED, "OPT", "version 0", "no EDNS MBZ")),
    ("8.2.5", "version 1 with an unknown flag", [*VERSION_1, "+ednsflags=0x40", "NAME", "SOA"],
     wants("BADVERS", "no SOA", "no AA", "OPT", "version 0", "no EDNS MBZ")),
    ("8.2.6", "version 1 with an unknown option", [*VERSION_1, "+ednsopt=100", "NAME", "SOA"],
     wants("BADVERS", "no SOA", "no AA", "OPT", "version 0", "no option 100", "no EDNS MBZ")),
    ("8.2.7", "512 octets for a large answer", [*EDNS, "+dnssec", "+bufsize=512", "+ignore", "NAME", "DNSKEY"],
     wants("NOERROR", "OPT", "version 0", "no AA")),
    ("8.2.8", "DO", [*EDNS, "+dnssec", "NAME", "SOA"], wants(*SERVED, "OPT", "version 0", "DO", "no EDNS MBZ")),
    ("8.2.9", "version 1 with DO", [*VERSION_1, "+dnssec", "NAME", "SOA"],
     wants("BADVERS", "no SOA", "no AA", "OPT", "version 0", "DO", "no EDNS MBZ")),
    ("8.2.10", "several defined options", [*EDNS, "+cookie", "+nsid", "+expire", "+subnet=0.0.0.0/0", "NAME", "SOA"],
     wants(*SERVED, "OPT", "version 0", "no hop options", "no EDNS MBZ")),
    ("6891", "an OPT record of 0 octets offered", [*EDNS, "+bufsize=0", "NAME", "SOA"], wants(*SERVED, "OPT")),
    ("6891", "an OPT record of 65535 octets offered", [*EDNS, "+bufsize=65535", "NAME", "SOA"], wants(*SERVED, "OPT")),
    ("7828", "keepalive and padding", [*EDNS, "+keepalive", "+padding=128", "NAME", "SOA"],
     wants(*SERVED, "OPT", "no hop options")),
    ("7873", "a cookie", [*EDNS, "+cookie=0102030405060708", "NAME", "SOA"], wants(*SERVED, "OPT", "no hop options")),
    ("7873", "a cookie of 3 octets", [*EDNS, "+ednsopt=10:010203", "NAME", "SOA"], wants("no hop options", "OPT")),
    ("", "class CH", ["+noedns", "version.bind", "CH", "TXT"], wants("REFUSED", "no answer", "no AA")),
    ("", "class ANY", ["+noedns", "-c", "ANY", "NAME", "SOA"], wants("REFUSED", "no answer", "no AA")),
    ("5936", "a whole zone", ["+noedns", "-q", "NAME", "-t", "AXFR"], None),
    ("", "a notification", ["+noedns", "+opcode=NOTIFY", "NAME", "SOA"], wants("NOTIMP", "no answer")),
    ("", "an update", ["+noedns", "+opcode=UPDATE", "NAME", "SOA"], wants("NOTIMP", "no answer")),
    ("", "an inverse query", ["+noedns", "+opcode=IQUERY", "NAME", "SOA"], wants("NOTIMP", "no answer")),
]


def dig_matrix(report, name, transport):
    label = "forwarded" if name == FORWARDED else "private"
    for section, what, words, problems in MATRIX:
        title = f"{section or '-':8}{what}, {label}, {transport.strip('+')}"
        reply = dig(*(name if word == "NAME" else word for word in words), "+notcp" if transport == "+udp" else transport)
        if problems is None:
            report.check(f"{title}: none", [] if "SOA" not in reply.text.replace("IN SOA", "") or "failed" in reply.text
                         else reply.text)
        else:
            report.check(f"{title}: {problems.words}", problems(reply))


# What dig cannot send.

QUESTION = b"\x03www\x07example\x03com\x00\x00\x01\x00\x01"
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"


def packet(flags=0x0100, counts=(1, 0, 0, 0), body=QUESTION, ident=0x1234):
    return struct.pack("!6H", ident, flags, *counts) + body


FORMERR, NOTIMP, REFUSED = 1, 4, 5
RCODES = {None: "silence", FORMERR: "FORMERR", NOTIMP: "NOTIMP", REFUSED: "REFUSED"}
SOA = b"\xc0\x0c\0\x06\0\1\0\0\0\0\0\x16\0\0" + b"\0" * 20
#: Name, packet, rcode expected; None for silence.
PACKETS = [
    ("no octet", b"", None),
    ("1 octet", b"\x12", None),
    ("11 octets", packet()[:11], None),
    ("a reply", packet(flags=0x8180), None),
    ("a header alone", packet(counts=(0, 0, 0, 0), body=b""), FORMERR),
    ("a header that promises a question", packet(body=b""), FORMERR),
    ("two questions", packet(counts=(2, 0, 0, 0), body=QUESTION * 2), FORMERR),
    ("65,535 questions promised", packet(counts=(65535, 65535, 65535, 65535)), FORMERR),
    ("octets behind the question", packet(body=QUESTION + b"more"), FORMERR),
    ("an answer in a query", packet(counts=(1, 1, 0, 0), body=QUESTION + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1"), FORMERR),
    ("two OPT records", packet(counts=(1, 0, 0, 2), body=QUESTION + OPT * 2), FORMERR),
    ("an OPT record with a name", packet(counts=(1, 0, 0, 1), body=QUESTION + b"\x01a" + OPT), FORMERR),
    ("an option longer than its record", packet(counts=(1, 0, 0, 1), body=QUESTION + OPT[:-1] + b"\x04\0\x0a\0\xff"), FORMERR),
    ("a name that points to itself", packet(body=b"\xc0\x0c\0\1\0\1"), FORMERR),
    ("a name without an end", packet(body=b"\x3f" + b"a" * 20), FORMERR),
    ("a label type nobody knows", packet(body=b"\x41a\0\0\1\0\1"), FORMERR),
    ("a name of 256 octets", packet(body=(b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1"), FORMERR),
    ("type OPT", packet(body=QUESTION[:-4] + b"\0\x29\0\1"), FORMERR),
    ("class 0", packet(body=QUESTION[:-2] + b"\0\0"), REFUSED),
    ("a TKEY query", packet(body=QUESTION[:-4] + b"\0\xf9\0\1"), NOTIMP),
    ("an IXFR query without a serial", packet(body=QUESTION[:-4] + b"\0\xfb\0\1"), REFUSED),
    ("an IXFR query with its SOA", packet(counts=(1, 0, 1, 0), body=QUESTION[:-4] + b"\0\xfb\0\1" + SOA), FORMERR),
    ("an AXFR query", packet(body=QUESTION[:-4] + b"\0\xfc\0\1"), REFUSED),
]


def exchange_udp(data, address=LOCAL, wait=0.4):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(wait)
        udp.connect((address, 53))
        udp.send(data)
        try:
            return udp.recv(65536)
        except TimeoutError:
            return None


def exchange_tcp(data, wait=0.4):
    with socket.create_connection((LOCAL, 53), 3) as tcp:
        tcp.settimeout(wait)
        tcp.sendall(struct.pack("!H", len(data)) + data)
        try:
            reply = tcp.recv(65536)
        except (TimeoutError, ConnectionResetError):
            return None
        return reply[2:] or None


def odd_packets(report, exchange, transport):
    # Beyond any query, and beyond the buffer that datagrams are read into.
    large = ("60,000 octets of nothing", packet(body=QUESTION + b"\0" * 60000), None if transport == "udp" else FORMERR)
    for name, data, rcode in [*PACKETS, large]:
        reply = exchange(data) if rcode is None else exchange(data, wait=3)
        if rcode is None:
            problem = None if reply is None else f"a reply: {reply.hex()}"
        elif reply is None:
            problem = "silence"
        else:
            wrong = reply[:2] != data[:2] or not reply[2] & 0x80 or reply[3] & 0xf != rcode or reply[6:8] != b"\0\0"
            problem = f"not rcode {rcode}: {reply.hex()}" if wrong else None
        report.check(f"-       {name}, {transport}: {RCODES[rcode]}", problem)


def sizes(report):
    """No datagram beyond what the client offered, nor 1232 octets beyond loopback."""
    name = b"\x05large\x07example\x03com\x00\x00\x1c\x00\x01"
    for offered, address, most in ((None, LOCAL, 512), (512, LOCAL, 512), (0, LOCAL, 512), (1232, LOCAL, 1232),
                                   (4096, LOCAL, 4096), (None, BEYOND, 512), (1232, BEYOND, 1232), (4096, BEYOND, 1232),
                                   (65535, BEYOND, 1232)):
        data = packet(body=name)
        if offered is not None:
            data = packet(counts=(1, 0, 0, 1), body=name + b"\0\0\x29" + struct.pack("!H", offered) + b"\0" * 6)
        reply = exchange_udp(data, address, wait=5)
        whole = 1700
        problem = None
        if reply is None:
            problem = "silence"
        elif len(reply) > most or bool(reply[2] & 2) != (most < whole):
            problem = f"{len(reply)} octets, TC {bool(reply[2] & 2)}"
        where = "loopback" if address == LOCAL else "beyond loopback"
        report.check(f"-       a large answer, {'no EDNS' if offered is None else f'{offered} offered'}, {where}: "
                     f"at most {most}, {'whole' if most > whole else 'TC'}", problem)


def check(world, report, _short):
    report.section("RFC 8906 section 8 and EDNS compliance, with dig")
    config = world.configuration(PLAIN, listen=[f"{LOCAL}:53", f"{BEYOND}:53"],
                                 upstream=f'public = ["udp://{PUBLIC}"]\nvpc = ["{VPC}"]')
    sidegate = world.run_sidegate(config)
    for name in (FORWARDED, PRIVATE):
        for transport in ("+udp", "+tcp"):
            dig_matrix(report, name, transport)
    report.section("Packets that dig cannot send, and sizes")
    odd_packets(report, exchange_udp, "udp")
    odd_packets(report, exchange_tcp, "tcp")
    sizes(report)
    report.check("-       Sidegate has survived", [] if sidegate.alive() else sidegate.output()[-2000:])
    sidegate.stop()

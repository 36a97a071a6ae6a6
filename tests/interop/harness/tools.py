"""Other tools as clients: delv validates through Sidegate, kdig asks over one connection, raw streams pipeline."""

import concurrent.futures
import re
import socket
import struct

from .compare import PLAIN
from .matrix import packet
from .processes import run
from .world import ENDPOINT, LOCAL, PUBLIC, UNBOUND, VPC, ZONE

PRIVATE = f"privapi123.{ZONE}"


def delv(world, report):
    """delv fetches keys and signatures itself and trusts nobody: what it says is valid came through whole."""
    cases = [
        ("www.signed.example", "A", "; fully validated"),
        ("www.signed.example", "AAAA", "; fully validated"),
        ("unknown.signed.example", "TYPE65280", "; fully validated"),
        ("any.wild.signed.example", "A", "; fully validated"),
        ("alias.signed.example", "A", "; fully validated"),
        ("x.dname.signed.example", "A", "; fully validated"),
        ("https.signed.example", "HTTPS", "; fully validated"),
        ("nowhere.signed.example", "A", "; negative response, fully validated"),
        ("www.signed.example", "TXT", "; negative response, fully validated"),
        ("b.ent.signed.example", "A", "; negative response, fully validated"),
        ("www.bogus.example", "A", "resolution failed"),
        ("www.example.com", "A", "; unsigned answer"),
        (PRIVATE, "A", "; unsigned answer"),
    ]
    anchors = world.work / "delv.conf"
    # delv wants an anchor for the root or for one zone of its choice; each zone is its own here.
    for name, rtype, wanted in cases:
        zone = "bogus.example" if "bogus" in name else "signed.example"
        lines = world.anchors.read_text(encoding="ascii").splitlines()
        anchors.write_text("".join(f"{line}\n" for line in lines if zone in line), encoding="ascii")
        for transport in ("+notcp", "+tcp"):
            _, out, error = run(["delv", f"@{LOCAL}", "-a", anchors, f"+root={zone}", transport, name, rtype])
            report.check(f"delv {name} {rtype} {transport}: {wanted.lstrip('; ')}",
                         [] if wanted in out + error else (out + error).strip())


def kdig(report):
    answer = re.compile(r"status: (\w+).*?\n(?:.*?\n)*?(?=;; Received|\Z)")
    for label, words in (("udp", []), ("tcp", ["+tcp"]), ("tcp, one connection", ["+tcp", "+keepopen"])):
        # One for the end that needs a stream, where there is one.
        last = "huge.example.com" if words else "v4only.example.com"
        names = ["www.example.com", PRIVATE, "nowhere.example.com", "www.signed.example", PRIVATE, last]
        statuses = ["NOERROR", "NOERROR", "NXDOMAIN", "NOERROR", "NOERROR", "NOERROR"]
        questions = [word for name in names for word in (name, "TXT" if name.startswith("huge") else "A")]
        _, out, error = run(["kdig", f"@{LOCAL}", "+timeout=6", *words, *questions])
        got = [match[1] for match in answer.finditer(out)]
        private = out.count(ENDPOINT[0]) == 2 and out.count(ENDPOINT[1]) == 2
        report.check(f"kdig {label}: {len(names)} questions",
                     [] if got == statuses and private and "WARNING" not in out + error else f"{got}\n{out}{error}")


def pipeline(report):
    """Many questions in one segment; each answer once, whatever the order (RFC 7766 section 6.2.1.1)."""
    names = [f"x{number}.wild.example.com" for number in range(60)] + [PRIVATE] * 40
    frames = b""
    for ident, name in enumerate(names):
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = packet(body=labels + b"\0\0\1\0\1", ident=ident)
        frames += struct.pack("!H", len(query)) + query
    for label, cut in (("in one segment", len(frames)), ("octet by octet for a while", 200)):
        with socket.create_connection((LOCAL, 53), 5) as tcp:
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if cut < len(frames):
                for at in range(cut):
                    tcp.sendall(frames[at:at + 1])
                tcp.sendall(frames[cut:])
            else:
                tcp.sendall(frames)
            tcp.shutdown(socket.SHUT_WR)
            data = b""
            try:
                while more := tcp.recv(65536):
                    data += more
            except TimeoutError:
                pass
        idents, at = [], 0
        while at + 2 <= len(data):
            length, = struct.unpack_from("!H", data, at)
            idents.append(struct.unpack_from("!H", data, at + 2)[0])
            at += 2 + length
        report.check(f"{len(names)} questions on one connection, {label}, then FIN: each answered once",
                     [] if sorted(idents) == list(range(len(names))) else f"{len(idents)} answers: {idents}")


def many(report):
    """Connections side by side, each asking in turn."""
    def one(number):
        with socket.create_connection((LOCAL, 53), 5) as tcp:
            for turn in range(20):
                query = packet(ident=number * 100 + turn)
                tcp.sendall(struct.pack("!H", len(query)) + query)
                if tcp.recv(65536)[2:4] != query[:2]:
                    return f"connection {number}, question {turn}"
        return None

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        report.check("40 connections of 20 questions", [problem for problem in pool.map(one, range(40)) if problem])


def check(world, report, short):
    report.section("delv, kdig, streams")
    for peer, address in (("BIND, authority", PUBLIC), ("Unbound", UNBOUND))[:1 if short else 2]:
        report.note(f"through {peer}")
        sidegate = world.run_sidegate(world.configuration(PLAIN, upstream=f'public = ["udp://{address}"]\nvpc = ["{VPC}"]'))
        delv(world, report)
        if address == PUBLIC:
            kdig(report)
            pipeline(report)
            many(report)
        sidegate.stop()

"""Bodies of all kinds through each entrance: large ones beside idle ones, events one by one, trailers, HTTP/2."""

import hashlib
import http.client
import json
import os
import sys
import time

from .forward_clients import SOURCES
from .gateways import EXACT_PRIVATE, EXACT_PUBLIC, GATEWAY, PRIVATE
from .processes import run
from .raw import ask

MEBIBYTE = 1 << 20


class Bulk:
    """One entrance at a time."""

    def __init__(self, world, report, gateways, short):
        self.world, self.report, self.gateways = world, report, gateways
        self.size, self.many = (8 * MEBIBYTE, 50) if short else (64 * MEBIBYTE, 200)
        self.file = world.work / "upload"
        data = os.urandom(MEBIBYTE) * (self.size // MEBIBYTE)
        self.file.write_bytes(data)
        self.sent = hashlib.sha256(data).hexdigest()
        block = bytes(range(256)) * 256
        self.served = hashlib.sha256(block * (self.size // len(block))).hexdigest()
        self.environment = {**os.environ, "CURL_CA_BUNDLE": str(world.authority)}
        self.gate = 0

    def curl(self, way, *words, within=120):
        command = way.command(self.world.work, ["curl", "-sS", "--globoff", *words])
        return run(command, within, env={**self.environment, **way.environment()})

    def large(self, way):
        """Both directions by curl, while others are open and stay so."""
        others = []
        for number in range(self.many):
            host = (PRIVATE, GATEWAY)[number % 2]
            others.append((host, way.open(self.world.authority, host)))
        problems = [problem for problem in (self._speak(*other) for other in others) if problem]
        self.report.check(f"{self.many} connections are open", problems)
        label = f"{self.size // MEBIBYTE} MiB"
        for host in (PRIVATE, GATEWAY):
            name = host.split(".")[0]
            code, out, error = self.curl(way, "--data-binary", f"@{self.file}", f"{way.scheme}://{host}/prod/echo")
            try:
                echo = json.loads(out)
                right = (echo["length"], echo["sha256"]) == (self.size, self.sent)
            except (ValueError, KeyError):
                right = False
            self.report.check(f"{label} up to {name}, bit for bit", [] if right else f"{code} {out[:600]}{error}")
            target = self.world.work / "download"
            code, _, error = self.curl(way, "-o", target, f"{way.scheme}://{host}/prod/bytes/{self.size}")
            with open(target, "rb") as got:
                right = hashlib.file_digest(got, "sha256").hexdigest() == self.served
            self.report.check(
                f"{label} down from {name}, bit for bit", [] if code == 0 and right else f"{code} {error}"
            )
        problems = [problem for problem in (self._speak(*other) for other in others) if problem]
        self.report.check(f"the {self.many} others still work", problems)
        for _, connection in others:
            connection.close()

    @staticmethod
    def _speak(host, connection):
        try:
            answer = ask(connection, f"GET /prod/bytes/7 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            body = answer.read()
            return None if (answer.status, len(body)) == (200, 7) else f"{host}: {answer.status} {body[:200]}"
        except (OSError, http.client.HTTPException) as error:
            return f"{host}: {error!r}"

    def events(self, way):
        """Each event must be here before the server may send the next."""
        for host in (PRIVATE, GATEWAY):
            self.gate += 1
            problem = None
            try:
                with way.open(self.world.authority, host, timeout=10) as connection:
                    target = f"/prod/events/g{self.gate}/5"
                    answer = ask(connection, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    for number in range(5):
                        event = [answer.readline() for _ in range(3)]
                        if event[1] != f"data: event {number}\n".encode():
                            problem = f"event {number}: {event}"
                            break
                        (self.gateways.gates / f"g{self.gate}-{number + 1}").touch()
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
            self.report.check(f"server-sent events of {host.split('.')[0]} arrive one by one", problem)

    def framing(self, way):
        """Chunked bodies, trailers, Expect."""
        for host in (EXACT_PRIVATE, GATEWAY):
            name = host.split(".")[0]
            url = f"{way.scheme}://{host}/prod/echo"
            code, out, error = self.curl(
                way,
                "--http1.1",
                "-X",
                "POST",
                "-H",
                "Transfer-Encoding: chunked",
                "--data-binary",
                f"@{self.file}",
                url,
            )
            right = code == 0 and json.loads(out or "{}").get("sha256") == self.sent
            self.report.check(f"a chunked upload to {name}", [] if right else f"{code} {out[:300]}{error}")
            code, out, error = self.curl(
                *(
                    way,
                    "--http1.1",
                    "-v",
                    "-H",
                    "Expect: 100-continue",
                    "--expect100-timeout",
                    "30",
                    "--max-time",
                    "10",
                ),
                *("--data-binary", f"@{self.file}", url),
            )
            right = code == 0 and "100 Continue" in error and json.loads(out or "{}").get("sha256") == self.sent
            self.report.check(f"Expect: 100-continue with {name}", [] if right else f"{code} {out[:300]}{error[-900:]}")
        code, out, error = self.curl(
            *(way, "--http1.1", "-v", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "--max-time", "10"),
            *("-w", "%{http_code} %{size_upload}", "--data-binary", f"@{self.file}"),
            f"{way.scheme}://{EXACT_PRIVATE}/prod/reject",
        )
        right = code == 0 and out.endswith("413 0")
        self.report.check(
            "Expect: what is refused beforehand is not sent", [] if right else f"{code} {out}{error[-900:]}"
        )
        for host in (EXACT_PRIVATE, EXACT_PUBLIC):
            problem = None
            try:
                with way.open(self.world.authority, host) as connection:
                    problem = self._trailers(connection, host)
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = repr(error)
            self.report.check(f"trailers to and from {host.split('.')[0]}", problem)

    def endings(self, way):
        """Connections and bodies that end in other ways than most."""
        for host in (EXACT_PRIVATE, EXACT_PUBLIC):
            name, url = host.split(".")[0], f"{way.scheme}://{host}/prod"
            code, out, error = self.curl(way, "-o", "/dev/null", f"{url}/cut")
            right = code not in (0, None)
            self.report.check(
                f"a body that {name} cuts short is no whole one: {error.strip()[:60]}", [] if right else f"{code} {out}"
            )
            code, out, error = self.curl(way, f"{url}/hints")
            right = code == 0 and "/prod/hints" in out
            self.report.check(f"an interim answer of {name} does no harm", [] if right else f"{code} {out}{error}")
            code, out, error = self.curl(
                way, "--http1.0", "--no-alpn", "-w", "%{http_code}", "-o", "/dev/null", f"{url}/echo"
            )
            self.report.check(
                f"an HTTP/1.0 client of {name}", [] if (code, out) == (0, "200") else f"{code} {out}{error}"
            )
        for host in (PRIVATE, GATEWAY):
            problem = None
            try:
                with way.open(self.world.authority, host) as connection:
                    request = f"GET /prod/bytes/3 HTTP/1.1\r\nHost: {host}\r\n".encode()
                    connection.sendall(request + b"\r\n" + request + b"Connection: close\r\n\r\n")
                    answer = b""
                    while data := connection.recv(65536):
                        answer += data
                problem = None if answer.count(b"HTTP/1.1 200") == answer.count(b"\x00\x01\x02") == 2 else repr(answer)
            except OSError as error:
                problem = repr(error)
            self.report.check(f"two requests at once to {host.split('.')[0]}", problem)

    def reuse(self, way):
        """A server that closes behind its answers: what was kept open must not cost a request."""
        problems = []
        try:
            for round_ in range(10):
                with way.open(self.world.authority, EXACT_PRIVATE) as connection:
                    head = (
                        f"POST /prod/leaves/{round_} HTTP/1.1\r\nHost: {EXACT_PRIVATE}\r\nContent-Length: 2\r\n\r\nok"
                    )
                    answer = ask(connection, head.encode())
                    body = answer.read()
                    problems += [] if answer.status == 200 else [f"{round_}: {answer.status} {body}"]
                # A request that crosses the server's close is lost: nobody may send an upload twice.
                time.sleep(0.05)
        except (OSError, http.client.HTTPException) as error:
            problems.append(repr(error))
        self.report.check("10 uploads to a server that closes after each", problems)

    @staticmethod
    def _trailers(connection, host):
        head = (
            f"POST /prod/trailers HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n"
            "Connection: TE\r\nTrailer: X-Up\r\n\r\n"
        )
        connection.sendall(head.encode() + b"5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nX-Up: one\r\nX-Up: two\r\n\r\n")
        answer = b""
        while not (b"\r\n0\r\n" in answer and answer.endswith(b"\r\n\r\n")):
            data = connection.recv(65536)
            if not data:
                return f"ended early: {answer!r}"
            answer += data
        trailers = answer.split(b"\r\n0\r\n", 1)[1].lower()
        if [trailers.count(b"x-sum: "), trailers.count(b"x-twice: a\r\nx-twice: b")] != [1, 1]:
            return f"not the server's trailers: {answer!r}"
        if b'"trailers": ["X-Up: one", "X-Up: two"]'.lower() not in answer.lower():
            return f"the server did not get the trailers: {answer!r}"
        return None

    def http2(self, way):
        """What each side negotiates, end to end where the TLS is."""
        for host, alone in ((PRIVATE, "1.1"), (GATEWAY, "2")):
            inside = "2" if way.name == "http with TLS" else "1.1" if way.scheme == "http" else alone
            words = ["--http2"] if way.scheme == "https" else []
            format_ = "\n%{http_version}"
            code, out, error = self.curl(way, *words, "-w", format_, f"{way.scheme}://{host}/prod/echo")
            body, _, version = out.rpartition("\n")
            seen = [value for name, value in json.loads(body or '{"fields":[]}')["fields"] if name == "X-Seen-Protocol"]
            wanted = (inside, [f"HTTP/{'2.0' if alone == '2' else alone}"])
            self.report.check(
                f"curl --http2 to {host.split('.')[0]}: HTTP/{inside} here, {wanted[1][0]} there",
                [] if code == 0 and (version, seen) == wanted else f"{code} {version} {seen} {error}",
            )


def connect_over_http2(world, report):
    """One cleartext HTTP/2 connection with four tunnels in it."""
    hosts = [PRIVATE, GATEWAY, EXACT_PRIVATE, EXACT_PUBLIC]
    command = [sys.executable, SOURCES / "connect_h2.py", "127.0.0.1", "3128", world.authority, *hosts]
    code, out, error = run(command, 60)
    wanted = [f"{host} 200 HTTP/1.1 200 OK" for host in hosts]
    report.check(
        "four tunnels in one cleartext HTTP/2 connection", [] if out.splitlines() == wanted else f"{code} {out}{error}"
    )


ROWS = {
    "large bodies, others open": Bulk.large,
    "server-sent events": Bulk.events,
    "chunks, trailers, Expect": Bulk.framing,
    "odd endings, 1xx, 1.0": Bulk.endings,
    "servers that close": Bulk.reuse,
    "HTTP/2 where it should be": Bulk.http2,
}


def check(world, report, gateways, ways, cells, short):
    """Fills the cells of its rows."""
    bulk = Bulk(world, report, gateways, short)
    for way in ways:
        if way.name.endswith(" to sni"):
            continue  # The same listener, reached in another manner.
        report.section(f"Bodies through {way.name}")
        for row, check_one in ROWS.items():
            failed = report.failed
            try:
                check_one(bulk, way)
            except (OSError, ValueError) as error:
                report.check(f"{check_one.__name__} runs to its end", repr(error))
            cells[row, way.name] = "yes" if report.failed == failed else "no"
        if way.proxy:
            connect_over_http2(world, report)

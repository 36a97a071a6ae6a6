"""The far side of an API: an HTTP/1.1 server that tells what it was sent, to the byte.

`gateway.py --gates DIR --certificate FILE --key FILE --tls ADDRESS... --plain ADDRESS --websocket ADDRESS`. A path says
what is wanted by its second segment: /STAGE/WHAT/...; everything else is echoed, signed requests with the verdict on
their signature.
"""

import argparse
import asyncio
import base64
import gzip
import hashlib
import json
import re
import ssl
from pathlib import Path

import sigv4
import websockets

MOST_KEPT = 1 << 20
BLOCK = bytes(range(256)) * 256


class Body:
    """Reads a body as it comes: its hash, its beginning, its trailers."""

    def __init__(self):
        self.hash, self.length, self.kept, self.trailers = hashlib.sha256(), 0, b"", []

    def add(self, data):
        self.hash.update(data)
        self.length += len(data)
        if len(self.kept) + len(data) <= MOST_KEPT:
            self.kept += data

    async def exactly(self, reader, length):
        while length:
            data = await reader.read(min(length, 1 << 18))
            if not data:
                raise asyncio.IncompleteReadError(b"", length)
            self.add(data)
            length -= len(data)

    async def read(self, reader, fields):
        if "chunked" in fields.get("transfer-encoding", "").lower():
            while length := int((await reader.readline()).split(b";")[0], 16):
                await self.exactly(reader, length)
                await reader.readline()
            while (line := await reader.readline()) not in (b"\r\n", b""):
                self.trailers.append(line.decode("latin-1").rstrip("\r\n"))
        else:
            await self.exactly(reader, int(fields.get("content-length", 0)))


class Exchange:
    """One request and the answer to it."""

    def __init__(self, head, reader, writer, gates):
        self.head, self.reader, self.writer, self.gates = head, reader, writer, gates
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, self.target, self.version = first.split(" ", 2)
        self.pairs = [tuple(part.strip(" \t") for part in line.split(":", 1)) for line in lines]
        self.fields = {name.lower(): value for name, value in self.pairs}
        self.body = Body()

    async def say(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status, body, *headers):
        lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
        await self.say("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if self.method == "HEAD" else body))

    def echo(self):
        """All that arrived."""
        return {
            "head": base64.b64encode(self.head).decode(),
            "method": self.method,
            "target": self.target,
            "fields": self.pairs,
            "length": self.body.length,
            "sha256": self.body.hash.hexdigest(),
            "trailers": self.body.trailers,
        }

    async def run(self):
        what = re.match(r"/[^/]*/([a-z]+)", self.target)
        what = what[1] if what else ""
        if self.fields.get("expect", "").lower() == "100-continue":
            if what == "reject":
                await self.answer("413 Payload Too Large", b"{}", "Connection: close")
                return False
            await self.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await self.body.read(self.reader, self.fields)
        kinds = {"bytes", "events", "trailers", "status", "packed", "closed", "cut", "hints", "leaves"}
        await (getattr(self, what) if what in kinds else self.echoed)()
        return self.fields.get("connection", "").lower() != "close" and what not in ("closed", "cut", "leaves")

    async def echoed(self):
        echo = self.echo()
        headers = [
            "X-Far-Side: one",
            "X-Far-Side: two, three",
            "x-amzn-RequestId: 00000000-0000-0000-0000-000000000000",
        ]
        if self.fields.get("authorization", "").startswith("AWS4-"):
            wrong = sigv4.problem(self.method, self.target, self.pairs, self.body.kept)
            # Also with the escapes of the path undone, as a proxy would that tidies up: that must not verify.
            tidied = re.sub("%(40|3D|2B|7E)", lambda escape: chr(int(escape[1], 16)), self.target)
            changed = tidied != self.target
            if wrong is None and changed and sigv4.problem(self.method, tidied, self.pairs, self.body.kept) is None:
                wrong = "a changed path verifies as well: this check proves nothing"
            headers += [f"X-Signature: {wrong or 'verified'}"]
            headers += ["X-Echo: " + base64.b64encode(json.dumps(echo).encode()).decode()]
            if wrong:
                return await self.answer("403 Forbidden", b'{"message":"Signature"}', *headers)
            if self.target.endswith("connections/gone%3D"):
                return await self.answer("410 Gone", b"{}", "x-amzn-ErrorType: GoneException", *headers)
            return await self.answer("200 OK", b"{}", *headers)
        await self.answer("200 OK", json.dumps(echo).encode(), *headers)

    async def bytes(self):
        """/STAGE/bytes/COUNT: a body of so many, always the same."""
        count = int(self.target.rsplit("/", 1)[1])
        await self.say(f"HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n".encode())
        while count and self.method != "HEAD":
            await self.say(BLOCK[: min(count, len(BLOCK))])
            count -= min(count, len(BLOCK))

    async def status(self):
        """/STAGE/status/CODE: an answer with this code, without a body."""
        code = self.target.rsplit("/", 1)[1]
        length = "" if code in ("204", "304") else "Content-Length: 0\r\n"
        await self.say(f'HTTP/1.1 {code} Odd Reason\r\nETag: W/"x"\r\nLocation: /a%2Fb\r\n{length}\r\n'.encode())

    async def packed(self):
        """/STAGE/packed: a body in gzip."""
        await self.answer("200 OK", gzip.compress(b"packed " * 1000, mtime=0), "Content-Encoding: gzip", "Vary: a, b")

    async def closed(self):
        """/STAGE/closed: a body that ends with the connection."""
        await self.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BLOCK)

    async def cut(self):
        """/STAGE/cut: a body that ends before it is whole."""
        await self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + BLOCK[:1000])

    async def hints(self):
        """/STAGE/hints: an interim answer first."""
        await self.say(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        await self.echoed()

    async def leaves(self):
        """/STAGE/leaves: says nothing of it, and closes after its answer."""
        await self.echoed()

    async def events(self):
        """/STAGE/events/GATE/COUNT: events, each only once the file GATE-N says that the one before was read."""
        *_, gate, count = self.target.split("/")
        await self.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(int(count)):
            while number and not (self.gates / f"{gate}-{number}").exists():
                await asyncio.sleep(0.005)
            event = f"id: {number}\ndata: event {number}\n\n".encode()
            await self.say(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        await self.say(b"0\r\n\r\n")

    async def trailers(self):
        """/STAGE/trailers: an echo with trailers below it."""
        body = json.dumps(self.echo()).encode()
        await self.say(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Twice\r\n\r\n"
            + f"{len(body):x}\r\n".encode()
            + body
            + b"\r\n0\r\nX-Sum: "
            + hashlib.sha256(self.target.encode()).hexdigest().encode()
            + b"\r\nX-Twice: a\r\nX-Twice: b\r\n\r\n"
        )


async def push_and_echo(socket, _path=None):
    """A WebSocket API: pushes two messages, echoes, and closes when told to."""
    await socket.send(f"pushed to {socket.path}")
    await socket.send(b"pushed \x00 2")
    async for message in socket:
        if message == "close":
            await socket.close(4001, "as you wish")
            return
        await socket.send(message)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gates", type=Path)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--tls", action="append", default=[])
    parser.add_argument("--plain")
    parser.add_argument("--websocket")
    arguments = parser.parse_args()

    async def serve(reader, writer):
        try:
            while await Exchange(await reader.readuntil(b"\r\n\r\n"), reader, writer, arguments.gates).run():
                pass
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(arguments.certificate, arguments.key)
    for address, context in [(address, tls) for address in arguments.tls] + [(arguments.plain, None)]:
        host, port = address.rsplit(":", 1)
        # Java does not close before the connection is.
        patience = {"ssl": context, "ssl_shutdown_timeout": 0.1} if context else {}
        await asyncio.start_server(serve, host, int(port), limit=1 << 18, backlog=1024, **patience)
    host, port = arguments.websocket.rsplit(":", 1)
    await websockets.serve(push_and_echo, host, int(port), max_size=None, subprotocols=["graphql-ws"])
    await asyncio.Future()


asyncio.run(main())

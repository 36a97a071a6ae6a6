"""What happens when peers fall silent, go away and come back, and when Sidegate is reloaded under load."""

import asyncio
import itertools
import signal
import time

from .compare import PLAIN
from .dig import dig
from .gateways import GATEWAY, PRIVATE
from .matrix import packet
from .processes import wait_until
from .truth import FRESH, asked, either, outcome
from .world import ENDPOINT, LOCAL, PUBLIC, SECOND, TLS_NAME, UNBOUND, VPC, ZONE

#: Stub resolvers give up after five seconds.
PATIENCE = 5.0
TWO_SERVERS = f'public = ["udp://{PUBLIC}", "udp://{SECOND}"]\nvpc = ["{VPC}"]'
#: What a load asks, with the addresses of each.
LOADED = asked(PRIVATE, FRESH, GATEWAY)
fresh = (f"n{number}.wild.example.com" for number in itertools.count())


def ask(name, rtype="A"):
    """A reply and the seconds it took."""
    began = time.monotonic()
    reply = dig(name, rtype)
    return reply, time.monotonic() - began


def answers(name=None):
    reply, seconds = ask(name or next(fresh))
    return reply.status == "NOERROR" and bool(reply.answer) and seconds < PATIENCE


def is_failure(reply, seconds):
    if reply.status != "SERVFAIL":
        yield f"{reply.status}, not SERVFAIL: {reply.text.strip()}"
    if seconds >= PATIENCE:
        yield f"after {seconds:.1f} s"
    if not reply.extended:
        yield f"no extended error: {reply.text.strip()}"


def silence(world, report):
    report.section("Public servers that fall silent, and come back")
    sidegate = world.run_sidegate(world.configuration(PLAIN, upstream=TWO_SERVERS))
    public, second = world.peers["public"], world.peers["second"]
    ask("shortttl.example.com")
    report.check("both up: answers", answers())
    public.signal(signal.SIGSTOP)
    report.check(
        "the first stopped: 20 new names are answered by the second",
        [f"number {number}" for number in range(20) if not answers()],
    )
    second.signal(signal.SIGSTOP)
    time.sleep(3.5)
    reply, seconds = ask("shortttl.example.com")
    stale = reply.status == "NOERROR" and reply.data("A") == ["198.51.100.7"] and 3 in reply.extended
    report.check(
        "both stopped: a name that was known is answered stale, and says so (RFC 8767, extended error 3)",
        [] if stale and reply.answer[0][1] <= 30 and seconds < PATIENCE else f"{seconds:.1f} s {reply.text}",
    )
    report.check(
        "both stopped: a name that was not is SERVFAIL in time, with the reason", is_failure(*ask(next(fresh)))
    )
    reply, _ = ask(f"privapi123.{ZONE}")
    report.check("both stopped: private names are answered", [] if reply.data("A") == ENDPOINT else reply.text)
    public.signal(signal.SIGCONT)
    second.signal(signal.SIGCONT)
    wait_until(answers, 20, "an answer after both went on")
    report.check("both going on: answers")

    for peer in (public, second):
        peer.stop()
    reply, seconds = ask("shortttl.example.com")
    report.check("both gone: stale", [] if 3 in reply.extended and reply.data("A") else reply.text)
    report.check("both gone: SERVFAIL in time, with the reason", is_failure(*ask(next(fresh))))
    world.start_peer("public")
    wait_until(answers, 20, "an answer after a restart")
    report.check("the first started again: answers")
    world.start_peer("second")

    vpc = world.peers["vpc"]
    vpc.signal(signal.SIGSTOP)
    reply, _ = ask(f"privapi123.{ZONE}")
    report.check(
        "the VPC's resolver stopped: private names keep the endpoint's addresses",
        [] if reply.data("A") == ENDPOINT else reply.text,
    )
    vpc.signal(signal.SIGCONT)
    report.check("Sidegate has survived", [] if sidegate.alive() else sidegate.output()[-2000:])
    sidegate.stop()


def kept_connections(world, report):
    report.section("Connections to upstreams that end, and certificates that are wrong")
    roots = f'extra_roots = ["{world.authority}"]'
    for server, peer in (
        (f"tcp://{PUBLIC}", "public"),
        (f"tls://{PUBLIC}#{TLS_NAME}", "public"),
        (f"https://{PUBLIC}/dns-query", "public"),
        (f"tls://{UNBOUND}#{TLS_NAME}", "unbound"),
    ):
        sidegate = world.run_sidegate(
            world.configuration(PLAIN, forward=roots, upstream=f'public = ["{server}"]\nvpc = ["{VPC}"]')
        )
        before = answers()
        world.peers[peer].stop()
        world.start_peer(peer)
        after = answers()
        report.check(
            f"{server}: answers before and after {peer} is started again",
            [] if before and after else f"before {before}, after {after}",
        )
        sidegate.stop()
    for what, server, forward in (
        ("another name", f"tls://{PUBLIC}#other.interop.test", roots),
        ("an unknown authority", f"tls://{PUBLIC}#{TLS_NAME}", ""),
        ("an unknown authority", f"https://{PUBLIC}/dns-query", ""),
    ):
        sidegate = world.run_sidegate(
            world.configuration(PLAIN, forward=forward, upstream=f'public = ["{server}"]\nvpc = ["{VPC}"]')
        )
        report.check(f"{server}, a certificate of {what}: SERVFAIL with the reason", is_failure(*ask(next(fresh))))
        sidegate.stop()


class Load:
    """Questions over UDP and TCP, one after another on each of a few sockets; counts what is lost or wrong."""

    def __init__(self, streams=True, server=LOCAL, names=LOADED):
        self.asked = 0
        #: The longest that a question has waited for its answer, in seconds.
        self.slowest = 0.0
        self.lost, self.wrong = [], []
        self.running = True
        self._streams, self._server, self._asked = streams, server, list(names.items())

    @staticmethod
    def _query(ident, name):
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        return packet(body=labels + b"\0\0\1\0\1", ident=ident)

    def _judge(self, what, allowed, query, reply):
        """Each name has addresses of its own; nothing else will do."""
        self.asked += 1
        if said := outcome(query, reply or b"", allowed):
            (self.wrong if said.startswith("wrong") else self.lost).append(f"{what}: {said}")

    @property
    def problems(self):
        return [*self.wrong, *self.lost]

    def _names(self, number):
        """Names in turn, with their addresses."""
        for turn in itertools.count():
            name, allowed = self._asked[turn % len(self._asked)]
            yield name.replace("@", f"{number}-{turn}"), allowed

    async def _datagrams(self, number):
        loop = asyncio.get_running_loop()
        replies = asyncio.Queue()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                replies.put_nowait(data)

        transport, _ = await loop.create_datagram_endpoint(Protocol, remote_addr=(self._server, 53))
        for turn, (name, allowed) in enumerate(self._names(number)):
            if not self.running:
                break
            query = self._query(turn & 0xFFFF, name)
            transport.sendto(query)
            began = time.monotonic()
            try:
                reply = await asyncio.wait_for(replies.get(), 6)
            except TimeoutError:
                reply = None
            self.slowest = max(self.slowest, time.monotonic() - began)
            self._judge(f"udp {name}", allowed, query, reply)
        transport.close()

    async def _stream(self, number):
        reader, writer = await asyncio.open_connection(self._server, 53)
        for turn, (name, allowed) in enumerate(self._names(number)):
            if not self.running:
                break
            query = self._query(turn & 0xFFFF, name)
            writer.write(len(query).to_bytes(2, "big") + query)
            try:
                length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 6), "big")
                reply = await asyncio.wait_for(reader.readexactly(length), 6)
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                self._judge(f"tcp {name}: {error!r}", allowed, query, None)
                return
            self._judge(f"tcp {name}", allowed, query, reply)
            await asyncio.sleep(0.005)
        writer.close()

    async def run(self, seconds, meanwhile):
        """Loads for so many seconds while `meanwhile` runs."""
        tasks = [asyncio.create_task(self._datagrams(number)) for number in range(4)]
        if self._streams:
            tasks += [asyncio.create_task(self._stream(number)) for number in range(4, 6)]
        began = time.monotonic()
        await meanwhile()
        await asyncio.sleep(max(0, seconds - (time.monotonic() - began)))
        self.running = False
        await asyncio.gather(*tasks)


async def nothing():
    """What happens under a load to which nothing happens."""


def exchange_seen(load):
    """Name and problems of a check: of both APIs each answer is counted as wrong, over UDP and TCP, and nothing as lost."""
    kinds = {f"{way} {name}" for way in ("udp", "tcp") for name in (PRIVATE, GATEWAY)}
    missing = kinds - {said.partition(": ")[0] for said in load.wrong}
    told = f"both APIs exchanged: {len(load.wrong)} of {load.asked} answers are wrong, {len(load.lost)} lost"
    return told, [*missing, *load.lost]


def reload(world, report):
    report.section("Reload under load")
    listed = PLAIN.replace('"privapi123"', '"privapi123", "pubapi1234"')
    path = world.configuration(PLAIN, upstream=TWO_SERVERS)
    plain = path.read_text(encoding="utf-8")
    more = world.configuration(listed, upstream=TWO_SERVERS).read_text(encoding="utf-8")
    sidegate = world.run_sidegate(path)
    load = Load(names=either(LOADED))

    async def reloads():
        for turn in range(20):
            path.write_text(more if turn % 2 == 0 else plain, encoding="utf-8")
            sidegate.signal(signal.SIGHUP)
            await asyncio.sleep(0.2)

    asyncio.run(load.run(5, reloads))
    report.check(
        f"20 reloads in 4 s under {load.asked // 1000 * 1000}+ questions over UDP and TCP: none is lost or wrong"
        if load.asked >= 1000
        else f"20 reloads under {load.asked} questions",
        load.problems,
    )
    report.check("the load was one", load.asked > 200)

    name = f"pubapi1234.{ZONE}"
    for what, text, wanted in (
        ("an id added", more, ENDPOINT),
        ("the id removed", plain, ["198.51.100.10", "198.51.100.11"]),
    ):
        path.write_text(text, encoding="utf-8")
        sidegate.signal(signal.SIGHUP)
        wait_until(lambda wanted=wanted: ask(name)[0].data("A") == wanted, 5, f"{what} to be in force")
        report.check(f"SIGHUP with {what}: in force")
    for what, text in (
        ("a broken file", more + "\n[nonsense"),
        ("an unknown key", more + "\n[nonsense]\n"),
        ("an empty file", ""),
    ):
        path.write_text(text, encoding="utf-8")
        before = len(sidegate.output())
        sidegate.signal(signal.SIGHUP)
        wait_until(lambda before=before: len(sidegate.output()) > before, 5, f"a word about {what}")
        reply, _ = ask(name)
        report.check(
            f"SIGHUP with {what}: refused, the old stays in force",
            []
            if reply.data("A") == ["198.51.100.10", "198.51.100.11"] and sidegate.alive()
            else f"{reply.text}\n{sidegate.output()[before:]}",
        )
    code = sidegate.stop()
    report.check("SIGTERM ends it with 0", [] if code == 0 else f"exit {code}")


def noticed(world, report):
    """A load that nothing wrong could come to proves nothing."""
    report.section("A load notices addresses of another name")
    exchanged = PLAIN.replace('"privapi123"', '"pubapi1234"')
    sidegate = world.run_sidegate(world.configuration(exchanged, upstream=TWO_SERVERS))
    load = Load()
    asyncio.run(load.run(1, nothing))
    report.check(*exchange_seen(load))
    sidegate.stop()


def drain(world, report):
    report.section("Drain under load")
    sidegate = world.run_sidegate(world.configuration(PLAIN, upstream=TWO_SERVERS, head='linger = "3s"'))
    load = Load(streams=False)

    async def terminate():
        await asyncio.sleep(0.5)
        sidegate.signal(signal.SIGTERM)

    asyncio.run(load.run(2.5, terminate))
    report.check("SIGTERM with linger = 3 s: the 2 s after it lose nothing", load.problems)
    code = sidegate.wait(30)
    report.check("... and it ends with 0", [] if code == 0 else f"exit {code}")

    # A question under way when the listeners close is still answered, well or as a failure.
    sidegate = world.run_sidegate(world.configuration(PLAIN, upstream=f'public = ["udp://{PUBLIC}"]\nvpc = ["{VPC}"]'))
    world.peers["public"].signal(signal.SIGSTOP)

    async def under_way():
        loop = asyncio.get_running_loop()
        question = loop.run_in_executor(None, dig, next(fresh))
        await asyncio.sleep(0.5)
        sidegate.signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        world.peers["public"].signal(signal.SIGCONT)
        return await question

    reply = asyncio.run(under_way())
    report.check("a question under way at SIGTERM is answered", [] if reply.status == "NOERROR" else reply.text.strip())
    code = sidegate.wait(30)
    report.check("... and it ends with 0", [] if code == 0 else f"exit {code}: {sidegate.output()[-1000:]}")


def check(world, report, _short):
    silence(world, report)
    kept_connections(world, report)
    noticed(world, report)
    reload(world, report)
    drain(world, report)

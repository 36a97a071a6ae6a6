"""A bounded load on an EC2 host: questions over UDP and TCP, requests by CONNECT, and how each ended."""

import itertools
import socket
import threading
import time

from .entrances import Entrance
from .gateways import GATEWAY, PRIVATE
from .matrix import packet
from .raw import ask
from .truth import DATABASE, FRESH, asked, outcome
from .world import LOCAL

#: A stub resolver waits five seconds; whatever takes longer is lost.
PATIENCE = 5.0
#: What a load asks, with the addresses of each.
LOADED = list(asked(PRIVATE, GATEWAY, DATABASE, FRESH).items())
#: What each kind of a load has to come to; with less, nothing was tried.
LEAST = {"UDP": 50, "TCP": 20, "CONNECT": 10}


def query(ident, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return packet(body=labels + b"\0\0\1\0\1", ident=ident)


def names(number):
    """A private name, a public API, one of the VPC's own, a name that was never asked; and their addresses."""
    for turn in itertools.count():
        name, allowed = LOADED[turn % len(LOADED)]
        yield name.replace("@", f"{number}-{turn}"), allowed


class Load:
    """Bounded: each of a few threads has one question or request under way. Counts how each ended."""

    def __init__(self, world, udp=4, tcp=2, connect=2):
        self.ended = {kind: [] for kind, askers in (("UDP", udp), ("TCP", tcp), ("CONNECT", connect)) if askers}
        self._authority = world.authority
        self._running = True
        work = [(self._udp, udp), (self._tcp, tcp), (self._connect, connect)]
        self._threads = [
            threading.Thread(target=target, args=(name := f"{target.__name__}{number}",), name=name, daemon=True)
            for target, count in work
            for number in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_):
        time.sleep(0.5)
        self._running = False
        for thread in self._threads:
            thread.join(30)

    def _each(self, kind, number, once, pause):
        for turn, (name, allowed) in enumerate(names(number)):
            if not self._running:
                return
            try:
                ended = once(turn & 0xFFFF, name, allowed)
            except ConnectionRefusedError:
                ended = "refused"
            except Exception as error:  # Whatever it was, there was no answer.
                ended = f"lost: {error!r}"
            self.ended[kind].append(ended)
            time.sleep(pause)

    def _udp(self, number):
        def once(ident, name, allowed):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                asker.settimeout(PATIENCE)
                asker.connect((LOCAL, 53))
                asker.send(query(ident, name))
                return of(name, outcome(query(ident, name), asker.recv(4096), allowed))

        self._each("UDP", number, once, 0.004)

    def _tcp(self, number):
        def once(ident, name, allowed):
            with socket.create_connection((LOCAL, 53), PATIENCE) as asker, asker.makefile("rb") as replies:
                question = query(ident, name)
                asker.sendall(len(question).to_bytes(2, "big") + question)
                length = int.from_bytes(replies.read(2), "big")
                return of(name, outcome(question, replies.read(length), allowed))

        self._each("TCP", number, once, 0.008)

    def _connect(self, number):
        way = Entrance("connect", proxy=True)

        def once(ident, _name, _allowed):
            host = (PRIVATE, GATEWAY)[ident % 2]
            with way.open(self._authority, host, timeout=PATIENCE) as through:
                answer = ask(through, f"GET /prod/bytes/1000 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                if answer.status == 403:
                    return of(host, "wrong: 403, a gateway that does not have it")
                if answer.status != 200 or len(answer.read()) != 1000:
                    raise OSError(f"{host}: {answer.status}")
                return ""

        self._each("CONNECT", number, once, 0.02)

    def count(self, word):
        return {kind: sum(one.startswith(word) for one in ended) for kind, ended in self.ended.items()}

    def told(self):
        """In numbers, for the report."""
        refused, lost, wrong = self.count("refused"), self.count("lost"), self.count("wrong")
        parts = (
            f"{kind} {len(ended)}, {refused[kind]} refused, {lost[kind]} lost, {wrong[kind]} wrong"
            for kind, ended in self.ended.items()
        )
        return "; ".join(parts)

    def unsound(self):
        """What no load may be, whatever else is lost: one that hardly asked, that was misled, or that hangs."""
        found = [f"{kind}: {len(ended)} are no load" for kind, ended in self.ended.items() if len(ended) < LEAST[kind]]
        found += [f"{kind}: {said}" for kind, ended in self.ended.items() for said in ended if said.startswith("wrong")]
        return found + [f"{thread.name} hangs" for thread in self._threads if thread.is_alive()]

    def problems(self):
        """Whatever was not answered, and a load that was none."""
        gone = [f"{kind}: {one}" for kind, ended in self.ended.items() for one in ended if one.startswith(("refused", "lost"))]
        return gone + self.unsound()


def of(name, ended):
    """How a question ended, and for which name."""
    kind, _, said = ended.partition(": ")
    return f"{kind}: {name} {said}" if ended else ""

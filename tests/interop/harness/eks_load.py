"""A bounded load of DNS questions in a pod: `python3 -m harness.eks_load SERVER NAME=ADDRESS,ADDRESS...`,
until its input ends.

Any other address is wrong; a name without one does not exist. An `@` in it is a number, new each time. Prints `under way` once every asker has had an answer, at the end one JSON
object: for UDP, TCP (a connection for each question) and getaddrinfo how many were asked, went unanswered within 2 s,
were refused, failed (SERVFAIL), or came back wrong, the longest time without any answer, and when the first was asked that
was lost (seconds of the monotonic clock, which all processes of a machine share).
"""

import itertools
import json
import socket
import struct
import sys
import threading
import time

from .matrix import packet
from .truth import outcome, strangers

#: Questions a second of one asker, and how many askers of each kind.
RATE, ASKERS = 25, {"udp": 4, "tcp": 2, "getaddrinfo": 1}
PATIENCE = 2.0
#: At most, whatever happens to the other end of our input.
MOST_SECONDS = 120
numbers = itertools.count(1)


class Load:
    def __init__(self, server, names):
        self.server = server
        self.names = [(name, list(filter(None, allowed.split(",")))) for name, _, allowed in (text.partition("=") for text in names)]
        self.over = threading.Event()
        self.counts = {kind: dict.fromkeys(("asked", "silent", "refused", "failed", "wrong"), 0) for kind in ASKERS}
        self.examples, self.lock, self.answered, self.gap = [], threading.Lock(), time.monotonic(), 0.0
        self.first_lost = None

    def _count(self, kind, outcome, name, began):
        with self.lock:
            self.counts[kind]["asked"] += 1
            if outcome == "answered":
                now = time.monotonic()
                # Nothing is asked any more once it is over: what then still waits is no gap.
                self.gap = self.gap if self.over.is_set() else max(self.gap, now - self.answered)
                self.answered = now
            else:
                self.counts[kind][outcome] += 1
                self.examples = [*self.examples, f"{kind} {outcome} {name} asked at {began:.2f}"][:5]
                self.first_lost = min(began, self.first_lost or began)

    def _udp(self, query):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(PATIENCE)
            udp.connect((self.server, 53))
            udp.send(query)
            return udp.recv(4096)

    def _tcp(self, query):
        with socket.create_connection((self.server, 53), PATIENCE) as tcp:
            tcp.settimeout(PATIENCE)
            tcp.sendall(struct.pack("!H", len(query)) + query)
            data = b""
            while len(data) < 2 or len(data) < 2 + struct.unpack_from("!H", data)[0]:
                more = tcp.recv(4096)
                if not more:
                    raise ConnectionResetError("closed without an answer")
                data += more
            return data[2:]

    def _ask(self, kind, name, allowed):
        if kind == "getaddrinfo":
            try:
                found = socket.getaddrinfo(name, 443, family=socket.AF_INET, type=socket.SOCK_STREAM)
                return "wrong" if strangers([address[0] for *_, address in found], allowed) else "answered"
            except socket.gaierror as error:
                known = not allowed and error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
                return "answered" if known else "refused" if error.errno == socket.EAI_AGAIN else "wrong"
        number = next(numbers) & 0xFFFF
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = packet(body=labels + b"\0\0\1\0\1", ident=number)
        try:
            reply = self._udp(query) if kind == "udp" else self._tcp(query)
        except TimeoutError:
            return "silent"
        except OSError:
            return "refused"
        said = outcome(query, reply, allowed)
        return "wrong" if said.startswith("wrong") else "failed" if said else "answered"

    def asker(self, kind, first, place):
        names = itertools.cycle(self.names)
        # Not all at once: what lasts a few milliseconds is seen by somebody.
        turn = time.monotonic() + place / RATE / sum(ASKERS.values())
        self.over.wait(turn - time.monotonic())
        while not self.over.is_set():
            name, allowed = next(names)
            name = name.replace("@", str(next(numbers)))
            began = time.monotonic()
            outcome = self._ask(kind, name, allowed)
            self._count(kind, outcome, name, began)
            if outcome == "answered":
                first.set()
            turn = max(turn + 1 / RATE, time.monotonic() - 1)
            self.over.wait(max(0, turn - time.monotonic()))

    def run(self):
        threads, firsts = [], []
        for place, kind in enumerate(kind for kind, count in ASKERS.items() for _ in range(count)):
            firsts.append(threading.Event())
            threads.append(threading.Thread(target=self.asker, args=(kind, firsts[-1], place)))
            threads[-1].start()
        well = all(first.wait(10) for first in firsts)
        print("under way" if well else "no answer", flush=True)
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(1), ended.set()), daemon=True).start()
        ended.wait(MOST_SECONDS)
        self.over.set()
        for thread in threads:
            thread.join()
        told = {"longest_gap": round(self.gap, 2), "examples": self.examples, "first_lost": self.first_lost}
        return {**self.counts, **told}


if __name__ == "__main__":
    print(json.dumps(Load(sys.argv[1], sys.argv[2:]).run()), flush=True)

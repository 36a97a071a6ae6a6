"""The scripted upstreams of a scenario: at each step, each says what the ranges have it say, over UDP and TCP."""

import socket
import struct
import threading
import time

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset

PORT = 53
#: Where a reply comes from that comes from elsewhere.
ELSEWHERE = "10.53.5.99"


class Servers:
    """Listens on the address of each range until it is closed; counts what it is asked."""

    def __init__(self, scenario):
        self._ranges = scenario.ranges
        self.step = 0
        #: (address, "UDP" or "TCP", name, type) of each question, in order.
        self.asked = []
        self.problems = []
        self._lock = threading.Lock()
        self._sockets = []
        for address in sorted({made.address for made in scenario.ranges}):
            self._listen(address)

    def _listen(self, address):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        streams = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for made in (datagrams, streams):
            made.bind((address, PORT))
            self._sockets.append(made)
        streams.listen(16)
        threading.Thread(target=self._datagrams, args=(address, datagrams), daemon=True).start()
        threading.Thread(target=self._streams, args=(address, streams), daemon=True).start()

    def close(self):
        for made in self._sockets:
            try:
                made.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            made.close()

    def _datagrams(self, address, made):
        while True:
            try:
                packet, client = made.recvfrom(65535)
            except OSError:
                return

            def send(reply, entry, client=client):
                if "from_elsewhere" in entry.adjust:
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                        other.bind((ELSEWHERE, 0))
                        other.sendto(reply, client)
                else:
                    made.sendto(reply, client)

            threading.Thread(target=self._answer, args=(address, "UDP", packet, send), daemon=True).start()

    def _streams(self, address, made):
        while True:
            try:
                client, _ = made.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(address, client), daemon=True).start()

    def _connection(self, address, client):
        def send(reply, entry):
            framed = struct.pack("!H", len(reply)) + reply
            client.sendall(framed if entry.cut is None else framed[: entry.cut])
            if entry.cut is not None or "close" in entry.adjust:
                client.shutdown(socket.SHUT_RDWR)

        with client:
            while True:
                try:
                    head = client.recv(2, socket.MSG_WAITALL)
                    if len(head) < 2:
                        return
                    packet = client.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
                    self._answer(address, "TCP", packet, send)
                except OSError:
                    return

    def _answer(self, address, transport, packet, send):
        try:
            query = dns.message.from_wire(packet)
        except dns.exception.DNSException as error:
            self.problems.append(f"a query that cannot be read: {error}")
            return
        question = query.question[0]
        with self._lock:
            self.asked.append((address, transport, question.name.to_text().lower(), question.rdtype))
            entry = self._entry(address, transport, query)
            if entry is None:
                self.problems.append(f"step {self.step}: {address} has no reply over {transport} to {question}")
                return
            entry.used += 1
        if "do_not_answer" in entry.adjust:
            return
        time.sleep(entry.sleep)
        try:
            send(build(entry, query), entry)
        except OSError:
            pass

    def _entry(self, address, transport, query):
        for made in self._ranges:
            if made.address == address and made.start <= self.step <= made.end:
                for entry in made.entries:
                    if (entry.most is None or entry.used < entry.most) and _fits(entry, transport, query):
                        return entry
        return None


def _fits(entry, transport, query):
    question = query.question[0]
    wanted = entry.question
    facts = {
        "opcode": lambda: query.opcode() == entry.opcode,
        "qname": lambda: wanted[0] == question.name,
        "qcase": lambda: wanted[0].to_text() == question.name.to_text(),
        "qtype": lambda: wanted[1] == question.rdtype,
        "subdomain": lambda: question.name.is_subdomain(wanted[0]),
        "UDP": lambda: transport == "UDP",
        "TCP": lambda: transport == "TCP",
        "DO": lambda: bool(query.ednsflags & dns.flags.DO),
        "edns": lambda: query.edns >= 0,
        "noedns": lambda: query.edns < 0,
    }
    return all(facts[word]() for word in entry.match)


def build(entry, query):
    """The octets of a reply."""
    if "raw" in entry.adjust:
        return query.to_wire()[:2] + entry.raw
    reply = dns.message.Message(id=query.id if "copy_id" in entry.adjust else query.id ^ 0x1111)
    reply.flags = dns.flags.Flag(entry.flags | dns.flags.QR)
    reply.set_opcode(entry.opcode)
    if "copy_query" in entry.adjust:
        reply.question = list(query.question)
        if "flip_case" in entry.adjust:
            reply.question = [dns.rrset.RRset(_flipped(q.name), q.rdclass, q.rdtype) for q in query.question]
    elif entry.question:
        name, rtype, rclass = entry.question
        reply.question = [dns.rrset.RRset(name, rclass, rtype)]
    for section in ("answer", "authority", "additional"):
        setattr(reply, section, [_rrset(record) for record in getattr(entry, section)])
    if "DO" in entry.reply or "EDNS" in entry.reply or entry.rcode > 15:
        options = [dns.edns.EDEOption(code) for code in sorted(entry.ede)]
        reply.use_edns(0, dns.flags.DO if "DO" in entry.reply else 0, 1232, options=options)
    reply.set_rcode(entry.rcode)
    wire = reply.to_wire(max_size=65535)
    # Over TCP it is the framed reply that is cut.
    return wire[: entry.cut] if entry.cut is not None and "UDP" in entry.match else wire


def _rrset(record):
    made = dns.rrset.RRset(record.owner, record.rdata.rdclass, record.rtype)
    made.add(record.rdata, record.ttl)
    return made


def _flipped(name):
    return dns.name.Name([label.swapcase() for label in name.labels])

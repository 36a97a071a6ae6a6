"""One question over UDP, as bytes: enough to see a contestant start, and to see that it answers what it should."""

import socket
import struct
import time

from .dns_data import AAAA, ADDRESSES, HTTPS, A

HEADER = 12


def ask(port, name, kind=A, within=1.0):
    """The reply, None if there is none in time."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(within)
        try:
            client.connect(("127.0.0.1", port))
            client.send(query)
            return client.recv(4096)
        except OSError:
            return None


def shape(reply):
    """Response code and number of answers."""
    return (reply[3] & 15, struct.unpack(">H", reply[6:8])[0]) if reply and len(reply) >= HEADER else None


def is_private(reply):
    return shape(reply) == (0, len(ADDRESSES)) and all(socket.inet_aton(address) in reply for address in ADDRESSES)


def first_answer(process, port, name, began, within=60):
    """Seconds from the start to the first right answer; None if it ended, or took too long."""
    while time.monotonic() - began < within and process.poll() is None:
        if is_private(ask(port, name, within=0.02)):
            return time.monotonic() - began
        time.sleep(0.0005)
    return None


def faults(port, data):
    """What is wrong with its answers, in words. Public ones may take a moment, as nothing is cached yet."""
    found = []
    wrong = [name for name in data.private[::50] if not is_private(ask(port, name))]
    if wrong:
        found.append(f"{len(wrong)} of {len(data.private[::50])} private names lack their addresses")
    for kind, word in ((AAAA, "AAAA"), (HTTPS, "HTTPS")):
        got = shape(ask(port, data.private[0], kind, within=3))
        if got != (0, 0):
            found.append(f"{word} of a private name: {_words(got)}")
    got = shape(ask(port, data.public[0], within=3))
    if got != (0, 2):
        found.append(f"a public name: {_words(got)}")
    return found


def _words(got):
    return f"code {got[0]}, {got[1]} answers" if got else "no reply"

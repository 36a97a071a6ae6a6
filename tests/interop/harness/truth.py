"""Which addresses the names that loads ask have, whichever way they are asked: an answer is right only if it has no other."""

import ipaddress
import struct

from .gateways import GATEWAY, PRIVATE

#: By the end of a name: the endpoint's, the public gateway's, a Service's, whatever public DNS makes up.
NETWORKS = {
    PRIVATE: ipaddress.ip_network("10.53.1.0/24"),
    GATEWAY: ipaddress.ip_network("198.51.100.10/31"),
    "payments.orders.svc.cluster.local": ipaddress.ip_network("172.20.0.0/16"),
    "wild.example.com": ipaddress.ip_network("198.51.100.0/24"),
}


def addresses(reply):
    """The A records of the answer section."""
    questions, answers = struct.unpack_from("!HH", reply, 4)
    at, found = 12, []

    def behind_name(at):
        while reply[at] and reply[at] < 0xC0:
            at += 1 + reply[at]
        return at + (2 if reply[at] else 1)

    for _ in range(questions):
        at = behind_name(at) + 4
    for _ in range(answers):
        at = behind_name(at)
        rtype, _, _, length = struct.unpack_from("!HHIH", reply, at)
        if rtype == 1:
            found.append(str(ipaddress.IPv4Address(reply[at + 10 : at + 14])))
        at += 10 + length
    return found


def misled(name, found):
    """The addresses among these, of IPv4, that a name does not have; `none at all` where it has some."""
    [network] = [network for end, network in NETWORKS.items() if name.lower().rstrip(".").endswith(end)]
    return [one for one in found if ipaddress.ip_address(one) not in network] or ([] if found else ["none at all"])


def wrong(name, ident, reply):
    """What is wrong with the reply to a question for a name's A records; nothing if it is as it has to be."""
    if len(reply) < 12 or reply[:2] != ident.to_bytes(2, "big") or reply[3] & 0xF:
        return reply.hex() or "nothing"
    others = misled(name, addresses(reply))
    return f"{name} is {', '.join(others)}" if others else ""


def sees_what_is_wrong():
    """Of replies with the endpoint's address, with the gateway's, with a failure, and of none, what each name's load says."""
    head = struct.pack("!HHHHHH", 7, 0x8180, 0, 1, 0, 0)

    def reply(address):
        return head + b"\0" + struct.pack("!HHIH", 1, 1, 60, 4) + ipaddress.ip_address(address).packed

    replies = [reply("10.53.1.10"), reply("198.51.100.10"), head[:3] + b"\x82" + head[4:], b""]
    return {name: [not wrong(name, 7, one) for one in replies] for name in (PRIVATE, GATEWAY)}

"""What the loads ask, and which addresses each name has, whichever way it is asked.

A reply with any other address, or without one, is wrong, and wrong is worse than lost: some losses are allowed somewhere,
a wrong answer nowhere. An `@` in a name is a number, new each time.
"""

import ipaddress
import struct

from .gateways import GATEWAY, PRIVATE
from .world import ENDPOINT, ZONE

PUBLIC_API = ["198.51.100.10", "198.51.100.11"]
#: Only the VPC's resolver knows it; a Service; never asked before; an API that nobody has.
DATABASE, SERVICE = "db.corp.internal", "payments.orders.svc.cluster.local"
FRESH, NOBODY = "n@.wild.example.com", f"n@.{ZONE}"
#: IPv4 alone. Without any the name does not exist.
ADDRESSES = {
    PRIVATE: ENDPOINT,
    GATEWAY: PUBLIC_API,
    DATABASE: ["10.53.7.7"],
    SERVICE: ["172.20.7.7"],
    FRESH: ["198.51.100.40"],
    NOBODY: [],
}
#: For Sidegate: both APIs lead elsewhere. With it a load that sees no wrong answer sees none at all.
EXCHANGED = {"SIDEGATE_POLICY__PRIVATE_API_IDS": "pubapi1234", "SIDEGATE_POLICY__ALWAYS_PUBLIC": "privapi123"}


def asked(*names):
    """These names with their addresses."""
    return {name: ADDRESSES[name] for name in names}


def either(names):
    """The same while a list gains and loses the public API's id."""
    return {**names, GATEWAY: [*ENDPOINT, *PUBLIC_API]}


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


def strangers(found, allowed):
    """What is wrong with these addresses, "" if nothing."""
    if found and set(found) <= set(allowed):
        return ""
    return f"wrong: {', '.join(found) or 'no address'}"


def outcome(query, reply, allowed):
    """How a question for A records ended: "" as it has to, else `lost: ...` or `wrong: ...`."""
    rcode = reply[3] & 0xF if len(reply) >= 12 else None
    if rcode is None or rcode == 2:
        return f"lost: {'SERVFAIL' if rcode else reply.hex() or 'nothing'}"
    if reply[:2] != query[:2]:
        return f"wrong: another's reply, {reply.hex()}"
    if rcode == 3 and not allowed:
        return ""
    return f"wrong: rcode {rcode}" if rcode else strangers(addresses(reply), allowed)

"""Scenarios of ../stelline, each with a Sidegate and scripted upstreams of its own: what is asked, what comes back.

README.md there has the words, and the addresses.
"""

import json
import re
import time
import urllib.request
from pathlib import Path

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode

from .processes import run
from .stelline_file import ScenarioError, parse
from .stelline_servers import Servers
from .world import ENDPOINT, LOCAL

FOLDER = Path(__file__).parent.parent / "stelline"
ADMIN = f"{LOCAL}:9180"
#: What each Sidegate knows: one private id, and where its endpoint is.
KNOWN = f"""
[policy]
region = "us-east-1"
private_api_ids = ["privapi123"]
[[endpoint]]
region = "us-east-1"
addresses = {json.dumps(ENDPOINT)}
"""
#: Addresses of scripted upstreams.
ADDRESSES = [f"10.53.5.{last}" for last in (1, 2, 3, 4, 9, 99)]
#: What stub resolvers wait for at most.
PATIENCE = 5.0


def check(world, report, short):
    del short
    report.section("Scripted scenarios (Stelline)")
    for address in ADDRESSES:
        run(["ip", "address", "add", f"{address}/32", "dev", "lo"])
    for path in sorted(FOLDER.glob("*.rpl")):
        scenario = parse(path.read_text(encoding="utf-8"))
        report.check(f"{path.stem}: {scenario.title}", list(problems(world, scenario)))


def problems(world, scenario):
    """Plays a scenario; what was not as it should be."""
    servers = Servers(scenario)
    # Lines before a table are keys of [upstream], the rest stands behind everything.
    keys, _, tables = scenario.config.partition("\n[")
    text = KNOWN if not tables else f"{KNOWN}\n[{tables}"
    sidegate = world.run_sidegate(world.configuration(text, upstream=keys, admin=ADMIN))
    # What was asked while it started belongs to no step.
    servers.asked.clear()
    servers.problems.clear()
    try:
        reply = None
        for step in scenario.steps:
            servers.step = step.number
            if step.kind == "QUERY":
                reply = _ask(step)
            elif step.kind == "CHECK_ANSWER":
                yield from (f"step {step.number}: {problem}" for problem in _differences(step.entry, reply))
            elif step.kind == "TIME_PASSES":
                time.sleep(float(step.words[1]))
            elif step.kind == "CHECK_ASKED":
                yield from _asked(step, servers)
            elif step.kind == "CHECK_METRIC":
                yield from _metric(step)
        yield from servers.problems
        if not sidegate.alive():
            yield sidegate.output()[-2000:]
    finally:
        sidegate.stop()
        servers.close()


def _ask(step):
    """Asks what the entry says; the reply, or words for why there is none."""
    entry = step.entry
    query = dns.message.Message()
    query.flags = dns.flags.Flag(entry.flags & ~dns.flags.QR)
    query.set_opcode(entry.opcode)
    name, rtype, rclass = entry.question
    query.find_rrset(query.question, name, rclass, rtype, create=True, force_unique=True)
    if entry.reply & {"DO", "EDNS"}:
        query.use_edns(0, dns.flags.DO if "DO" in entry.reply else 0, 1232)
    ask = dns.query.tcp if "TCP" in entry.match else dns.query.udp
    try:
        return ask(query, LOCAL, timeout=PATIENCE, port=53)
    except (dns.exception.DNSException, OSError) as error:
        return f"no reply: {error!r}"


def _differences(entry, reply):
    if not isinstance(reply, dns.message.Message):
        yield str(reply)
        return
    match = entry.match
    wanted_flags = entry.flags | dns.flags.QR
    if "flags" in match and int(reply.flags) & 0x87F0 != wanted_flags:
        yield f"flags {dns.flags.to_text(reply.flags)}, not {dns.flags.to_text(wanted_flags)}"
    if "rcode" in match and reply.rcode() != entry.rcode:
        yield f"{dns.rcode.to_text(reply.rcode())}, not {dns.rcode.to_text(entry.rcode)}: {reply}"
    if "question" in match and [(q.name.to_text(), q.rdtype) for q in reply.question] != [
        (entry.question[0].to_text(), entry.question[1])
    ]:
        yield f"the question is {reply.question}"
    for section in ("answer", "authority", "additional"):
        if section in match:
            yield from _sections(entry, section, getattr(reply, section))
    errors = {option.code for option in reply.options if isinstance(option, dns.edns.EDEOption)}
    if not entry.ede <= errors:
        yield f"extended errors {sorted(errors)}, without {sorted(entry.ede - errors)}"
    if entry.ttls is not None:
        ttls = [rrset.ttl for rrset in [*reply.answer, *reply.authority]]
        least, most = entry.ttls
        if not ttls or not all(least <= ttl <= most for ttl in ttls):
            yield f"TTLs {ttls}, not {least} to {most}"


def _sections(entry, section, rrsets):
    with_ttl = "ttl" in entry.match
    wanted = sorted(map(repr, (record.key(with_ttl) for record in getattr(entry, section))))
    got = sorted(
        repr((rrset.name.canonicalize(), int(rrset.rdtype), rdata.to_digestable(), rrset.ttl if with_ttl else None))
        for rrset in rrsets
        for rdata in rrset
    )
    if wanted != got:
        yield f"{section} is {[str(rrset) for rrset in rrsets]}"


def _asked(step, servers):
    """`CHECK_ASKED address|any UDP|TCP|any name least-most`: how often since the start."""
    address, transport, name, bounds = step.words
    # A question that was answered meanwhile may still be on its way to another server.
    time.sleep(0.05)
    count = sum(
        (address in ("any", to)) and (transport in ("any", over)) and (name in ("any", asked))
        for to, over, asked, _ in servers.asked
    )
    least, most = map(int, bounds.split("-"))
    if not least <= count <= most:
        yield f"step {step.number}: asked {count} times, not {bounds}: {servers.asked}"


def _metric(step):
    """`CHECK_METRIC name{labels} least-most`."""
    name, bounds = step.words
    with urllib.request.urlopen(f"http://{ADMIN}/metrics", timeout=2) as answer:
        text = answer.read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    least, most = map(int, bounds.split("-"))
    if not found or not least <= float(found[1]) <= most:
        yield f"step {step.number}: {name} is {found and found[1]}, not {bounds}"

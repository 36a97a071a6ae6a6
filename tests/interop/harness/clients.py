"""Programs that never heard of Sidegate: with no more than resolv.conf they must come to the right addresses."""

import concurrent.futures
import ipaddress
import os
import shutil
from pathlib import Path

from .policy import FRANKFURT, POLICY, UPSTREAM
from .processes import ProcessError, run
from .world import ENDPOINT, LOCAL, ZONE

SOURCES = Path(__file__).parent.parent / "clients"
PUBLIC_API = ["198.51.100.10", "198.51.100.11", "2001:db8:a::10"]
CUSTOM = ["198.51.100.20", "2001:db8:a::20"]

#: What a name must resolve to, in any order.
NAMES = {
    f"privapi123.{ZONE}": ENDPOINT,
    f"PrivApi123.{ZONE.upper()}": ENDPOINT,
    f"boundapi12.{ZONE}": ["10.53.1.20", "fd53::1:20"],
    f"privapi123.{FRANKFURT}": ["10.53.1.30", "fd53::1:30"],
    ZONE: ENDPOINT,
    "orders.corp.example": ENDPOINT,
    f"pubapi1234.{ZONE}": PUBLIC_API,
    "api.example.com": CUSTOM,
    "api2.example.com": CUSTOM,
    "www.example.com": ["198.51.100.3", "198.51.100.4", "198.51.100.5", "2001:db8::3"],
    "v4only.example.com": ["198.51.100.6"],
    "v6only.example.com": ["2001:db8::6"],
    "chain1.example.com": ["198.51.100.3", "198.51.100.4", "198.51.100.5", "2001:db8::3"],
    "large.example.com": [f"2001:db8:1::{number}" for number in range(1, 61)],
    "db.corp.internal": ["10.53.7.7", "fd53::7"],
    f"nobody9876.{ZONE}": "NONAME",
    f"below.privapi123.{ZONE}": "NONAME",
    "apigone.example.com": "NONAME",
    "nowhere.example.com": "NONAME",
}
#: musl 1.2.3 does not ask again over TCP.
TOO_LARGE_FOR_MUSL = {"large.example.com"}
#: With `ndots:5` every name of few dots is tried below each search domain first, as in a pod.
SEARCH = (
    "nameserver 127.0.0.1\nsearch prod.svc.cluster.local svc.cluster.local cluster.local corp.internal\n"
    "options ndots:5\n"
)
SEARCHED = {
    f"privapi123.{ZONE}": ENDPOINT,
    f"pubapi1234.{ZONE}": PUBLIC_API,
    "api.example.com": CUSTOM,
    "db": ["10.53.7.7", "fd53::7"],
    f"nobody9876.{ZONE}": "NONAME",
}


def build(world):
    """Compiles the clients, two at a time; the command for each, or what is wrong with it."""
    home = world.work / "clients"
    home.mkdir(exist_ok=True)
    source = SOURCES / "lookup.c"
    cache = {
        **os.environ,
        "GOCACHE": str(home / "go-cache"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
    }
    builds = {
        "go": (["go", "build", "-o", home / "go", SOURCES / "lookup.go"], cache),
        "java": (["javac", "-d", home, SOURCES / "Lookup.java"], None),
        "musl": (["musl-gcc", "-static", "-O1", "-Wall", "-Werror", "-o", home / "musl", source], None),
        "glibc": (["gcc", "-O1", "-Wall", "-Werror", "-o", home / "glibc", source], None),
    }
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = {name: pool.submit(run, command, 150, env) for name, (command, env) in builds.items()}
    for name, future in done.items():
        code, out, error = future.result()
        if code != 0:
            raise ProcessError(f"the {name} client does not build: {out}{error}")
    return {
        "musl, static": [home / "musl"],
        "glibc": [home / "glibc"],
        "Go": [home / "go"],
        "Python": ["/usr/bin/python3", SOURCES / "lookup.py"],
        "Node, dns.lookup": [shutil.which("node"), SOURCES / "lookup.mjs", "lookup"],
        "Node, dns.resolve": [shutil.which("node"), SOURCES / "lookup.mjs", "resolve"],
        "Java": [shutil.which("java"), "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", home, "Lookup"],
    }


def ask(report, label, command, names, before=()):
    """One run of a client for all names, one check for each."""
    code, out, error = run([*before, *command, *names], 60)
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    for name, wanted in names.items():
        got = lines.get(name)
        if got is None:
            report.check(f"{label:18} {name}", f"exit {code}: {out}{error}"[-1500:])
        elif wanted == "NONAME":
            report.check(f"{label:18} {name}: no such name", [] if got == ["NONAME"] else str(got))
        else:
            try:
                addresses = sorted(str(ipaddress.ip_address(address)) for address in got)
            except ValueError:
                addresses = got
            shown = " ".join(wanted) if len(wanted) < 5 else f"{len(wanted)} addresses"
            report.check(f"{label:18} {name}: {shown}", [] if addresses == sorted(wanted) else str(got))


def check(world, report, _short):
    report.section("Clients with resolv.conf pointing at Sidegate")
    commands = build(world)
    report.note("built")
    upstream = UPSTREAM.replace("@DEFAULT@", "vpc")
    sidegate = world.run_sidegate(world.configuration(POLICY, listen=[f"{LOCAL}:53"], upstream=upstream))
    for label, command in commands.items():
        names = {
            name: wanted for name, wanted in NAMES.items() if "musl" not in label or name not in TOO_LARGE_FOR_MUSL
        }
        ask(report, label, command, names)

    report.section("The same with search domains and ndots:5")
    resolv_conf = world.work / "resolv-search.conf"
    resolv_conf.write_text(SEARCH, encoding="ascii")
    inside = ["unshare", "--mount", "sh", "-c", f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"', "sh"]
    for label, command in commands.items():
        if label != "Node, dns.resolve":  # c-ares knows search domains, Node's resolve does not use them.
            ask(report, label, command, SEARCHED, inside)
    report.check("Sidegate has survived", [] if sidegate.alive() else sidegate.output()[-2000:])
    sidegate.stop()

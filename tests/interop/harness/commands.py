"""The commands and their exit codes, the admin listener, ports in use, and the start without any configuration."""

import http.client
import signal
import socket
import time

from . import metrics
from .compare import PLAIN
from .dig import dig
from .processes import run, wait_until
from .world import LOCAL, PUBLIC, VPC, ZONE

ADMIN_PORT = 9180
UPSTREAM = f'public = ["udp://{PUBLIC}"]\nvpc = ["{VPC}"]'


def status(path, port=ADMIN_PORT, headers=None):
    """The status of one request, 0 where nobody listens."""
    connection = http.client.HTTPConnection(LOCAL, port, timeout=3)
    try:
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def exits(report, name, code, command, wanted_text=(), env=None, within=10):
    got, out, error = run(command, within, env=env)
    missing = [text for text in wanted_text if text not in out + error]
    report.check(name, [] if got == code and not missing else f"exit {got}, lacks {missing}: {out}{error}")


def check_command(world, report):
    report.section("sidegate check")
    good = world.configuration(PLAIN, upstream=UPSTREAM)
    sidegate = world.sidegate
    exits(report, "a right file: 0", 0, [sidegate, "check", "--config", good])
    bad = world.work / "bad.toml"
    for what, text, words in (
        ("an unknown key", "[policy]\nregoin = 'us-east-1'\n", ["bad.toml:2:1", "regoin", "region"]),
        ("a wrong type", "[dns]\nworkers = 'many'\n", ["bad.toml:2:11", "workers"]),
        ("a bad address", "[dns]\nlisten = ['localhost']\n", ["bad.toml:2:11", "localhost"]),
        ("an id with a dot", f"[policy]\nprivate_api_ids = ['a1.{ZONE}']\n", ["bad.toml:2:20", "a1"]),
        ("a region of no partition", "[policy]\nregion = 'us_east_1'\n", ["bad.toml:2:10", "us_east_1"]),
        ("two errors", "grace = 'soon'\n[dns]\nworkers = 0\n", ["bad.toml:1:9", "bad.toml:3:11"]),
        ("no TOML", "[policy\n", ["bad.toml:1:"]),
    ):
        bad.write_text(text, encoding="utf-8")
        exits(report, f"{what}: 78, with the place", 78, [sidegate, "check", "--config", bad], words)
        exits(report, f"{what}: run says 78 too", 78, [sidegate, "run", "--config", bad], words)
    exits(
        report,
        "a file that is not there: 78",
        78,
        [sidegate, "check", "--config", world.work / "none.toml"],
        ["none.toml"],
    )
    exits(report, "a wrong command: 64", 64, [sidegate, "chekc"])
    exits(report, "route prints the rule: 0", 0, [sidegate, "route", f"d-x.{ZONE}", "--config", good], ["5"])


def running(world, report):
    report.section("sidegate wait and health, the admin listener")
    words = [
        "--config",
        world.configuration(PLAIN, upstream=UPSTREAM, admin=f"{LOCAL}:{ADMIN_PORT}", head='linger = "2s"'),
    ]
    exits(report, "health, nothing running: 1, in 2 s", 1, [world.sidegate, "health", *words], within=3)
    exits(report, "wait, nothing running, 1 s: 1", 1, [world.sidegate, "wait", "--timeout", "1", *words], within=6)
    sidegate = world.start("run", *words)
    exits(report, "wait: 0", 0, [world.sidegate, "wait", *words], within=35)
    exits(report, "health: 0", 0, [world.sidegate, "health", *words], within=3)
    for path, wanted in (("/startup", 200), ("/ready", 200), ("/live", 200), ("/nothing", 404)):
        got = status(path)
        report.check(f"GET {path}: {wanted}", [] if got == wanted else str(got))
    got = status("/ready", headers={"Host": "rebound.example"})
    report.check("GET /ready for another host: refused", [] if 400 <= got < 500 else str(got))
    for name, rtype, wanted in (
        ("health.sidegate.invalid", "TXT", "NOERROR"),
        ("other.sidegate.invalid", "A", "NXDOMAIN"),
    ):
        reply = dig(name, rtype)
        report.check(f"dig {name} {rtype}: {wanted}", [] if reply.status == wanted else reply.text)

    report.section("Ports in use")
    second = world.configuration(PLAIN, upstream=UPSTREAM)
    exits(
        report,
        "a second Sidegate on its port: 1, naming address and key",
        1,
        [world.sidegate, "run", "--config", second],
        ["127.0.0.1:53", "dns.listen"],
    )
    second = world.configuration(PLAIN, listen=[f"{LOCAL}:5300"], upstream=UPSTREAM, admin=f"{LOCAL}:{ADMIN_PORT}")
    exits(
        report,
        "a second one on its admin port: 1, naming address and key",
        1,
        [world.sidegate, "run", "--config", second],
        [f"127.0.0.1:{ADMIN_PORT}", "admin.listen"],
    )
    for kind, label in ((socket.SOCK_DGRAM, "UDP"), (socket.SOCK_STREAM, "TCP")):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            taken.bind((LOCAL, 5300))
            if kind == socket.SOCK_STREAM:
                taken.listen()
            second = world.configuration(PLAIN, listen=[f"{LOCAL}:5300"], upstream=UPSTREAM)
            exits(
                report,
                f"{label} taken by another program with SO_REUSEPORT: 1, naming address and key",
                1,
                [world.sidegate, "run", "--config", second],
                ["127.0.0.1:5300", "dns.listen"],
            )
    own = world.configuration(
        PLAIN, upstream=f'public = ["udp://{LOCAL}"]\nvpc = ["{VPC}"]', listen=[f"{LOCAL}:5300", f"{LOCAL}:53"]
    )
    exits(
        report,
        "itself as its upstream: no start",
        78 if run([world.sidegate, "check", "--config", own])[0] else 1,
        [world.sidegate, "run", "--config", own],
        ["127.0.0.1"],
    )
    report.check(
        "the first one goes on", [] if sidegate.alive() and status("/live") == 200 else sidegate.output()[-2000:]
    )

    sidegate.signal(signal.SIGTERM)
    wait_until(lambda: status("/ready") == 503, 2, "/ready to say 503 after SIGTERM")
    report.check(
        "SIGTERM: /ready is 503 while it lingers, and questions are answered",
        [] if dig(f"privapi123.{ZONE}").status == "NOERROR" else "no answer",
    )
    code = sidegate.wait(30)
    report.check("... and it ends with 0", [] if code == 0 else f"exit {code}")


def defaults(world, report):
    report.section("Without any configuration, where nothing but lo is there")
    code, out, _ = run(["ip", "-o", "route", "get", "169.254.169.253"])
    report.check("no route to 169.254.169.253", [] if code != 0 else out)
    sidegate = world.start("run", env={"AWS_REGION": "us-east-1"})
    sidegate.await_port(LOCAL, 5353)
    reply = dig("health.sidegate.invalid", "TXT", port=5353)
    report.check("dig -p 5353 health.sidegate.invalid TXT answers", [] if reply.data("TXT") else reply.text)
    for what, name in (
        ("an unknown id", f"privapi123.{ZONE}"),
        ("the apex", ZONE),
        ("any other name", "www.example.com"),
    ):
        began = time.monotonic()
        reply = dig(name, port=5353)
        seconds = time.monotonic() - began
        report.check(
            f"{what} is SERVFAIL in time, with the reason",
            [] if reply.status == "SERVFAIL" and reply.extended and seconds < 5 else f"{seconds:.1f} s\n{reply.text}",
        )
    got = status("/live")
    report.check("/live is 200", [] if got == 200 else str(got))
    code = sidegate.stop()
    report.check("SIGTERM ends it with 0", [] if code == 0 else f"exit {code}: {sidegate.output()[-2000:]}")
    text = sidegate.output()
    report.check("its log has no escape codes where it is no terminal", [] if "\x1b" not in text else repr(text[:300]))


def check(world, report, _short):
    check_command(world, report)
    running(world, report)
    metrics.check(world, report)
    defaults(world, report)

"""POST /reload: who may, what it answers, what it never loses."""

import asyncio
import http.client
import os
import signal

from .compare import PLAIN
from .discovery_lab import ADMIN, get, status, warnings
from .dig import dig
from .faults import LOADED, TWO_SERVERS, Load
from .processes import wait_until
from .truth import either
from .world import BEYOND, ENDPOINT, LOCAL, ZONE

NAME = f"pubapi1234.{ZONE}"
PUBLIC_ADDRESSES = ["198.51.100.10", "198.51.100.11"]
#: Nobody: no capability is left to this user.
USER = 65534


def post(headers=None, admin=ADMIN, source=None):
    return get("/reload", admin, "POST", headers, source)


def reloads(world, report):
    report.section("POST /reload")
    everywhere = "0.0.0.0:9180"
    path = world.configuration(PLAIN, upstream=TWO_SERVERS, admin=everywhere)
    plain = path.read_text(encoding="utf-8")
    more = plain.replace('"privapi123"', '"privapi123", "pubapi1234"')
    sidegate = world.run_sidegate(path)
    world_file = path.write_text

    world_file(more)
    answer = post()
    reply = dig(NAME)
    right = answer == (200, "reloaded\n") and reply.data("A") == ENDPOINT
    report.check(
        "an id added, from loopback: 200, and in force when it says so", [] if right else f"{answer} {reply.text}"
    )
    world_file(plain)
    mark = len(sidegate.output())
    for what, answer in (
        ("from another address", post(admin=f"{BEYOND}:9180", source=BEYOND)),
        ("with the Origin of another site", post({"Origin": "http://evil.example"})),
        ("for a Host that is not known", post({"Host": "rebound.example"})),
    ):
        still = dig(NAME).data("A") == ENDPOINT
        report.check(f"{what}: 403, nothing happens", [] if 400 <= answer[0] < 500 and still else str(answer))
    answer = get("/reload")
    report.check("GET: not", [] if answer[0] == 405 else str(answer))
    code, body = get("/status", f"{BEYOND}:9180", source=BEYOND)
    report.check("/status from another address: 403", [] if code == 403 else f"{code} {body[:200]}")
    code, _ = get("/ready", f"{BEYOND}:9180", source=BEYOND)
    report.check("/ready from another address: 200", [] if code == 200 else str(code))
    before = status()["reloads"]
    for what, text, words in (
        ("an unknown key", more + "\n[nonsense]\n", ["nonsense"]),
        ("two errors", more.replace("workers = 1", "workers = 0") + "\n[nonsense]\n", ["nonsense", "workers"]),
        ("no TOML", more + "\n[nonsense", [path.name]),
        ("no key at all", "", []),
    ):
        mark = len(sidegate.output())
        world_file(text)
        code, body = post()
        logged = "\n".join(warnings(sidegate, mark))
        lacking = [word for word in words if word not in body or word not in sidegate.output()[mark:]]
        right = code == 422 and body.strip() and logged and not lacking and dig(NAME).data("A") == ENDPOINT
        report.check(
            f"{what}: 422 with the errors, which are logged, the old stays",
            [] if right else f"{code} {body!r}, lacks {lacking}\n{sidegate.output()[mark:]}",
        )
    after = status()["reloads"]
    counted = after["refused"] - before["refused"] == 4 and after["succeeded"] == before["succeeded"]
    report.check("/status has counted them", [] if counted else f"{before} {after}")

    load, answers = Load(names=either(LOADED)), []

    async def twenty():
        loop = asyncio.get_running_loop()
        for turn in range(20):
            world_file(more if turn % 2 == 0 else plain)
            answers.append(await loop.run_in_executor(None, post))
            await asyncio.sleep(0.1)

    asyncio.run(load.run(3, twenty))
    report.check("20 reloads: 200 each", [str(answer) for answer in answers if answer[0] != 200])
    report.check(f"{load.asked // 100 * 100}+ questions meanwhile: none is lost or wrong", load.problems)
    report.check("the load was one", load.asked > 200)
    reply = dig(NAME)
    report.check("the last one is in force", [] if reply.data("A") == PUBLIC_ADDRESSES else reply.text)

    world_file(more)
    connections = [http.client.HTTPConnection(LOCAL, 9180, timeout=20) for _ in range(4)]
    for connection in connections:
        connection.request("POST", "/reload")
    answers = [connection.getresponse() for connection in connections]
    answers = [(answer.status, answer.read().decode()) for answer in answers]
    problems = [str(answer) for answer in answers if answer[0] != 200]
    problems += [] if dig(NAME).data("A") == ENDPOINT else ["not in force"]
    report.check("four at once: 200 each, and in force", problems)
    code = sidegate.stop()
    report.check("SIGTERM ends it with 0", [] if code == 0 else f"exit {code}")


def without_privileges(world, report):
    report.section("A reload that needs what was dropped")
    os.chmod(world.work, 0o711)
    drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"]
    path = world.configuration(PLAIN, listen=[f"{LOCAL}:5353"], upstream=TWO_SERVERS, admin=ADMIN)
    plain = path.read_text(encoding="utf-8")
    sidegate = world.start("run", "--config", path, before=drop)
    sidegate.await_port(LOCAL, 5353)
    wait_until(lambda: get("/ready")[0] == 200, 10, "/ready")
    path.write_text(plain.replace(f'"{LOCAL}:5353"', f'"{LOCAL}:5353", "{LOCAL}:53"'), encoding="utf-8")
    code, body = post()
    named = "dns.listen" in body and f"{LOCAL}:53" in body
    report.check(
        "dns.listen on port 53 as nobody: 422 and says which", [] if code == 422 and named else f"{code} {body!r}"
    )
    reply = dig(f"privapi123.{ZONE}", port=5353)
    report.check("... the old listener stays", [] if reply.data("A") == ENDPOINT else reply.text)
    mark = len(sidegate.output())
    sidegate.signal(signal.SIGHUP)
    wait_until(lambda: "dns.listen" in sidegate.output()[mark:], 5, "a word about SIGHUP")
    report.check("SIGHUP: the same, in the log")
    path.write_text(plain.replace(f'"{LOCAL}:5353"', f'"{LOCAL}:5353", "{LOCAL}:5354"'), encoding="utf-8")
    code, body = post()
    reply = dig(f"privapi123.{ZONE}", port=5354)
    right = code == 200 and reply.data("A") == ENDPOINT
    report.check("a listener on port 5354: 200, it answers", [] if right else f"{code} {body!r} {reply.text}")
    sidegate.stop()


def check(lab, report, _short):
    lab.stop_running()
    reloads(lab.world, report)
    without_privileges(lab.world, report)

"""Lists in files and behind URLs: what one job publishes for a fleet, how it changes, what a broken one does."""

import json
import os
import signal
import threading
import time

from .discovery_lab import (
    API_SOURCE,
    INTERVAL,
    LIST_URL,
    PUBLIC_ADDRESS,
    SECURE_URL,
    await_reads,
    source,
    status,
    warnings,
)
from .gateways import Gateways
from .processes import wait_until
from .world import ENDPOINT

#: A change that has been stable for half a second is in force by then.
WITHIN = 2.0
URL_SOURCE = f'[[discovery]]\nkind = "url"\nurl = "{{}}"\ninterval = "{INTERVAL}s"\n'


def file_source(path):
    return f'[[discovery]]\nkind = "file"\npath = "{path}"\n'


def follows(lab, report, what, api, wanted):
    """A check that a name leads there in time."""
    seconds = lab.seconds_until(lambda: lab.resolve(api) == wanted, 10, lambda: f"{what}: not {lab.resolve(api)}")
    late = seconds > WITHIN + 0.1
    report.check(f"{what}: in force after {seconds:.1f} s", f"later than {WITHIN} s" if late else [])


def published(lab, report, short):
    report.section("sidegate discover for a fleet")
    job = lab.configuration(API_SOURCE)
    private = sorted(lab.private())
    code, out, error = lab.discover(job, "--format", "lines")
    ids = sorted(line.split()[0] for line in out.splitlines() if line.strip() and not line.startswith("#"))
    report.check("--format lines prints every private id", [] if ids == private else f"exit {code} {len(ids)} {error}")
    code, out, error = lab.discover(job, "--format", "json")
    entries = json.loads(out) if code == 0 else []
    right = sorted(entry["id"] for entry in entries) == private
    bound = {entry["id"]: entry.get("vpc_endpoint_ids", []) for entry in entries}
    wrong = [f"{api}: {bound.get(api)}" for api in private if bound.get(api, []) != lab.apis[api][1]]
    report.check("--format json prints them with their endpoints", wrong if right else f"exit {code} {error}")

    # One file for both kinds: a path, and a URL of the server of lists.
    output = lab.lists / "ids"
    code, _, error = lab.discover(job, "--format", "json", "--output", output)
    report.check("--output writes the very same", [] if code == 0 and output.read_text() == out else f"{code} {error}")
    readers = {"file": file_source(output), "url": URL_SOURCE.format(LIST_URL)}
    for kind, text in list(readers.items())[: 1 if short else 2]:
        sidegate = lab.run(lab.configuration(text))
        lab.await_ids(len(lab.private()))
        report.check(f"a second Sidegate with {kind}: every private id, bindings too", lab.problems(lab.private()))
        if kind == "file":
            written(lab, report, job, output)
        broken = [line for line in warnings(sidegate) if "file" in line or "url" in line]
        report.check("... and it never read a broken list", broken)
        sidegate.stop()
    mark = output.read_text()
    lab.switch(fault="deny")
    code, printed, error = lab.discover(job, "--output", output)
    lab.switch()
    untouched = code == 1 and output.read_text() == mark and not printed
    report.check("403: exit 1 with the reason, the file is as it was", [] if untouched and error else f"{code} {error}")


def written(lab, report, job, output):
    """Reads the file again and again while it is written."""
    seen, done = [], threading.Event()

    def read():
        while not done.is_set():
            try:
                seen.append(len(json.loads(output.read_text())))
            except (OSError, ValueError) as error:
                seen.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    added = lab.create(0, "PRIVATE")
    for _ in range(3):
        lab.discover(job, "--format", "json", "--output", output)
    done.set()
    reader.join()
    wrong = sorted({str(count) for count in seen} - {str(len(lab.private())), str(len(lab.private()) - 1)})
    report.check("written three times, whoever reads it meanwhile always finds a whole list", wrong)
    follows(lab, report, "an API added since", added, ENDPOINT)
    left = sorted(path.name for path in output.parent.iterdir() if path != output)
    report.check("nothing else is left beside it", left)


def changing_files(lab, report):
    report.section("Files that change")
    # As kubelet writes a ConfigMap: ids -> ..data/ids, ..data -> a folder of that moment, swapped by a rename.
    mount = lab.home / "configmap"
    mount.mkdir()

    def swap(name, text):
        (mount / name).mkdir()
        (mount / name / "ids").write_text(text)
        (mount / "..new").symlink_to(name)
        os.rename(mount / "..new", mount / "..data")

    swap("..2026_1", "aaaaaaaaa1\n")
    (mount / "ids").symlink_to("..data/ids")
    plain = lab.home / "plain-ids"
    plain.write_text("bbbbbbbbb1 # the first\n")
    sidegate = lab.run(lab.configuration(file_source(mount / "ids") + file_source(plain)))
    wait_until(lambda: lab.resolve("aaaaaaaaa1") == ENDPOINT == lab.resolve("bbbbbbbbb1"), 10, "both lists")
    swap("..2026_2", "aaaaaaaaa1\naaaaaaaaa2\n")
    follows(lab, report, "a ConfigMap's symlink swap", "aaaaaaaaa2", ENDPOINT)
    swap("..2026_3", '["aaaaaaaaa1"]')
    follows(lab, report, "a swap that removes an id, as a JSON array", "aaaaaaaaa2", [PUBLIC_ADDRESS])
    new = lab.home / "plain-ids.new"
    new.write_text("bbbbbbbbb1\nbbbbbbbbb2\n")
    os.rename(new, plain)
    follows(lab, report, "an atomic rename", "bbbbbbbbb2", ENDPOINT)
    with open(plain, "a", encoding="ascii") as file:
        file.write("bbbbbbbbb3\n")
    follows(lab, report, "a write in place", "bbbbbbbbb3", ENDPOINT)
    stamp = plain.stat()
    plain.write_text("bbbbbbbbb1\nbbbbbbbbb2\nbbbbbbbbb4\n")
    os.utime(plain, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    follows(lab, report, "a write in place of the same size and time", "bbbbbbbbb4", ENDPOINT)

    # Written slowly: half of a list is not believed as long as it keeps changing.
    seen = set()
    with open(plain, "w", encoding="ascii") as file:
        for line in ("bbbbbbbbb1\n", "bbbbbbbbb2\n", "bbbbbbbbb5\n", "bbbbbbbbb4\n"):
            for piece in (line[:5], line[5:]):
                file.write(piece)
                file.flush()
                time.sleep(0.2)
                seen.add(tuple(lab.resolve("bbbbbbbbb4")))
    report.check(
        "written piece by piece, an id that stays is never away", [] if seen == {tuple(ENDPOINT)} else str(seen)
    )
    follows(lab, report, "... and what it was written to", "bbbbbbbbb5", ENDPOINT)

    for what, text, words in (
        ("a broken line", "bbbbbbbbb1\nbbbbbbbbb2\nnot an id!\n", ["plain-ids", "line 3"]),
        ("a JSON array cut short", '["bbbbbbbbb1",\n"bbbbb', ["plain-ids", "line 2"]),
        ("a web page", "<!doctype html>\n<p>Sign in", ["plain-ids", "line 1"]),
    ):
        mark, reads = len(sidegate.output()), source(1)["failures"]
        plain.write_text(text)
        wait_until(lambda reads=reads: source(1)["failures"] > reads, 5, f"{what} to be read")
        said = [line for line in warnings(sidegate, mark) if all(word in line for word in words)]
        stays = lab.resolve("bbbbbbbbb5") == ENDPOINT == lab.resolve("bbbbbbbbb1")
        report.check(
            f"{what}: nothing changes, a warning says where", [] if said and stays else sidegate.output()[mark:]
        )
    plain.unlink()
    time.sleep(WITHIN)
    report.check("removed: nothing changes", [] if lab.resolve("bbbbbbbbb5") == ENDPOINT else "it is gone")
    plain.write_text("bbbbbbbbb6\n")
    follows(lab, report, "there again", "bbbbbbbbb6", ENDPOINT)
    found = status()["sources"]
    labels = [entry["source"] for entry in found]
    report.check("/status names both files", [] if all("file" in label for label in labels) else str(labels))
    sidegate.stop()


def behind_url(lab, report, gateways):
    report.section("A list behind a URL")
    (lab.lists / "ids").write_text("ccccccccc1\nccccccccc2\n")
    root = f'extra_roots = ["{lab.world.authority}"]'
    header = 'headers = { Authorization = "Bearer interop" }\n'
    sidegate = lab.run(lab.configuration(URL_SOURCE.format(SECURE_URL) + header, forward=root))
    lab.await_ids(2)
    report.check("over HTTPS: known", [] if lab.resolve("ccccccccc2") == ENDPOINT else str(status()))
    mark = len(lab.list_requests())
    await_reads(3)
    requests = lab.list_requests()[mark:]
    report.check(
        "unchanged: asked with its ETag, answered 304",
        [str(line) for line in requests if line[0] != "304"] or bool(requests),
    )
    log = (lab.home / "access.log").read_text()
    report.check("the configured header is sent", [] if '"Bearer interop"' in log else log[-500:])
    secret = [line for line in sidegate.output().splitlines() if "interop" in line]
    report.check("... and not logged", secret)
    (lab.lists / "ids").write_text("ccccccccc1\nccccccccc2\nccccccccc3\n")
    seconds = lab.seconds_until(lambda: lab.resolve("ccccccccc3") == ENDPOINT, 10, "the new id")
    late = seconds > INTERVAL + 1
    report.check(f"changed: in force after {seconds:.1f} s", f"interval {INTERVAL} s" if late else [])

    def stays(what, words, begin, end):
        mark = len(sidegate.output())
        begin()
        await_reads(1, "failures", 60)
        end()
        error = source()["error"] or ""
        problems = [f"/status says {error!r}, without any of {words}"] * (
            not any(word in error.lower() for word in words)
        )
        problems += [] if lab.resolve("ccccccccc3") == ENDPOINT else ["the id is gone"]
        problems += [] if warnings(sidegate, mark) else ["no warning"]
        report.check(f"{what}: the list stays, /status and a warning say why", problems)
        await_reads(1, within=90)

    def restart(certificate, key):
        lab.stop_lists()
        lab.start_lists(certificate, key)

    nginx = lab.world.peers
    redirect = lab.home / "redirect"
    stays("a redirect", ["302", "redirect"], redirect.touch, redirect.unlink)
    right = gateways.certificate, gateways.key
    stays(
        "a certificate for another name",
        ["certificate", "name"],
        lambda: restart(gateways.home / "othername.pem", gateways.home / "othername.key"),
        lambda: restart(*right),
    )
    stays(
        "a certificate of an unknown authority",
        ["certificate", "issuer"],
        lambda: restart(gateways.home / "unknown.pem", gateways.home / "unknown.key"),
        lambda: restart(*right),
    )
    stays("nobody listens", ["refused", "connect"], lab.stop_lists, lambda: lab.start_lists(*right))
    stays(
        "a server that never answers",
        ["within", "time", "answer"],
        lambda: nginx["lists"].signal(signal.SIGSTOP),
        lambda: nginx["lists"].signal(signal.SIGCONT),
    )
    before = (lab.lists / "ids").read_bytes()
    stays(
        "a web page in its place",
        ["line 1"],
        lambda: (lab.lists / "ids").write_text("<!doctype html>\n"),
        lambda: (lab.lists / "ids").write_bytes(before),
    )
    mark = len(sidegate.output())
    (lab.lists / "ids").write_text("# none\n")
    await_reads(2)
    told = [line for line in warnings(sidegate, mark) if "empty" in line]
    stays_so = lab.resolve("ccccccccc3") == ENDPOINT
    report.check(
        "an empty list: the one before stays, with a warning", [] if told and stays_so else sidegate.output()[mark:]
    )
    sidegate.stop()


def check(lab, report, short):
    gateways = Gateways(lab.world, "discovery/certificates", ["lists.corp.internal"])
    lab.start_lists(gateways.certificate, gateways.key)
    published(lab, report, short)
    if not short:
        changing_files(lab, report)
        behind_url(lab, report, gateways)

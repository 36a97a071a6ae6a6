"""API Gateway as the source of ids: what is listed, changes, goes wrong, and is still known after a restart."""

import signal
import time

from .discovery_lab import (
    API_SOURCE,
    APIS,
    INTERVAL,
    PUBLIC_ADDRESS,
    await_reads,
    get,
    known,
    source,
    status,
    warnings,
)
from .processes import wait_until
from .world import ENDPOINT

#: Seconds that a read may take on a busy machine.
SLACK = 1.0
NOT_READY = ["SERVFAIL", 14]


def listed(lab, report):
    report.section(f"{APIS:,} APIs in three pages, PRIVATE, REGIONAL, EDGE")
    private = lab.private()
    seconds = lab.await_ids(len(private))
    report.check(f"/status knows the {len(private)} private ids {seconds:.1f} s after the start")
    counts = lab.counts()
    wanted = counts["largest"] == 500 and counts["pages"] >= 3 * counts["lists"] > 0
    report.check("pages of 500, three for each list", [] if wanted else str(counts))
    report.check(f"all {len(private)} lead to their endpoint, by vpcEndpointIds to the second", lab.problems(private))
    others = lab.of_kind("REGIONAL", "EDGE")
    report.check(f"all {len(others)} others lead to public DNS's address", lab.problems(others))
    found = status()
    first = found["sources"][0]
    right = first["ids"] == len(private) and first["as_of"] and not first["from_disk"] and not first["error"]
    report.check("/status: the source's ids, since when, no error, not from disk", [] if right else str(first))
    said = {entry["id"]: entry["said"] for entry in found["ids"]["listed"]}
    wrong = [
        f"{api}: {said.get(api)}" for api in private if not said.get(api) or said[api][0]["origin"] != first["source"]
    ]
    report.check("/status: every id with its origin and since when", wrong)
    # resolv.conf leads to Sidegate, whose public DNS does not know the control plane's name: it was found all the same.
    report.check("/ready is 200", [] if get("/ready")[0] == 200 else str(get("/ready")))


def changes(lab, report, short):
    report.section(f"APIs that come, go and change their type, interval {INTERVAL} s")

    def follows(what, api, wanted):
        seconds = lab.seconds_until(lambda: lab.resolve(api) == wanted, 15, lambda: f"{what}: not {lab.resolve(api)}")
        late = seconds > INTERVAL + SLACK
        report.check(
            f"{what} within an interval and a read: {seconds:.1f} s", f"later than {INTERVAL} s" if late else []
        )

    api = lab.create(0, "PRIVATE")
    follows("a new private API leads to the endpoint", api, ENDPOINT)
    if not short:
        lab.change(api, "REGIONAL")
        follows("made REGIONAL, it is public", api, [PUBLIC_ADDRESS])
        lab.change(api, "PRIVATE")
        follows("made PRIVATE again, it leads to the endpoint", api, ENDPOINT)
    lab.delete(api)
    follows("deleted, it is public", api, [PUBLIC_ADDRESS])


def failures(lab, report, sidegate, short):
    report.section("Throttled, denied, broken off")
    sample, count = lab.private()[:20] + lab.of_kind("EDGE")[:5], len(lab.private())

    def stays(what, words, within=40, **wanted):
        mark = len(sidegate.output())
        lab.switch(**wanted)
        await_reads(1, "failures", within)
        lab.switch()
        problems = [] if known() == count else [f"{known()} ids, not {count}"]
        problems += lab.problems(sample)
        error = source()["error"] or ""
        problems += [f"/status says {error!r}, without {word!r}" for word in words if word not in error]
        if not any("api-gateway" in line for line in warnings(sidegate, mark)):
            problems.append(f"no warning: {sidegate.output()[mark:]}")
        report.check(f"{what}: the list stays, /status and a warning say why", problems)
        await_reads(1)

    stays("403 from the second page on", ["apigateway:GET"], fault="deny", page=1)
    if not short:
        stays("500, no answer and half an answer in turn, in the third page", [], fault="mixed", page=2)
        # The SDK waits up to 20 s then before it asks again, and gives up after 60 s: it is not awaited.
        before = lab.counts()["faults"]
        lab.switch(fault="throttle", page=1)
        wait_until(lambda: lab.counts()["faults"] > before, 10, "a throttled page")
        time.sleep(INTERVAL)
        problems = list(lab.problems(sample)) + ([] if known() == count else [f"{known()} ids, not {count}"])
        report.check("throttled from the second page on: the list stays", problems)
        lab.switch()
        reads = source()["reads"]
        seconds = lab.seconds_until(lambda: source()["reads"] > reads, 40, "a read after it")
        report.check(f"... and that same read goes on, to its end {seconds:.1f} s later", lab.problems(sample))
    report.check("read again afterwards, the error is gone", source()["error"] is None)


def removals(lab, report, sidegate, short):
    report.section("Lists that lose ids")
    private, nothing_held = lab.private(), source()["held"]
    mark = len(sidegate.output())
    lab.switch(fault="empty")
    await_reads(2)
    held = [line for line in warnings(sidegate, mark) if "empty" in line]
    problems = [f"{known()} ids"] * (known() != len(private)) + list(lab.problems(private[:20]))
    report.check("an empty answer, twice: the list stays", problems)
    told = held and source()["held"] != nothing_held
    report.check("... and a warning and /status say so", [] if told else f"{source()} {sidegate.output()[mark:]}")
    sidegate.signal(signal.SIGHUP)
    seconds = lab.await_ids(0)
    public = [f"{api}: {lab.resolve(api)}" for api in private[:5] if lab.resolve(api) != [PUBLIC_ADDRESS]]
    report.check(f"SIGHUP lets it become empty: {seconds:.1f} s", public)
    lab.switch()
    seconds = lab.await_ids(len(private))
    report.check(f"ids that come back are believed at once: {seconds:.1f} s", list(lab.problems(private[:20])))
    if short:
        return

    lab.switch(keep=30)
    seen = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (not seen or seen[-1][0] == len(private)):
        now = status()
        seen.append((now["ids"]["count"], now["sources"][0]["held"] != nothing_held, now["sources"][0]["reads"]))
        time.sleep(0.02)
    before = [reads for count, is_held, reads in seen if is_held and count == len(private)]
    after = seen[-1]
    confirmed = before and after[0] < len(private) / 2 and after[2] == min(before) + 1
    report.check(
        f"70 percent of the APIs gone: held until a second read says so too, then {after[0]} of {len(private)} stay",
        [] if confirmed else f"{seen[:1]} ... {seen[-3:]}",
    )
    lab.switch()
    lab.await_ids(len(private))


def restarted(lab, report, configuration, sidegate, short):
    report.section("kill -9, and a start without API Gateway")
    private = lab.private()
    lab.stop_control_plane()
    sidegate.signal(signal.SIGKILL)
    sidegate.wait(5)
    sidegate = lab.run(configuration)
    # The endpoint's addresses are asked for, the ids are there.
    seconds = lab.seconds_until(lambda: get("/ready")[0] == 200, 5, lambda: str(get("/ready")))
    report.check(f"ready {seconds:.1f} s after it is bound")
    report.check(f"all {len(private)} private ids are answered from the last good list", lab.problems(private))
    report.check("... and 50 others go public", lab.problems(lab.of_kind("REGIONAL", "EDGE")[:50]))
    now = source()
    told = now["from_disk"] and now["ids"] == len(private) and now["as_of"]
    report.check("/status: from disk, and as of when", [] if told else str(now))
    found = lab.route(private[0], configuration)
    told = found.get("decision") == "endpoint" and "api-gateway" in str(found.get("origin"))
    report.check("sidegate route says the endpoint, by API Gateway's word", [] if told else str(found))
    told = "disk" in str(found) or "last good" in str(found)
    report.check("... and that it is from the last good list", [] if told else str(found))
    if not short:
        await_reads(1, "failures")
        report.check("after the first failure it is still there, with the error", lab.problems(private[:20]))
    lab.start_control_plane()
    wait_until(lambda: not source()["from_disk"], 30, lambda: f"a read: {source()}")
    report.check("API Gateway started again: read again", lab.problems(private[:20]))
    sidegate.stop()


def without_last_good(lab, report, configuration):
    report.section("No last good list")
    files = [path for path in lab.state.rglob("*") if path.is_file()]
    report.check("state_dir has one file for the source", [] if len(files) == 1 else str(files))
    text = files[0].read_bytes()
    private, public = lab.private()[0], lab.of_kind("EDGE")[0]
    for what, broken in (("cut in half", text[: len(text) // 2]), ("of random octets", bytes(range(256)) * 20)):
        files[0].write_bytes(broken)
        lab.switch(fault="wait", seconds=3)
        sidegate = lab.run(configuration)
        answered = lab.resolve(private)
        report.check(f"one {what} is not believed: SERVFAIL, not ready", [] if answered == NOT_READY else str(answered))
        said = [line for line in warnings(sidegate) if str(files[0]) in line]
        report.check("... a warning names the file", [] if said else sidegate.output())
        lab.switch()
        lab.await_ids(len(lab.private()))
        report.check("... and the next read makes it good", lab.problems([private, public]))
        sidegate.stop()
    files[0].unlink()

    lab.switch(fault="deny")
    sidegate = lab.run(configuration)
    await_reads(1, "failures")
    reply = lab.ask(private)
    answered = lab.resolve(private), lab.resolve("nosuchid12")
    report.check(
        "none, and 403: unknown ids are SERVFAIL with extended error 14",
        [] if answered == (NOT_READY, NOT_READY) else str(answered),
    )
    text = " ".join(option.text or "" for option in reply.options if option.otype == 15)
    report.check("... whose text names the source", [] if "api-gateway" in text else text)
    code, body = get("/ready")
    report.check("... /ready is 503 and lists it", [] if code == 503 and "api-gateway" in body else f"{code} {body}")
    lab.switch()
    lab.await_ids(len(lab.private()), 90)
    report.check("allowed again: known", lab.problems([private, public]))
    wait_until(lambda: get("/ready")[0] == 200, 5, "/ready")
    sidegate.stop()

    optional = lab.configuration(API_SOURCE + "required = false\n")
    lab.switch(fault="deny")
    sidegate = lab.run(optional)
    await_reads(1, "failures")
    lab.seconds_until(lambda: lab.resolve(private) == [PUBLIC_ADDRESS], 3, lambda: f"{lab.resolve(private)}")
    report.check("required = false: public after the first failure", [] if warnings(sidegate) else "no warning")
    report.check("... and ready", [] if get("/ready")[0] == 200 else str(get("/ready")))
    lab.switch()
    lab.await_ids(len(lab.private()), 90)
    report.check("allowed again: known", lab.problems([private, public]))
    sidegate.stop()


def check(lab, report, short):
    configuration = lab.configuration(API_SOURCE, state=True)
    sidegate = lab.run(configuration)
    listed(lab, report)
    changes(lab, report, short)
    failures(lab, report, sidegate, short)
    removals(lab, report, sidegate, short)
    restarted(lab, report, configuration, sidegate, short)
    if not short:
        without_last_good(lab, report, configuration)

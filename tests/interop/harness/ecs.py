"""An ECS task: an application beside its sidecar, by resolv.conf and by HTTPS_PROXY; what is lost when the sidecar is
reloaded, restarted, drained and killed; who else writes the file, and where it cannot be written."""

import os
import signal
import time

from . import ecs_shipped
from .ecs_task import BEFORE, NAMES, NOBODY, Application, Load, Task, calls_of
from .gateways import GATEWAY, PRIVATE, Gateways
from .processes import wait_until
from .truth import EXCHANGED
from .world import LOCAL, UNBOUND, VPC

OTHER = "127.0.0.2"


def taken(task, address=LOCAL):
    """Problems of a file that should lead to us: one server, the former settings, and all of the former file."""
    text = task.text()
    if task.servers() != [address]:
        yield f"{task.servers()} in\n{text}"
    if f"nameserver {address}\nsearch corp.internal\noptions timeout:2 attempts:2\n#" not in text:
        yield f"settings are missing: {text}"
    if "".join(f"#|{line}\n" for line in BEFORE.splitlines()) not in text:
        yield f"the former file is missing: {text}"


def reach_both(report, application, what, proxy=False):
    for fetcher in application.fetchers:
        got = [application.status(fetcher, host, proxy) for host in (PRIVATE, GATEWAY)]
        report.check(f"{what}: {fetcher} reaches the private and the public API", [] if got == ["200", "200"] else got)


def without(report, task, application):
    got = [application.status("curl", host) for host in (PRIVATE, GATEWAY)]
    report.check("without Sidegate the public API is 403, the private one 200", [] if got == ["200", "403"] else got)


def by_resolv_conf(report, task, application):
    report.section("ECS: the sidecar takes resolv.conf over (dns.take_over)")
    inode = os.stat(task.resolv_conf).st_ino
    configuration = task.configuration()
    sidecar = task.up(configuration)
    report.check("healthy once resolv.conf leads to it: one server, settings kept, the former file in comments", taken(task))
    report.check("the same file, written in place", os.stat(task.resolv_conf).st_ino == inode)
    report.check(
        "glibc and musl find both APIs, and by the search domain what only the VPC knows", application.lookups(NAMES)
    )
    reach_both(report, application, "resolv.conf")
    task.reset(BEFORE)
    wait_until(lambda: not list(taken(task)), 10, "the file to be taken over again")
    code, said = task.sidegate("resolv-conf", "install", "--config", configuration)
    report.check("install beside it changes nothing", [] if code == 0 and "already" in said else f"{code} {said}")
    return sidecar, configuration


def under_load(report, task, application, sidecar, configuration):
    report.section("ECS: the sidecar under load; each look-up is one getaddrinfo of glibc or musl")
    for proxy in (None, False, True):
        load = Load(application) if proxy is None else calls_of(application, proxy)
        time.sleep(1)
        for _ in range(10):
            sidecar.signal(signal.SIGHUP)
            time.sleep(0.3)
        load.end()
        way = {None: "", False: " by resolv.conf", True: " by HTTPS_PROXY"}[proxy]
        report.check(f"10 reloads: {load}{way}", load.none_lost())

    load = Load(application)
    time.sleep(1)
    began = time.monotonic()
    sidecar.signal(signal.SIGTERM)
    code = sidecar.wait(30)
    seconds = time.monotonic() - began
    untouched = task.is_untouched()
    time.sleep(1)
    load.end()
    report.check(f"SIGTERM, exit {code} after {seconds:.1f} s: {load}", load.none_lost() if code == 0 else sidecar.output())
    report.check("... and resolv.conf is as it was, to the byte", untouched)

    load = Load(application)
    time.sleep(0.5)
    sidecar = task.up(configuration)
    time.sleep(1)
    load.end()
    report.check(f"a start: {load}", load.none_lost())

    load = Load(application)
    time.sleep(1)
    sidecar.signal(signal.SIGTERM)
    sidecar.wait(30)
    sidecar = task.up(configuration)
    time.sleep(1)
    load.end()
    report.check(f"a restart by SIGTERM: {load}", load.none_lost())

    load = Load(application)
    time.sleep(1)
    sidecar.signal(signal.SIGKILL)
    sidecar.wait(5)
    left = task.text()
    began = time.monotonic()
    sidecar = task.up(configuration)
    seconds = time.monotonic() - began
    time.sleep(1)
    load.end()
    report.check(
        f"kill -9 and a start at once, healthy after {seconds:.1f} s: {load}", load.none_wrong()
    )
    report.check("... which found its VPC servers in the comments and changed nothing", [] if task.text() == left else task.text())
    report.check("... and leads where it should", application.lookups(NAMES))

    load = Load(application)
    time.sleep(1)
    sidecar.signal(signal.SIGKILL)
    time.sleep(3)
    sidecar = task.up(configuration)
    time.sleep(1)
    load.end()
    report.check(
        f"kill -9 and a start 3 s later: {load}, from first to last {load.gap} ms",
        [] if load.lost and not load.wrong and load.gap < 10000 else [str(load), *load.lines],
    )

    sidecar.signal(signal.SIGKILL)
    sidecar.wait(5)
    code, said = task.sidegate("resolv-conf", "restore")
    report.check("kill -9, then resolv-conf restore: as it was, to the byte", task.is_untouched() if code == 0 else said)
    code, said = task.sidegate("resolv-conf", "restore")
    report.check(
        "... and once more: nothing to put back, and it says so",
        task.is_untouched() if code == 0 and "nothing to put back" in said else f"{code} {said}",
    )


def noticed(report, task, application):
    """A policy that exchanges both APIs: a load that nothing wrong could come to proves nothing."""
    report.section("ECS: the loads notice addresses of another name")
    sidecar = task.up(task.configuration(), env=EXCHANGED)
    for calls in (calls_of(application, False, [GATEWAY]), calls_of(application, True, [GATEWAY])):
        load = Load(application)
        time.sleep(2)
        load.end()
        calls.end()
        # Two of the three names are exchanged.
        right = abs(2 * load.asked - 3 * load.wrong) < 50 < load.asked and not load.lost
        report.check(f"both APIs exchanged: {load}", right or load.lines)
        report.check(f"... and {calls}", calls.wrong == calls.calls)
    sidecar.stop()
    report.check("SIGTERM: resolv.conf is as it was, to the byte", task.is_untouched())


def by_a_second_container(report, task, application):
    report.section("ECS: a second container points resolv.conf at the sidecar (dependsOn HEALTHY, then SUCCESS)")
    configuration = task.configuration(dns="")
    code, said = task.sidegate("resolv-conf", "install", "--config", configuration)
    report.check(
        "before Sidegate answers, install fails and changes nothing",
        task.is_untouched() if code == 1 and "stays as it is" in said else f"{code} {said}",
    )
    sidecar = task.up(configuration)
    code, said = task.sidegate("resolv-conf", "install", "--config", configuration, user=NOBODY)
    report.check(
        "install as another user fails, with the fix",
        task.is_untouched() if code == 1 and "run as root" in said else f"{code} {said}",
    )
    code, said = task.sidegate("resolv-conf", "install", "--config", configuration)
    report.check("install by root: 0", list(taken(task)) if code == 0 else f"{code} {said}")
    report.check("the default upstream is the VPC's from then on, without a restart", application.lookups(NAMES))
    text = task.text()
    sidecar.signal(signal.SIGKILL)
    sidecar.wait(5)
    sidecar = task.up(configuration)
    report.check("after kill -9 and a start too", application.lookups(NAMES))
    sidecar.stop()
    report.check("without take_over the sidecar leaves the file alone", [] if task.text() == text else task.text())
    code, said = task.sidegate("resolv-conf", "restore")
    report.check("restore: as it was, to the byte", task.is_untouched() if code == 0 else said)


def neighbours(report, task, application):
    report.section("ECS: two sidecars in one task")
    first = task.up(task.configuration(connect=()))
    text = task.text()
    second = task.up(task.configuration(listen=f"{OTHER}:53", admin=f"{OTHER}:9180", connect=()))
    time.sleep(3)
    report.check("the second leaves the file to the first", [] if task.text() == text else task.text())
    load = Load(application)
    time.sleep(0.5)
    first.signal(signal.SIGTERM)
    wait_until(lambda: task.servers() == [OTHER], 15, "the second to take over")
    time.sleep(1)
    load.end()
    report.check(f"the first drains, the second takes over: {load}", load.none_lost())
    report.check("... with the same former file", taken(task, OTHER))
    first.wait(15)
    second.signal(signal.SIGKILL)
    second.wait(5)
    load = Load(application)
    third = task.up(task.configuration(connect=()))
    load.end()
    report.check(
        f"killed, it is silent for three looks, then another takes over: {load}, from first to last {load.gap} ms",
        [*taken(task), *load.none_wrong()],
    )
    third.stop()
    report.check("at the end it is as it was, to the byte", task.is_untouched())


def foreign(report, task, application):
    report.section("ECS: others write resolv.conf")
    sidecar = task.up(task.configuration())
    load = Load(application)
    task.reset(f"search corp.internal\noptions timeout:2 attempts:2\nnameserver {UNBOUND}\n")
    wait_until(lambda: task.servers() == [LOCAL], 10, "the file to be taken over again")
    time.sleep(1)
    load.end()
    report.check(
        f"rewritten with a public server: taken over again, {load}, all of these before that",
        [str(load), *load.lines] if load.lost else load.none_wrong(),
    )
    report.check(
        "... which is asked from then on: it does not know the VPC's own names",
        application.lookups({"www.example.com": NAMES["www.example.com"], "db": ["NONAME"]}),
    )
    said = sidecar.output()
    report.check("... and it is in the log", [] if "another program rewrote resolv.conf" in said else said[-2000:])
    with open(task.resolv_conf, "a", encoding="ascii") as out:
        out.write(f"nameserver {VPC}\n")
    wait_until(lambda: task.servers() == [LOCAL], 20, "an appended server to be taken away")
    report.check("a second server that somebody appends does not stay one", taken_servers(task, [UNBOUND, VPC]))
    sidecar.signal(signal.SIGTERM)
    sidecar.signal(signal.SIGTERM)
    sidecar.wait(10)
    wanted = f"search corp.internal\noptions timeout:2 attempts:2\nnameserver {UNBOUND}\nnameserver {VPC}\n"
    report.check(
        "SIGTERM twice: what they wrote is what is put back", [] if task.text() == wanted else task.text()
    )
    task.reset()


def taken_servers(task, wanted):
    former = [line.split()[1] for line in task.text().splitlines() if line.startswith("#|nameserver")]
    return [] if former == wanted else task.text()


def refusals(report, task, application):
    report.section("ECS: where resolv.conf cannot be taken over")
    configuration = task.configuration()
    sidecar = task.start(configuration, read_only=True)
    code = sidecar.wait(20)
    report.check(
        "read-only, take_over: no start, and why",
        [] if code == 78 and "readonlyRootFilesystem" in sidecar.output() else f"{code} {sidecar.output()}",
    )
    quiet = task.configuration(dns="")
    sidecar = task.up(quiet)
    code, said = task.sidegate("resolv-conf", "install", "--config", quiet, read_only=True)
    report.check("read-only, install: 1, and why", [] if code == 1 and "HTTPS_PROXY" in said else f"{code} {said}")
    for target, words in (
        ("/run/systemd/resolve/stub-resolv.conf", "dns-delegate"),
        ("/run/NetworkManager/resolv.conf", "NetworkManager.conf"),
        ("/run/resolvconf/resolv.conf", "resolvconf -u"),
        ("none", "is not there"),
    ):
        link = task.home / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        code, said = task.sidegate("resolv-conf", "install", "--file", link, "--config", quiet)
        report.check(f"a link to {target}: 1, with {words}", [] if code == 1 and words in said else f"{code} {said}")
    report.check("nothing was changed", task.is_untouched())

    report.section("ECS: HTTPS_PROXY, resolv.conf as it was")
    reach_both(report, application, "HTTPS_PROXY", proxy=True)
    report.check("resolv.conf is untouched", task.is_untouched())
    calls = calls_of(application, proxy=True)
    time.sleep(2)
    sidecar.signal(signal.SIGKILL)
    sidecar.wait(5)
    sidecar = task.up(quiet)
    time.sleep(1)
    calls.end()
    report.check(f"kill -9 and a start at once: {calls} by HTTPS_PROXY", calls.error if calls.lost == calls.calls else calls.none_wrong())
    sidecar.stop()


def check(world, report, short):
    report.section("ECS: a task with one network and one resolv.conf")
    gateways = Gateways(world, home="ecs-gateways")
    gateways.start()
    task = Task(world)
    try:
        application = Application(task, short)
        without(report, task, application)
        ecs_shipped.check(report, task, application)
        sidecar, configuration = by_resolv_conf(report, task, application)
        if short:
            sidecar.stop()
            report.check("SIGTERM: as it was, to the byte", task.is_untouched())
            return
        under_load(report, task, application, sidecar, configuration)
        noticed(report, task, application)
        by_a_second_container(report, task, application)
        neighbours(report, task, application)
        foreign(report, task, application)
        refusals(report, task, application)
    finally:
        world.stop_sidegates()
        task.end()
        gateways.stop()

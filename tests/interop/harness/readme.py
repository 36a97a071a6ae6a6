"""The README's own lines, as they stand, on a host whose resolv.conf names the VPC's resolver: a newcomer's walk by hand."""

import os
import re
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from .gateways import Gateways
from .processes import Process, ProcessError, run
from .world import LOCAL, PUBLIC, VPC, ZONE

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "readme"))
from blocks import blocks, run_here  # noqa: E402

README = ROOT / "README.md"
RESOLV_CONF, CONFIGURATION, PROGRAMS = Path("/etc/resolv.conf"), Path("/etc/sidegate/sidegate.toml"), Path("/usr/local/bin")


@contextmanager
def installed_nowhere(home):
    """A copy of /etc and an empty /usr/local/bin over the machine's own, which README's lines must not touch."""
    folders = {PROGRAMS: home / "bin", Path("/etc"): home / "etc"}
    (home / "bin").mkdir()
    shutil.copytree("/etc", home / "etc", symlinks=True)
    for there, copy in folders.items():
        mount(["--bind", copy, there])
    try:
        yield
    finally:
        for there in folders:
            # Lazily: whoever has a file open there does not keep the rest of the checks from going on.
            run(["umount", "--lazy", there])


def mount(words):
    code, _, error = run(["mount", *words])
    if code != 0:
        raise ProcessError(f"mount: {error}")


def checkout(world, home):
    """What the lines find beside them: the program, which is not built again, where `cargo build --release` puts it."""
    built = home / "checkout" / "target" / "release" / "sidegate"
    built.parent.mkdir(parents=True)
    built.symlink_to(world.sidegate)
    return home / "checkout"


def environment(world, home):
    """What stands in for AWS: the lab's public DNS and authority. The servers of the VPC come from resolv.conf."""
    # A status that is no success fails.
    (home / ".curlrc").write_text("fail\nsilent\nshow-error\n", encoding="utf-8")
    return {
        **os.environ,
        "PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin",
        "SIDEGATE_UPSTREAM__PUBLIC": f"udp://{PUBLIC}",
        "SIDEGATE_FORWARD__PUBLIC_NETWORKS": "198.51.100.0/24,2001:db8:a::/64",
        "SIDEGATE_FORWARD__EXTRA_ROOTS": str(world.authority),
        "CURL_CA_BUNDLE": str(world.authority),
        "CURL_HOME": str(home),
    }


def wrong(command, code, out, error):
    """What a line did that README does not promise."""
    text = out + error
    if command.program == "sidegate" and " doctor " in f"{command.text} ":
        # resolv.conf has been given back by then, so that the program's way leads to the endpoint.
        return [] if code == 1 and "endpoint" in text else [f"exit {code}: {text}"]
    problems = [f"exit {code}: {text}"] if code != 0 else []
    if command.program == "dig":
        problems += [text] if "status: NOERROR" not in out or not re.search(r"ANSWER: [1-9]", out) else []
    if command.program in ("curl", "sidegate") and not problems and " route " in command.text:
        problems += [] if "endpoint" in out else [out]
    return problems


def check(world, report, _short):
    """Runs the lines in their order."""
    report.section("README, line by line")
    home = world.work / "readme"
    home.mkdir()
    gateways = Gateways(world, "readme-gateways")
    gateways.start()
    try:
        with installed_nowhere(home):
            walk(world, report, checkout(world, home), environment(world, home))
    finally:
        gateways.stop()


def walk(world, report, folder, env):
    """From a checkout with the program built to the last line that needs no cloud."""
    before = f"search corp.internal\nnameserver {VPC}\n"
    RESOLV_CONF.write_text(before, encoding="utf-8")
    host = f"f6g7h8i9j0.{ZONE}"
    code, out, _ = run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--no-fail", f"https://{host}/"], env=env)
    report.check("before: the public API answers 403", [] if out == "403" else f"{code} {out}")
    # The first piece of configuration is the one to write down, once the lines before it have been run.
    configuration = next(block for block in blocks(README) if block.info == "toml")
    sidegate = None
    try:
        for command in run_here(README, "interop"):
            if command.line > configuration.line and not CONFIGURATION.exists():
                CONFIGURATION.write_text(configuration.text, encoding="utf-8")
            if command.text.endswith(" &"):
                sidegate = Process("sidegate", ["bash", "-c", f"exec {command.text[:-2]}"], world.work / "readme.log", env, folder)
                report.check(command.text)
                continue
            code, out, error = run(["bash", "-c", command.text], within=60, env=env, cwd=folder)
            report.check(command.text, wrong(command, code, out, error))
        after = RESOLV_CONF.read_text(encoding="utf-8")
        report.check("resolv.conf is as it was", [] if after == before else after)
        sidegate.signal(signal.SIGTERM)
        code = sidegate.wait(10)
        report.check("SIGTERM: 0", [] if code == 0 else f"{code}: {sidegate.output()[-2000:]}")
        report.check(f"nobody listens on {LOCAL} any more", [] if run(["dig", f"@{LOCAL}", "+tries=1", "+timeout=1", host])[0] else "answered")
    finally:
        if sidegate:
            sidegate.stop(3)

"""The README's own lines, as they stand, on a host whose resolv.conf names the VPC's resolver: a newcomer's walk by hand."""

import os
import re
import signal
import sys
from pathlib import Path

from .gateways import Gateways
from .processes import run
from .world import LOCAL, PUBLIC, VPC, ZONE

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "readme"))
from blocks import blocks, run_here  # noqa: E402

README = ROOT / "README.md"
RESOLV_CONF = Path("/etc/resolv.conf")


def environment(world):
    """What stands in for AWS: the lab's public DNS and authority. The servers of the VPC come from resolv.conf."""
    programs = world.work / "readme"
    programs.mkdir(exist_ok=True)
    (programs / "sidegate").symlink_to(world.sidegate)
    # The first piece of configuration is the one to write down.
    configuration = programs / "sidegate.toml"
    configuration.write_text(next(block.text for block in blocks(README) if block.info == "toml"), encoding="utf-8")
    # A status that is no success fails.
    (programs / ".curlrc").write_text("fail\nsilent\nshow-error\n", encoding="utf-8")
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SIDEGATE_CONFIG": str(configuration),
        "SIDEGATE_STATE_DIR": "",
        "SIDEGATE_UPSTREAM__PUBLIC": f"udp://{PUBLIC}",
        "SIDEGATE_FORWARD__PUBLIC_NETWORKS": "198.51.100.0/24,2001:db8:a::/64",
        "SIDEGATE_FORWARD__EXTRA_ROOTS": str(world.authority),
        "CURL_CA_BUNDLE": str(world.authority),
        "CURL_HOME": str(programs),
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
    before = RESOLV_CONF.read_text(encoding="utf-8")
    gateways = Gateways(world, "readme-gateways")
    gateways.start()
    env = environment(world)
    sidegate = None
    try:
        RESOLV_CONF.write_text(f"search corp.internal\nnameserver {VPC}\n", encoding="utf-8")
        host = f"f6g7h8i9j0.{ZONE}"
        code, out, _ = run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--no-fail", f"https://{host}/"], env=env)
        report.check("before: the public API answers 403", [] if out == "403" else f"{code} {out}")
        for command in run_here(README, "interop"):
            if command.text == "sidegate run &":
                sidegate = world.start("run", env=env)
                report.check(command.text)
                continue
            code, out, error = run(["bash", "-c", command.text], within=60, env=env, cwd=ROOT)
            report.check(command.text, wrong(command, code, out, error))
        after = RESOLV_CONF.read_text(encoding="utf-8")
        report.check("resolv.conf is as it was", [] if after == f"search corp.internal\nnameserver {VPC}\n" else after)
        sidegate.signal(signal.SIGTERM)
        code = sidegate.wait(10)
        report.check("SIGTERM: 0", [] if code == 0 else f"{code}: {sidegate.output()[-2000:]}")
        report.check(f"nobody listens on {LOCAL} any more", [] if run(["dig", f"@{LOCAL}", "+tries=1", "+timeout=1", host])[0] else "answered")
    finally:
        RESOLV_CONF.write_text(before, encoding="utf-8")
        world.stop_sidegates()
        gateways.stop()

"""`forward.parent_proxy` with a proxy of somebody else's: public names go to it unresolved, private ones do not."""

import os

from .entrances import HTTP, PROXY, SNI, Entrance, forward
from .gateways import GATEWAY, PRIVATE
from .processes import Process, run

PARENT = ("127.0.0.1", 8888)


def start_parent(world):
    """tinyproxy, which knows the public names from a hosts file and wants a password."""
    home = world.work / "tinyproxy"
    home.mkdir()
    (home / "conf").write_text(
        f'Listen {PARENT[0]}\nPort {PARENT[1]}\nTimeout 60\nMaxClients 100\nLogLevel Connect\nLogFile "{home}/log"\n'
        "BasicAuth egress s3cret\n"
    )
    command = Entrance("tinyproxy").command(world.work, ["tinyproxy", "-d", "-c", home / "conf"])
    parent = Process("tinyproxy", command, home / "output")
    world.peers["tinyproxy"] = parent
    parent.await_port(*PARENT)
    return parent, home / "log"


def start(world, gateways, parent):
    """A Sidegate that reaches the internet through the proxy."""
    return forward(
        world,
        gateways,
        f'parent_proxy = "http://{parent}@127.0.0.1:8888"\n'
        f'[forward.sni]\nlisten = ["{SNI}:443"]\n[forward.http]\nlisten = ["{HTTP}:80"]\n',
        connect=["{}:{}".format(*PROXY)],
        ports=[PROXY, (SNI, 443), (HTTP, 80)],
    )


def get(world, way, host):
    """curl's exit code, what it got, what it said."""
    command = way.command(world.work, ["curl", "-sS", "-w", " %{http_code}", f"{way.scheme}://{host}/prod/bytes/0"])
    environment = {**os.environ, "CURL_CA_BUNDLE": str(world.authority), **way.environment()}
    return run(command, 20, env=environment)


def check(world, report, gateways):
    report.section("Through an egress proxy")
    parent, log = start_parent(world)
    sidegate = start(world, gateways, "egress:s3cret")
    ways = [
        Entrance("connect", hosts="", proxy=True, sidegate=sidegate, label="connect"),
        Entrance("sni", hosts=SNI, sidegate=sidegate, label="sni"),
        Entrance("http", scheme="http", hosts=HTTP, sidegate=sidegate, label="http"),
    ]
    for way in ways:
        for host, by_parent in ((PRIVATE, False), (GATEWAY, True)):
            before = log.read_text()
            code, out, error = get(world, way, host)
            seen = f"CONNECT {host}:443" in log.read_text()[len(before) :]
            right = (code, out, seen) == (0, " 200", by_parent)
            name = f"{way.name}, {host.split('.')[0]}: {'by the proxy, as a name' if by_parent else 'past the proxy'}"
            report.check(name, [] if right else f"{code} {out}{error}{seen}\n{log.read_text()[len(before) :]}")
    sidegate.stop()

    sidegate = start(world, gateways, "egress:wrong")
    code, out, error = get(world, ways[2], GATEWAY)
    report.check(
        f"a wrong password: {(out.splitlines() or [error])[0]}",
        [] if code == 0 and out.endswith(" 502") else f"{code} {out}{error}",
    )
    parent.stop(3)
    code, out, error = get(world, ways[2], GATEWAY)
    report.check(
        f"no proxy: {(out.splitlines() or [error])[0]}",
        [] if code == 0 and out.endswith(" 502") else f"{code} {out}{error}",
    )
    code, out, error = get(world, ways[2], PRIVATE)
    report.check("... and private names do without", [] if (code, out) == (0, " 200") else f"{code} {out}{error}")
    sidegate.stop()

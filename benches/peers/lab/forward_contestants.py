"""Who takes part in which way of forwarding, and one of them running."""

import contextlib
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import forward_configs as configs
from . import forward_envoy as envoy
from . import processes
from .forward_ends import LOCAL, WEB

#: By the name in the ClientHello, by CONNECT, and with TLS in and out.
WAYS = ("sni", "connect", "tls")
#: No forwarder at all: the load goes straight to the far end.
DIRECT = "direct"
LIMIT = "limit"
SIDEGATE = "sidegate"


@dataclass(frozen=True)
class Contestant:
    """One program in one way; `command` writes its configuration and says how to start it."""

    name: str
    way: str
    command: Callable | None = None

    def port_of(self, end):
        """The port in a CONNECT. Sidegate forwards what is its own from 443, wherever the endpoint listens."""
        return 443 if self.name == SIDEGATE else end.port


CONTESTANTS = (
    Contestant(DIRECT, "sni"),
    Contestant(LIMIT, "sni", configs.limit),
    Contestant("nginx", "sni", configs.nginx_sni),
    Contestant("haproxy", "sni", configs.haproxy_sni),
    Contestant("envoy", "sni", envoy.sni),
    Contestant("sniproxy", "sni", configs.sniproxy),
    Contestant(SIDEGATE, "sni", configs.sidegate_sni),
    Contestant(DIRECT, "connect"),
    Contestant(LIMIT, "connect", configs.limit),
    Contestant("squid", "connect", configs.squid),
    Contestant("envoy", "connect", envoy.connect),
    Contestant("tinyproxy", "connect", configs.tinyproxy),
    Contestant(SIDEGATE, "connect", configs.sidegate_connect),
    Contestant(DIRECT, "tls"),
    Contestant("nginx", "tls", configs.nginx_tls),
    Contestant("haproxy", "tls", configs.haproxy_tls),
    Contestant("envoy", "tls", envoy.tls),
    Contestant(SIDEGATE, "tls", configs.sidegate_tls),
)


class Absent(Exception):
    """A contestant that cannot take part."""


@contextlib.contextmanager
def running(contestant, place):
    """Starts it, waits for its first answer, and stops it; gives its process id and the seconds until that answer."""
    command = contestant.command(place)
    if not command[0]:
        raise Absent("it is not installed")
    began = time.monotonic()
    process = processes.start(command, processes.CONTESTANT_CORE, place.folder / "output")
    try:
        while not answers(contestant, place.port):
            if process.poll() is not None or time.monotonic() - began > 20:
                output = (place.folder / "output").read_text(errors="replace")
                raise Absent(f"it gives no answer: {output[-500:]}")
            time.sleep(0.005)
        yield process.pid, time.monotonic() - began
    finally:
        processes.stop(process)


def answers(contestant, port):
    """Whether a request gets through to the web server."""
    try:
        with socket.create_connection((LOCAL, port), timeout=2) as connection:
            if contestant.way == "connect" and not _tunnel(connection, f"{WEB.host}:{contestant.port_of(WEB)}"):
                return False
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(connection, server_hostname=WEB.host) as tls:
                tls.sendall(f"GET / HTTP/1.1\r\nHost: {WEB.host}\r\nConnection: close\r\n\r\n".encode())
                return tls.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _tunnel(connection, target):
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(4096)
        if not more:
            return False
        head += more
    return head.split(b" ")[1] == b"200"


def leave_out(contestant, reason):
    print(f"{contestant.name}, {contestant.way}: left out, {reason}", file=sys.stderr, flush=True)

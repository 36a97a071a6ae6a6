"""The ways into the forwarder as a client sees them: environment, hosts file, resolver, and the Sidegate behind."""

import contextlib
import json
import os
import socket
import ssl
from dataclasses import dataclass, field

from .commands import status
from .gateways import ADDRESSES
from .processes import ProcessError, accepts, run, wait_until
from .world import LOCAL, PUBLIC, VPC

POLICY = """
[policy]
region = "us-east-1"
private_api_ids = ["privapi123"]
always_public = ["always1234"]
[[endpoint]]
vpce_id = "vpce-0a0a0a0a0a0a0a0a0"
[[endpoint]]
vpce_id = "vpce-0b0b0b0b0b0b0b0b0"
addresses = ["10.53.1.20"]
health = "off"
private_api_ids = ["boundapi12"]
"""
UPSTREAM = f'public = ["udp://{PUBLIC}"]\nvpc = ["{VPC}"]\ndefault = "vpc"'
PROXY = (LOCAL, 3128)
SNI, HTTP, HTTP_TLS = "127.0.0.2", "127.0.0.3", "127.0.0.4"
#: Where iptables sends what was meant for 443, and who is excepted from it.
REDIRECTED, USER = 8443, 65534


@dataclass
class Entrance:
    """One column of the table."""

    name: str
    #: What URLs begin with.
    scheme: str = "https"
    #: Where the client finds every name: an address, None for the servers' own, "" for nowhere.
    hosts: str | None = None
    #: Whether the client's resolv.conf leads to Sidegate.
    resolver: bool = False
    proxy: bool = False
    #: The Sidegate behind.
    sidegate: object = None
    #: What the access log calls it.
    label: str = ""
    _read: int = field(default=0, repr=False)

    def environment(self):
        """The variables a user would set."""
        return {"HTTPS_PROXY": "http://{}:{}".format(*PROXY)} if self.proxy else {}

    def command(self, work, command):
        """`command` where names lead as this entrance needs it."""
        lines = ["127.0.0.1 localhost"]
        if self.hosts != "" and not self.resolver:
            for name, addresses in ADDRESSES.items():
                lines += [f"{address} {name}" for address in ([self.hosts] if self.hosts else addresses)]
        name = self.name.replace(" ", "-")
        hosts, resolv = work / f"hosts-{name}", work / f"resolv-{name}"
        hosts.write_text("\n".join(lines) + "\n")
        # Where no resolver belongs to the way, none answers: whatever still arrives came by the way.
        resolv.write_text(f"nameserver {LOCAL if self.resolver else '127.0.0.99'}\n")
        mounts = f'mount --bind {hosts} /etc/hosts && mount --bind {resolv} /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mounts, "sh", *command]

    def open(self, authority, host, alpn=("http/1.1",), timeout=30):
        """A connection on which HTTP to `host` can be spoken; a client of our own, for what no library sends."""
        if self.proxy:
            plain = socket.create_connection(PROXY, timeout)
            plain.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                byte = plain.recv(1)
                if not byte:
                    break
                answer += byte
            if not answer.startswith(b"HTTP/1.1 200"):
                raise ProcessError(f"CONNECT {host}: {answer!r}")
        elif self.scheme == "http":
            return socket.create_connection((self.hosts, 80), timeout)
        else:
            plain = socket.create_connection((self.hosts or ADDRESSES[host][-1], 443), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(plain, server_hostname=host)

    def records(self, within=0.0, wanted=1):
        """The access log's new records, once there are `wanted` or after so many seconds."""
        found = []

        def enough():
            text = self.sidegate.log.read_bytes()[self._read :]
            text = text[: text.rfind(b"\n") + 1]
            self._read += len(text)
            for line in text.decode(errors="replace").splitlines():
                record = json.loads(line) if line.startswith("{") else {}
                record = {**record, **record.get("fields", {})}
                if record.get("target") == "access" and record.get("entrance") == self.label:
                    found.append(record)
            return len(found) >= wanted

        with contextlib.suppress(ProcessError):
            wait_until(enough, within, "the access log")
        return found


def forward(
    world, gateways, sections, listen=(), connect=(), dns="", head="", user=None, ports=(), log=True, admin=9181
):
    """Starts a Sidegate with these sections below [forward]; waits for `ports`, and until it is ready."""
    access = '[log]\naccess = true\nformat = "json"\n' if log else ""
    configuration = world.configuration(
        POLICY,
        listen=listen,
        upstream=UPSTREAM,
        dns=dns,
        head=head,
        connect=connect,
        admin=f"{LOCAL}:{admin}",
        forward=f'extra_roots = ["{world.authority}"]\npublic_networks = ["198.51.100.0/24", "2001:db8::/32"]\n'
        f"{sections}\n{access}",
    )
    before = []
    if user is not None:
        os.chmod(world.work, 0o711)
        before = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    process = world.start("run", "--config", configuration, before=before)
    for address, port in (*ports, (LOCAL, admin)):
        process.await_port(address, port)
    # Its endpoints are looked up by then.
    wait_until(lambda: status("/ready", admin) == 200, 10, "/ready")
    return process


def main_sidegate(world, gateways, head="", connect=f"{LOCAL}:3128"):
    """Connect, SNI, plain HTTP, and DNS that answers with the forwarder."""
    return forward(
        world,
        gateways,
        f'[forward.sni]\nlisten = ["{SNI}:443"]\n[forward.http]\nlisten = ["{HTTP}:80"]\n',
        listen=[f"{LOCAL}:53"],
        connect=[connect],
        dns='answer = "forwarder"',
        head=head,
        ports=[PROXY, (SNI, 443), (LOCAL, 53)],
    )


def tls_sidegate(world, gateways, head=""):
    """Plain HTTP's entrance with TLS."""
    return forward(
        world,
        gateways,
        f'[forward.http]\nlisten = ["{HTTP_TLS}:443"]\n'
        f'tls_certificate = "{gateways.certificate}"\ntls_key = "{gateways.key}"\n',
        head=head,
        admin=9182,
    )


def entrances(world, gateways):
    """Starts what is behind them; gives the direct way, and the ways in."""
    first, second = main_sidegate(world, gateways), tls_sidegate(world, gateways)
    ways = [
        Entrance("connect", hosts="", proxy=True, sidegate=first, label="connect"),
        Entrance("sni", hosts=SNI, sidegate=first, label="sni"),
        Entrance("http", scheme="http", hosts=HTTP, sidegate=first, label="http"),
        Entrance("http with TLS", hosts=HTTP_TLS, sidegate=second, label="http"),
        Entrance("dns to sni", hosts=SNI, resolver=True, sidegate=first, label="sni"),
    ]
    there = []
    for way in ways:
        address, port = (HTTP, 80) if way.scheme == "http" else (way.hosts or LOCAL, 3128 if way.proxy else 443)
        try:
            wait_until(lambda address=address, port=port: accepts(address, port), 5, way.name)
            there.append(way)
        except ProcessError:
            pass
    return Entrance("direct"), there, [way for way in ways if way not in there]


class Redirect:
    """The recipe for iptables: everything to 443 goes to `forward.sni`, except what the forwarder's own user sends."""

    def __init__(self, world, gateways):
        both = f'"{LOCAL}:{REDIRECTED}", "[::1]:{REDIRECTED}"'
        self.sidegate = forward(
            world,
            gateways,
            f"[forward.sni]\nlisten = [{both}]\n",
            # Who is redirected comes from the address that it would have gone out by, here the server's own.
            head='clients = ["127.0.0.0/8", "::1", "10.0.0.0/8", "198.51.100.0/24", "2001:db8::/32"]',
            user=USER,
            admin=9183,
            ports=[(LOCAL, REDIRECTED), ("::1", REDIRECTED)],
        )
        self.entrance = Entrance("iptables to sni", sidegate=self.sidegate, label="sni")
        #: Whose connections are let through.
        self.excepted = USER

    def _iptables(self, what):
        for program in ("iptables", "ip6tables"):
            code, _, error = run(
                [
                    *(program, "-t", "nat", what, "OUTPUT", "-p", "tcp", "--dport", "443"),
                    *("-m", "owner", "!", "--uid-owner", self.excepted, "-j", "REDIRECT", "--to-ports", REDIRECTED),
                ]
            )
            if code != 0:
                raise ProcessError(f"{program}: {error}")

    def __enter__(self):
        self._iptables("-A")
        return self.entrance

    def __exit__(self, *_):
        self._iptables("-D")

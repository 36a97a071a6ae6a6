"""Programs of every kind through each entrance: what they get, and what the far side sees of them, is as without it."""

import base64
import json
import os
import shutil
import sys
from pathlib import Path

from .gateways import ADDRESSES, EXACT_PRIVATE, EXACT_PUBLIC, GATEWAY, PRIVATE
from .processes import ProcessError, run
from .raw import RAW, send_raw
from .world import ZONE

SOURCES = Path(__file__).parent.parent / "clients"
ODD = "/prod/echo/a%2Fb%20c/%e2%82%ac/~x;y=1,2/%40connections/%3D?x=1&x=2&y=%3D%26&z&e=&plus=a+b"
#: Method, host, target, whether there is a body.
CALLS = [
    ("GET", PRIVATE, ODD, False),
    ("GET", GATEWAY, ODD, False),
    ("GET", EXACT_PRIVATE, ODD, False),
    ("GET", EXACT_PUBLIC, ODD, False),
    # What the endpoint says to a name that it does not know.
    ("GET", ZONE, "/prod/nothing", False),
    ("HEAD", PRIVATE, "/prod/bytes/1234", False),
    ("HEAD", GATEWAY, "/prod/bytes/1234", False),
    ("POST", PRIVATE, "/prod/echo", True),
    ("POST", GATEWAY, "/prod/echo", True),
    ("PUT", EXACT_PRIVATE, "/prod/echo//twice/./dot", True),
    ("PATCH", EXACT_PUBLIC, "/prod/echo", True),
    ("DELETE", EXACT_PUBLIC, "/prod/echo", False),
    ("GET", EXACT_PRIVATE, "/prod/trailers", False),
    ("GET", GATEWAY, "/prod/bytes/300000", False),
    ("GET", PRIVATE, "/prod/bytes/0", False),
    ("GET", EXACT_PRIVATE, "/prod/closed", False),
    ("GET", EXACT_PRIVATE, "/prod/packed", False),
    ("GET", GATEWAY, "/prod/packed", False),
    ("GET", EXACT_PUBLIC, "/prod/status/204", False),
    ("GET", EXACT_PRIVATE, "/prod/status/304", False),
    ("GET", EXACT_PUBLIC, "/prod/status/418", False),
    ("POST", EXACT_PUBLIC, "/prod/status/504", True),
]
#: Fields that belong to one connection and not to the message (RFC 9110 section 7.6.1), and what differs each time.
OF_THE_HOP = {"connection", "keep-alive", "transfer-encoding", "date"}
#: What nginx adds about the connection it had; looked at on its own.
SEEN = {"x-seen-protocol"}
FETCHERS = ("curl", "Python requests", "Node fetch", "Java HttpClient")


def fields_of(head):
    """Names in lower case and values of a response's last head, sorted by name; the order of equal names is kept."""
    block = head.replace("\r", "").strip("\n").split("\n\n")[-1]
    pairs = [line.split(":", 1) for line in block.split("\n") if not line.startswith(("HTTP/", ":")) and ":" in line]
    pairs = [(name.lower(), value.strip()) for name, value in pairs]
    # A client that joins equal names says the same as one that does not.
    names = sorted({name for name, _ in pairs} - OF_THE_HOP)
    return {name: ", ".join(value for other, value in pairs if other == name) for name in names}


def what_arrived(echo):
    """The request as the far side saw it. Over HTTP/2 names are in lower case and come in another order; see raw.py."""
    left_out = OF_THE_HOP | SEEN
    fields = [(name, value) for name, value in echo["fields"] if name.lower() not in left_out]
    # Java says so where there is no body, but not over HTTP/2.
    fields = [pair for pair in fields if (pair[0].lower(), pair[1]) != ("content-length", "0")]
    fields = sorted(((name.lower(), value) for name, value in fields), key=lambda pair: pair[0])
    return {**echo, "fields": fields, "head": None}


def outcome(line):
    """What one call came to, ready to be compared."""
    status, *parts = line.split("\t")
    if status == "ERROR":
        return {"error": parts[0]}
    head, body = (base64.b64decode(part) for part in parts)
    fields = fields_of(head.decode("latin-1"))
    try:
        body = what_arrived(json.loads(body))
        fields.pop("content-length", None)
    except (ValueError, KeyError, TypeError):
        pass
    return {"status": status, "fields": fields, "body": body}


def difference(direct, got):
    """The first thing in which two outcomes differ, None if there is none."""
    if direct == got:
        return None
    if "error" in got and direct:
        return got["error"][:900]
    for key in sorted(set(direct) | set(got)):
        one, other = direct.get(key), got.get(key)
        if one != other:
            if isinstance(one, dict) and isinstance(other, dict):
                return f"{key}: {difference(one, other)}"
            return f"{key}: {str(other)[:600]}, directly {str(one)[:600]}"
    return "?"


class Clients:
    """All of them; they go direct first, then through one entrance after the other."""

    def __init__(self, world, gateways, report, short, home="forward-clients"):
        self.world, self.gateways, self.report = world, gateways, report
        #: Of one part alone: who comes second would find the first one's files in the way.
        self.home = world.work / home
        self.home.mkdir()
        self.body = self.home / "body"
        self.body.write_bytes(bytes(range(256)) * 400)
        self.rows = ["curl", "Python requests", "boto3, SigV4", "WebSocket", RAW]
        if not short:
            self.rows[2:2] = ["Node fetch", "Java HttpClient"]
            self._build_java()
        self.cells, self.direct = {}, {}
        self.environment = {
            **os.environ,
            "CURL_CA_BUNDLE": str(world.authority),
            "REQUESTS_CA_BUNDLE": str(world.authority),
            "AWS_CA_BUNDLE": str(world.authority),
            "NODE_EXTRA_CA_CERTS": str(world.authority),
            "NODE_USE_ENV_PROXY": "1",
            "AWS_ACCESS_KEY_ID": "AKIDINTEROP",
            "AWS_SECRET_ACCESS_KEY": "interop/secret+key",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _build_java(self):
        trust = self.home / "trust.p12"
        for command in (
            ["javac", "-d", self.home, SOURCES / "Fetch.java"],
            [
                *("keytool", "-importcert", "-noprompt", "-alias", "interop", "-file", self.world.authority),
                *("-keystore", trust, "-storetype", "PKCS12", "-storepass", "interop"),
            ],
        ):
            code, out, error = run(command, 60)
            if code != 0:
                raise ProcessError(f"{command[0]}: {out}{error}")

    def _command(self, row, way):
        if row == "Java HttpClient":
            proxy = ["-Dhttps.proxyHost=127.0.0.1", "-Dhttps.proxyPort=3128"] if way.proxy else []
            return [
                *(shutil.which("java"), "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", self.home),
                *(f"-Djavax.net.ssl.trustStore={self.home}/trust.p12", "-Djavax.net.ssl.trustStorePassword=interop"),
                *(*proxy, "Fetch"),
            ]
        return {
            "curl": ["sh", SOURCES / "fetch.sh"],
            "Python requests": [sys.executable, SOURCES / "fetch.py"],
            "Node fetch": [shutil.which("node"), SOURCES / "fetch.mjs"],
        }[row]

    def _fetch(self, row, way):
        """All calls by one client; an outcome for each."""
        calls = "".join(
            f"{method} {way.scheme}://{host}{target} {self.body if has_body else '-'}\n"
            for method, host, target, has_body in CALLS
        )
        code, out, error = self._run(way, self._command(row, way), calls)
        lines = out.splitlines()
        if len(lines) != len(CALLS):
            return {"run": {"error": f"exit {code}, {len(lines)} lines: {out[-300:]}{error[-600:]}"}}
        return {
            f"{call[0]} {call[1].split('.')[0]} {call[2][:16]}": outcome(line)
            for call, line in zip(CALLS, lines, strict=True)
        }

    def _sdk(self, way):
        """boto3's calls; the far side must have found each signature right."""
        outcomes = {}
        for host in (EXACT_PRIVATE, EXACT_PUBLIC):
            code, out, error = self._run(way, [sys.executable, SOURCES / "sdk.py", f"{way.scheme}://{host}"])
            lines = [json.loads(line) for line in out.splitlines()]
            if len(lines) != 6:
                outcomes[host] = {"error": f"exit {code}: {out[-300:]}{error[-900:]}"}
            for name, *seen in lines:
                right = seen[1:2] == ["verified"]
                outcomes[f"{name} {host.split('.')[0]}"] = {"seen": seen} if right else {"error": str(seen)}
        return outcomes

    def _push(self, way):
        """The WebSocket client's lines."""
        outcomes = {}
        scheme = "ws" if way.scheme == "http" else "wss"
        for host in (PRIVATE, GATEWAY):
            url = f"{scheme}://{host}/prod/ws?token=a%2Fb"
            code, out, error = self._run(way, [sys.executable, SOURCES / "push.py", url, self.world.authority])
            right = code == 0 and "closed 4001 as you wish" in out
            outcomes[host.split(".")[0]] = (
                {"seen": out.splitlines()} if right else {"error": f"{code} {out}{error[-600:]}"}
            )
        return outcomes

    def _run(self, way, command, stdin=""):
        inside = way.command(self.world.work, command)
        return run(inside, 90, env={**self.environment, **way.environment()}, stdin=stdin)

    def _outcomes(self, row, way):
        if row == "boto3, SigV4":
            return self._sdk(way)
        if row == "WebSocket":
            return self._push(way)
        if row == RAW:
            return send_raw(way, self.world.authority)
        return self._fetch(row, way)

    def go_direct(self, way):
        """What everything else is compared with; it has to be right by itself."""
        self.report.section("Clients that go direct")
        for row in self.rows:
            self.direct[row] = self._outcomes(row, way)
            problems = [f"{call}: {got['error']}" for call, got in self.direct[row].items() if "error" in got]
            self.report.check(f"{row}: {len(self.direct[row])} calls", problems)

    def go_through(self, way, rows):
        self.report.section(f"Clients through {way.name}")
        for row in rows:
            way.records()
            outcomes = self._outcomes(row, way)
            calls = list(dict.fromkeys([*self.direct[row], *outcomes]))
            differences = {call: difference(self.direct[row].get(call, {}), outcomes.get(call, {})) for call in calls}
            problems = [f"{call}: {what}" for call, what in differences.items() if what]
            cell = f"{len(problems)} differ" if problems else "equal"
            # Without this an entrance that is passed by would look perfect.
            records = way.records(3, 2)
            if not {record.get("host", "").split(":")[0] for record in records} & set(ADDRESSES):
                problems.append(f"the access log of {way.label} knows nothing of it: {records}")
            elif problems:
                words = {f"{record.get('host')}: {record['reason']} {record.get('words', '')}" for record in records}
                problems = [*problems[:8], "the access log says:", *sorted(words)]
            self.cells[row, way.name] = cell if problems == [] or cell != "equal" else "not by it"
            self.report.check(f"{row}: {len(calls)} calls as if it had gone direct", problems)

"""What the forwarder refuses, as a user meets it: status, words and Proxy-Status, TLS alerts in curl's words."""

import http.client
import os
import socket
import ssl

from .entrances import HTTP, PROXY, SNI, forward
from .gateways import EXACT_PRIVATE, GATEWAY, PRIVATE, UNPROVEN
from .processes import run
from .raw import ask
from .world import LOCAL, ZONE

REFUSING = (LOCAL, 3129)
#: What may not be connected to, the status, the error of Proxy-Status, words of the body.
CONNECTS = [
    ("127.0.0.1:443", 403, "http_request_denied", "address"),
    ("[::1]:443", 403, "http_request_denied", "address"),
    ("169.254.169.254:443", 403, "http_request_denied", "address"),
    ("2852039166:443", 403, "http_request_denied", "address"),
    ("0xA9FEA9FE:443", 403, "http_request_denied", "address"),
    ("0251.0376.0251.0376:443", 403, "http_request_denied", "address"),
    ("[::ffff:169.254.169.254]:443", 403, "http_request_denied", "address"),
    (f"d-metadata12.{ZONE}:443", 403, "destination_ip_prohibited", "169.254.169.254"),
    (f"d-inside1234.{ZONE}:443", 403, "destination_ip_prohibited", "10.53.7.7"),
    (f"d-nobody1234.{ZONE}:443", 502, "connection_refused", "198.51.100.34"),
    (f"nobody9876.{ZONE}:443", 502, "dns_error", "nobody9876"),
    (f"below.{PRIVATE}:443", 502, "dns_error", "below a private name"),
    (f"{GATEWAY}:8443", 403, "http_request_denied", "forward.allow"),
    ("www.example.com:22", 403, "http_request_denied", "forward.allow"),
]
#: Requests that are no CONNECT as it should be.
REQUESTS = [
    ("http:// through the proxy", f"GET http://{GATEWAY}/ HTTP/1.1\r\nHost: {GATEWAY}\r\n", 501, "https://"),
    ("a request as to a web server", "GET / HTTP/1.1\r\nHost: localhost\r\n", 501, "HTTPS_PROXY"),
    ("two Hosts", f"CONNECT {GATEWAY}:443 HTTP/1.1\r\nHost: {GATEWAY}:443\r\nHost: {PRIVATE}:443\r\n", 400, "twice"),
    ("another Host", f"CONNECT {GATEWAY}:443 HTTP/1.1\r\nHost: {PRIVATE}:443\r\n", 403, PRIVATE),
    ("a body", f"CONNECT {GATEWAY}:443 HTTP/1.1\r\nHost: {GATEWAY}:443\r\nContent-Length: 3\r\n", 400, "no body"),
    ("a head of 40 KiB", f"CONNECT {GATEWAY}:443 HTTP/1.1\r\nX: {'a' * 40960}\r\n", 431, ""),
]
#: Requests to forward.http: what, head, status, error, words.
HTTP_REQUESTS = [
    ("a foreign name", "GET / HTTP/1.1\r\nHost: www.example.com\r\n", 403, "http_request_denied", "forward.allow"),
    ("an address", "GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n", 403, "http_request_denied", "address"),
    (
        "a name that leads inside",
        f"GET / HTTP/1.1\r\nHost: d-inside1234.{ZONE}\r\n",
        403,
        "destination_ip_prohibited",
        "",
    ),
    ("a server that is not there", f"GET / HTTP/1.1\r\nHost: d-nobody1234.{ZONE}\r\n", 502, "connection_refused", ""),
    ("a name that does not exist", f"GET / HTTP/1.1\r\nHost: nobody9876.{ZONE}\r\n", 502, "dns_error", ""),
    ("a target that is no UTF-8", f"GET /\xfe HTTP/1.1\r\nHost: {PRIVATE}\r\n", 400, "http_request_error", ""),
    ("no Host", "GET / HTTP/1.1\r\n", 400, "http_request_error", ""),
    ("two Hosts", f"GET / HTTP/1.1\r\nHost: {PRIVATE}\r\nHost: {GATEWAY}\r\n", 400, "http_request_error", ""),
    (
        "a length beside chunks",
        f"POST / HTTP/1.1\r\nHost: {PRIVATE}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        400,
        "http_request_error",
        "",
    ),
    (
        "two lengths",
        f"POST / HTTP/1.1\r\nHost: {PRIVATE}\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        400,
        "http_request_error",
        "",
    ),
    (
        "chunks in HTTP/1.0",
        f"POST / HTTP/1.0\r\nHost: {PRIVATE}\r\nTransfer-Encoding: chunked\r\n",
        400,
        "http_request_error",
        "",
    ),
    (
        "x-apigw-api-id of a private API at a public name",
        f"GET / HTTP/1.1\r\nHost: {GATEWAY}\r\nx-apigw-api-id: privapi123\r\n",
        403,
        "http_request_denied",
        "x-apigw-api-id",
    ),
]
REASONS = {"expired": "expired", "othername": "name", "unknown": "ssuer"}


def answer_to(address, head, host=None, authority=None):
    """The answer to a request: status, Proxy-Status, body. With a host to ask for: inside TLS."""
    with socket.create_connection(address, 10) as connection:
        if host:
            connection = ssl.create_default_context(cafile=authority).wrap_socket(connection, server_hostname=host)
        answer = ask(connection, f"{head}\r\n".encode("latin-1"))
        body = answer.read().decode(errors="replace")
        return answer.status, answer.getheader("Proxy-Status", ""), body


def refused(report, name, address, head, status, error, words):
    """One check of a refusal over HTTP."""
    try:
        got = answer_to(address, head)
        body = got[2]
        right = got[0] == status and f"error={error}" in got[1] and words in body and body.strip()
        report.check(
            f"{name}: {status}, {body.strip()[:110]}", [] if right else f"{got}, not {status} {error} {words!r}"
        )
    except (OSError, http.client.HTTPException) as failed:
        report.check(f"{name}: {status}", repr(failed))


class Curl:
    """curl as a user types it."""

    def __init__(self, world, report):
        self.report = report
        self.environment = {**os.environ, "CURL_CA_BUNDLE": str(world.authority)}

    def fails(self, name, code, words, *arguments, proxy=False):
        """curl must end with this code and say one of these words."""
        environment = dict(self.environment)
        if proxy:
            environment["HTTPS_PROXY"] = "http://{}:{}".format(*PROXY)
        got, out, error = run(["curl", "-sS", "--max-time", "10", *arguments], 15, env=environment)
        right = got == code and any(word in error for word in words)
        said = (error.strip().splitlines() or ["nothing"])[0]
        self.report.check(
            f"{name}: {said[:110]}", [] if right else f"exit {got}: {out[:200]}{error}, not {code} {words}"
        )


def connect(world, report, gateways):
    report.section("What forward.connect refuses")
    for authority, status, error, words in CONNECTS:
        head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
        refused(report, f"CONNECT {authority}", PROXY, head, status, error, words)
    for name, head, status, words in REQUESTS:
        refused(report, name, PROXY, head, status, "", words)
    proxy = ["{}:{}".format(*REFUSING)]
    sidegate = forward(world, gateways, 'others = "refuse"', connect=proxy, ports=[REFUSING], admin=9184)
    head = "CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n"
    words = 'add "www.example.com" to forward.allow'
    refused(report, 'others = "refuse"', REFUSING, head, 403, "http_request_denied", words)
    sidegate.stop()
    curl = Curl(world, report)
    for url in ("https://169.254.169.254/", "https://2852039166/", f"https://d-metadata12.{ZONE}/"):
        curl.fails(f"curl {url}", 56, ["response 403"], url, proxy=True)
    try:
        context = ssl.create_default_context(cafile=world.authority)
        with socket.create_connection(PROXY, 10) as plain:
            plain.sendall(f"CONNECT {GATEWAY}:443 HTTP/1.1\r\nHost: {GATEWAY}:443\r\n\r\n".encode())
            plain.recv(4096)
            context.wrap_socket(plain, server_hostname=PRIVATE)
        problem = "the handshake went through"
    except ssl.SSLError as error:
        problem = None if "UNRECOGNIZED_NAME" in str(error).upper() else str(error)
    report.check("another name inside the tunnel than CONNECT named: alert unrecognized_name", problem)
    for what, name in UNPROVEN.items():
        curl.fails(
            f"a certificate that is wrong ({what}) is the client's to judge",
            60,
            ["SSL"],
            f"https://{name}/",
            proxy=True,
        )


def sni(world, report):
    report.section("What forward.sni refuses")
    curl = Curl(world, report)

    def fails(name, words, host):
        curl.fails(name, 35, words, "--connect-to", f"::{SNI}:443", f"https://{host}/")

    fails("a foreign name", ["unrecognized name"], "www.example.com")
    fails("a name that does not exist", ["unrecognized name"], f"nobody9876.{ZONE}")
    fails("a name that leads to the metadata service", ["access denied"], f"d-metadata12.{ZONE}")
    fails("a server that is not there", ["internal error"], f"d-nobody1234.{ZONE}")
    curl.fails("no name", 35, ["missing extension", "alert"], f"https://{SNI}/")
    with socket.create_connection((SNI, 443), 10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        got = plain.recv(4096)
    report.check("plain HTTP: closed", [] if b"HTTP" not in got else repr(got))


def over_http(world, report, gateways):
    report.section("What forward.http refuses")
    address = (HTTP, 80)
    for name, head, status, error, words in HTTP_REQUESTS:
        refused(report, name, address, head, status, error, words)
    for what, name in UNPROVEN.items():
        head = f"GET /secret HTTP/1.1\r\nHost: {name}\r\n"
        refused(
            report, f"a certificate that is wrong ({what})", address, head, 502, "tls_certificate_error", REASONS[what]
        )
    for what, head in (
        ("x-apigw-api-id that agrees", f"GET /prod/echo HTTP/1.1\r\nHost: {PRIVATE}\r\nx-apigw-api-id: privapi123\r\n"),
        ("a Host with the listener's port", f"GET /prod/echo HTTP/1.1\r\nHost: {EXACT_PRIVATE}:80\r\n"),
    ):
        got = answer_to(address, head)
        right = got[0] == 200 and f'"Host", "{EXACT_PRIVATE}:80"' not in got[2]
        report.check(f"{what} is passed", [] if right else str(got))


def check(world, report, gateways, ways):
    connect(world, report, gateways)
    sni(world, report)
    if any(way.scheme == "http" for way in ways):
        over_http(world, report, gateways)


def redirected_to_itself(world, report, redirect):
    """The recipe without the exception for Sidegate's own user: its own connection comes back once, and is known."""
    report.section("A redirect that lets nobody through")
    redirect.excepted = "12345"
    with redirect as way:
        way.records()
        code, _, error = run(["curl", "-sS", "-m", "10", f"https://{PRIVATE}/"], 15, env={**os.environ, "CURL_CA_BUNDLE": str(world.authority), **way.environment()})
        report.check("curl fails", [] if code != 0 else "it went through")
        records = way.records(3, wanted=2)
        reasons = sorted(record.get("reason") for record in records)
        report.check(
            f"the connection that came back is closed as a loop: {', '.join(map(str, reasons))}",
            [] if "loop" in reasons and len(records) <= 4 else f"{len(records)} records: {reasons}; {error}",
        )

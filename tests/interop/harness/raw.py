"""A client that sends what no library sends: every byte that HTTP/1.1 allows and some that it does not."""

import base64
import http.client
import json

from .gateways import EXACT_PRIVATE, EXACT_PUBLIC

RAW = "raw bytes"

TARGETS = {
    "escapes": b"/prod/echo/%2f%2F/%zz/%/%c3%28/;a=b;c/..;/x",
    "dots and slashes": b"/prod/echo//a/./b/../c///?d=/../e",
    "delimiters": b'/prod/echo/a|b"c<d>e^f`g{h}i[j]k\\l?m=[1]{2}|"3"<4>\\`^',
    "query of questions": b"/prod/echo??a=?&&==&b=%00%0d%0a&c=+%2B&@:/!$'()*,;",
    "raw UTF-8": "/prod/echo/grün/€?ü=\U0001f600".encode(),
    "long": b"/prod/echo/" + b"a1%2F" * 1200 + b"?" + b"q=%20&" * 300,
}
FIELDS = (
    b"X-A: one\r\n"
    b"x-b: two\r\n"
    b"X-a: three, four\r\n"
    b'Cookie: a=1; b="2"\r\n'
    b"X-Empty:\r\n"
    b"COOKIE: c=3\r\n"
    b'X-Quoted: "a, b\\"";q=0.5\r\n'
    b"x-latin: caf\xe9 \xff\r\n"
    b"X-UTF8: \xc3\xbc\r\n"
    b"X_Under.Score!#$&'*+^`|~: odd name\r\n"
    b"X-Tab: a\tb  c\r\n"
    b"X-A: five\r\n"
    b"User-Agent: raw\r\n"
    b"Accept-Encoding: br;q=1.0, gzip\r\n"
    b"X-Amz-Date: 20261122T000000Z\r\n"
    b"X-Forwarded-For: 192.0.2.1\r\n"
    b"Authorization: none of yours\r\n"
)


def ask(connection, request):
    """Sends a request whole; gives the answer, body and trailers not read yet."""
    connection.sendall(request)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer


def lines_of(head):
    """What must arrive untouched: every line, but for white space around values."""
    first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
    fields = [line.split(b":", 1) for line in lines]
    return [first, *((name, value.strip(b" \t")) for name, value in fields)]


def send_raw(way, authority):
    """Each target once over each way; what arrived must be what was sent."""
    outcomes = {}
    for host in (EXACT_PRIVATE, EXACT_PUBLIC):
        for name, target in TARGETS.items():
            head = b"GET " + target + b" HTTP/1.1\r\nHost: " + host.encode() + b"\r\n" + FIELDS + b"\r\n"
            call = f"{name} {host.split('.')[0]}"
            body = b""
            try:
                with way.open(authority, host) as connection:
                    answer = ask(connection, head)
                    body = answer.read()
                    arrived = base64.b64decode(json.loads(body)["head"])
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                outcomes[call] = {"error": f"{error!r} {body[:300]}"}
                continue
            sent, got = lines_of(head), lines_of(arrived)
            outcomes[call] = {"seen": "as sent"} if sent == got else {"error": f"{got}, sent {sent}"}
    return outcomes

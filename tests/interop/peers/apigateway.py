"""API Gateway's control plane in front of moto, which knows neither pages nor faults.

GetRestApis is cut into pages by `limit` and `position` from one look at moto, as long as its pages are asked for; every
other call goes through as it is. What goes wrong, and what was asked, is on a second port: GET gives the counts, PUT sets

    fault    "", throttle, deny, error, drop, half, mixed (these three in turn), empty, wait
    page     the first page, from 0, that it happens to
    keep     percent of all APIs that are listed
    seconds  how long "wait" takes
"""

import argparse
import http.client
import itertools
import json
import re
import threading
import time
import urllib.parse
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: API reference, GetRestApis, `limit`.
DEFAULT_LIMIT, MOST = 25, 500


class Control:
    """What goes wrong from now on, and what has been asked so far."""

    def __init__(self):
        self.lock = threading.Lock()
        self.reset = {"fault": "", "page": 0, "keep": 100, "seconds": 1}
        self.now = dict(self.reset)
        self.counts = {"pages": 0, "lists": 0, "faults": 0, "largest": 0, "others": 0}
        self.keys = []
        self.tokens = []
        self.turn = itertools.cycle(["error", "drop", "half"])
        self.looks = {}
        self.numbers = itertools.count()

    def fault(self, page):
        """What is wrong with this page."""
        with self.lock:
            fault = self.now["fault"] if page >= self.now["page"] else ""
            if fault == "mixed":
                fault = next(self.turn)
            if fault:
                self.counts["faults"] += 1
            return fault


class Peer(BaseHTTPRequestHandler):
    """One connection of a client of API Gateway."""

    protocol_version = "HTTP/1.1"
    control: Control
    moto: tuple

    def log_message(self, *_):
        pass

    def forward(self):
        """What moto says: status, headers, body."""
        length = int(self.headers.get("Content-Length", 0))
        connection = http.client.HTTPConnection(*self.moto, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        connection.request(self.command, self.path, self.rfile.read(length), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.getheader("Content-Type", "application/json"), body

    def answer(self, status, body, content_type="application/json", error=None, half=False):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("x-amzn-ErrorType", error)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = self.close_connection or half

    def page(self, query):
        """One page of GetRestApis."""
        control = self.control
        limit = min(int(query.get("limit", [DEFAULT_LIMIT])[0]), MOST)
        position = query.get("position", [""])[0]
        if not position:
            status, content_type, body = self.forward()
            if status != 200:
                return self.answer(status, body, content_type)
            look, start = next(control.numbers), 0
            items = json.loads(body)["item"]
            with control.lock:
                keep = control.now["keep"]
                control.looks[look] = [api for api in items if zlib.crc32(api["id"].encode()) % 100 < keep]
                control.looks.pop(look - 50, None)
        else:
            look, start = map(int, position.split("-"))
        number = start // limit
        fault = control.fault(number)
        if fault == "throttle":
            return self.answer(429, {"message": "Too Many Requests"}, error="TooManyRequestsException")
        if fault == "deny":
            message = "User: arn:aws:sts::123456789012:assumed-role/x is not authorized to perform: apigateway:GET"
            return self.answer(403, {"Message": message}, error="AccessDeniedException")
        if fault == "error":
            return self.answer(500, {"message": "Internal server error"}, error="InternalFailure")
        if fault == "drop":
            self.close_connection = True
            return None
        if fault == "wait":
            time.sleep(control.now["seconds"])
        items = [] if fault == "empty" else control.looks[look]
        body = {"item": items[start : start + limit]}
        if start + limit < len(items):
            body["position"] = f"{look}-{start + limit}"
        with control.lock:
            control.counts["lists"] += fault != "half" and "position" not in body
            control.counts["largest"] = max(control.counts["largest"], limit)
        return self.answer(200, body, half=fault == "half")

    def any(self):
        url = urllib.parse.urlsplit(self.path)
        key = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        is_page = self.command == "GET" and url.path.rstrip("/") == "/restapis"
        with self.control.lock:
            self.control.counts["pages" if is_page else "others"] += 1
            if is_page:
                self.control.keys.append(key[1] if key else None)
                self.control.tokens.append(self.headers.get("X-Amz-Security-Token"))
        if is_page:
            return self.page(urllib.parse.parse_qs(url.query))
        status, content_type, body = self.forward()
        return self.answer(status, body, content_type)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = any


class Switch(BaseHTTPRequestHandler):
    """The port of the checks."""

    control: Control

    def log_message(self, *_):
        pass

    def do_GET(self):
        control = self.control
        with control.lock:
            body = json.dumps({**control.counts, "keys": control.keys[-3:], "tokens": control.tokens[-3:]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.control.lock:
            self.control.now = {**self.control.reset, **wanted}
        self.send_response(204)
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--control", required=True)
    parser.add_argument("--moto", required=True)
    arguments = parser.parse_args()
    at = {name: value.rsplit(":", 1) for name, value in vars(arguments).items()}
    at = {name: (address, int(port)) for name, (address, port) in at.items()}
    Peer.control = Switch.control = Control()
    Peer.moto = at["moto"]
    switch = Server(at["control"], Switch)
    threading.Thread(target=switch.serve_forever, daemon=True).start()
    Server(at["listen"], Peer).serve_forever()


main()

"""The services that hand out credentials inside AWS, each on its link-local address, port 80.

| address | what | asked how |
|---|---|---|
| 169.254.170.2 | ECS | GET /v2/credentials/task |
| 169.254.170.23 | EKS pod identity agent | GET /v1/credentials with the token of the pod in Authorization |
| 169.254.169.254 | IMDSv2 | PUT /latest/api/token first; nothing without the token |

Each gives a key of its own, so that who asked whom is seen where it is used. Whoever asks in another way gets what AWS
answers: 401, 404.
"""

import datetime
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POD_TOKEN, SESSION = "token-of-the-pod", "token-of-the-session"
ROLES = "/latest/meta-data/iam/security-credentials"


def credentials(key):
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=6)
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "RoleArn": "arn:aws:iam::123456789012:role/sidegate",
        "AccessKeyId": key,
        "SecretAccessKey": "secret",
        "Token": f"session-{key}",
        "LastUpdated": "2020-01-01T00:00:00Z",
        "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def ecs(self):
        if self.command == "GET" and self.path == "/v2/credentials/task":
            return self.say(200, json.dumps(credentials("ASIAECS")).encode())
        return self.say(404)

    def pod(self):
        if self.headers.get("Authorization") != POD_TOKEN:
            return self.say(401)
        if self.command == "GET" and self.path == "/v1/credentials":
            return self.say(200, json.dumps(credentials("ASIAPOD")).encode())
        return self.say(404)

    def instance(self):
        if self.command == "PUT" and self.path == "/latest/api/token":
            age = ("X-aws-ec2-metadata-token-ttl-seconds", self.headers["X-aws-ec2-metadata-token-ttl-seconds"])
            return self.say(200, SESSION.encode(), [age])
        if self.headers.get("X-aws-ec2-metadata-token") != SESSION:
            return self.say(401)
        found = {
            f"{ROLES}/": "instance-role",
            f"{ROLES}/instance-role": json.dumps(credentials("ASIAINSTANCE")),
        }.get(self.path)
        return self.say(404) if found is None else self.say(200, found.encode())

    def any(self):
        which = {"169.254.170.2": self.ecs, "169.254.170.23": self.pod, "169.254.169.254": self.instance}
        return which[self.server.server_address[0]]()

    do_GET = do_PUT = any


def main():
    servers = [ThreadingHTTPServer((address, 80), Service) for address in sys.argv[1:]]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


main()

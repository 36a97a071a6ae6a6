"""Python's requests as a client; see fetch.sh."""

import base64
import sys
from pathlib import Path

import requests

session = requests.Session()
for line in sys.stdin:
    method, url, body = line.split()
    headers = {} if body == "-" else {"Content-Type": "application/octet-stream"}
    try:
        answer = session.request(method, url, data=None if body == "-" else Path(body).read_bytes(), headers=headers)
        head = "\n".join(f"{name}: {value}" for name, value in answer.raw.headers.items())
        encoded = [base64.b64encode(part).decode() for part in (head.encode("latin-1"), answer.content)]
        print(answer.status_code, *encoded, sep="\t")
    except requests.RequestException as error:
        print("ERROR", " ".join(str(error).split()), sep="\t")

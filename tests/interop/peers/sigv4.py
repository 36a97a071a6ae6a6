"""Signature Version 4 as AWS checks it: over the bytes that arrived. Used by gateway.py."""

import hmac
import re

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS_KEY, SECRET_KEY = "AKIDINTEROP", "interop/secret+key"
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, "
    r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
)


def problem(method, target, fields, body):
    """What is wrong with the signature of a request, None where it verifies. `fields` are pairs of name and value."""
    values = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    if len(values.get("authorization", [])) != 1:
        return "not exactly one Authorization"
    parts = AUTHORIZATION.fullmatch(values["authorization"][0])
    if not parts:
        return f"Authorization of another form: {values['authorization'][0]}"
    key, _, region, service, signed, signature = parts.groups()
    if key != ACCESS_KEY:
        return f"unknown key {key}"
    missing = [name for name in signed.split(";") if name not in values]
    if missing or "host" not in signed.split(";"):
        return f"signed but not there: {missing}"
    # The URL is the target as it came: whoever changes an escape on the way breaks the signature, as at AWS.
    request = AWSRequest(method=method, url=f"https://{values['host'][0]}{target}", data=body)
    for name in signed.split(";"):
        for value in values[name]:
            request.headers.add_header(name, value)
    request.context["timestamp"] = values["x-amz-date"][0]
    verifier = SigV4Auth(Credentials(key, SECRET_KEY), service, region)
    expected = verifier.signature(verifier.string_to_sign(request, verifier.canonical_request(request)), request)
    return None if hmac.compare_digest(expected, signature) else f"the signature does not match {method} {target}"

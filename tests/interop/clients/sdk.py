"""boto3 as a client: `sdk.py URL` makes signed calls of the control plane and of the API Gateway management API.

Prints one line for each: what was called, the status, the far side's verdict on the signature, method, target and names
of the header fields as they arrived, all as JSON.
"""

import base64
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

base = sys.argv[1]
config = Config(region_name="us-east-1", retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=20)
control = boto3.client("apigateway", endpoint_url=base, config=config)
management = boto3.client("apigatewaymanagementapi", endpoint_url=f"{base}/prod", config=config)
odd = "a b/c+d=e~f@g%2F!*'()é€"
CALLS = [
    ("get_rest_apis", lambda: control.get_rest_apis(limit=500, position="a b+c/d==&e%")),
    (
        "put_integration",
        lambda: control.put_integration(
            restApiId=odd, resourceId="{proxy+}", httpMethod="ANY", type="MOCK", requestTemplates={odd: odd}
        ),
    ),
    ("get_stage", lambda: control.get_stage(restApiId="a1b2c3d4e5", stageName=odd)),
    (
        "post_to_connection",
        lambda: management.post_to_connection(ConnectionId="L0SM9cOFvHcCIhw=", Data=bytes(range(256)) * 64),
    ),
    ("get_connection", lambda: management.get_connection(ConnectionId="a+b/c~@=")),
    ("delete_connection", lambda: management.delete_connection(ConnectionId="gone=")),
]

for name, call in CALLS:
    try:
        answer = call()
    except ClientError as error:
        answer = error.response
    except BotoCoreError as error:
        print(json.dumps([name, "ERROR", str(error)]))
        continue
    meta = answer["ResponseMetadata"]
    headers = meta["HTTPHeaders"]
    echo = json.loads(base64.b64decode(headers.get("x-echo", "e30=")))
    names = [field.lower() for field, _ in echo.get("fields", [])]
    seen = [headers.get("x-signature"), echo.get("method"), echo.get("target"), names, echo.get("sha256")]
    print(json.dumps([name, meta["HTTPStatusCode"], *seen]))

"""A WebSocket client: `push.py URL AUTHORITY` is pushed to, has messages echoed, is closed; prints all of it."""

import hashlib
import sys

import websocket


def shown(message):
    data = message.encode() if isinstance(message, str) else message
    return f"{type(message).__name__} {len(data)} {hashlib.sha256(data).hexdigest()[:16]}"


try:
    socket = websocket.create_connection(
        sys.argv[1], timeout=30, subprotocols=["graphql-ws"], sslopt={"ca_certs": sys.argv[2]}
    )
    print("subprotocol", socket.getsubprotocol())
    print("pushed", shown(socket.recv()), shown(socket.recv()))
    for message in ("text ü€ \U0001f600", "", bytes(range(256)), bytes(range(256)) * 4096, "x" * 70000):
        if isinstance(message, str):
            socket.send(message)
        else:
            socket.send_binary(message)
        print("echoed", shown(socket.recv()))
    socket.ping("still there?")
    socket.send("close")
    code, data = socket.recv_data(control_frame=True)
    while code != websocket.ABNF.OPCODE_CLOSE:
        print("control", code, data)
        code, data = socket.recv_data(control_frame=True)
    print("closed", int.from_bytes(data[:2], "big"), data[2:].decode())
except (websocket.WebSocketException, OSError) as error:
    print("ERROR", error)

"""CONNECT over cleartext HTTP/2 (RFC 9113 section 8.5): `connect_h2.py ADDRESS PORT AUTHORITY HOST...`.

One connection to the proxy, a stream for each host, TLS and a request within each; prints the status of each.
"""

import socket
import ssl
import sys

import h2.config
import h2.connection
import h2.events


class Tunnels:
    """The connection to the proxy and what has come for each stream."""

    def __init__(self, address, port):
        self.socket = socket.create_connection((address, port), timeout=20)
        # The library knows no CONNECT: it wants a path with every request.
        self.http2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="ascii", validate_outbound_headers=False)
        )
        self.http2.initiate_connection()
        self.arrived, self.status = {}, {}

    def open(self, host):
        stream = self.http2.get_next_available_stream_id()
        self.http2.send_headers(stream, [(":method", "CONNECT"), (":authority", f"{host}:443")])
        self.arrived[stream] = b""
        while stream not in self.status:
            self.turn()
        return stream, self.status[stream]

    def send(self, stream, data):
        while data:
            room = min(self.http2.local_flow_control_window(stream), self.http2.max_outbound_frame_size, len(data))
            self.http2.send_data(stream, data[:room])
            data = data[room:]
            if data and not room:
                self.turn()
        self.socket.sendall(self.http2.data_to_send())

    def turn(self):
        """Sends what is to be sent, takes what comes."""
        self.socket.sendall(self.http2.data_to_send())
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the proxy closed the connection")
        for event in self.http2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.status[event.stream_id] = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                self.arrived[event.stream_id] += event.data
                self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.socket.sendall(self.http2.data_to_send())


def get(tunnels, stream, host, authority):
    """A request over TLS over the stream; gives the status line."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=authority)
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    request = f"GET /prod/bytes/200000 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    def through(action):
        while True:
            try:
                done = action()
            except ssl.SSLWantReadError:
                done = None
            if outgoing.pending:
                tunnels.send(stream, outgoing.read())
            if done is not None:
                return done
            while not tunnels.arrived[stream]:
                tunnels.turn()
            incoming.write(tunnels.arrived[stream])
            tunnels.arrived[stream] = b""

    through(lambda: tls.do_handshake() or True)
    through(lambda: tls.write(request))
    answer = b""
    while not (b"\r\n\r\n" in answer and len(answer.split(b"\r\n\r\n", 1)[1]) >= 200000):
        answer += through(lambda: tls.read(65536))
    return answer.split(b"\r\n")[0].decode()


address, port, authority, *hosts = sys.argv[1:]
tunnels = Tunnels(address, int(port))
opened = [(host, *tunnels.open(host)) for host in hosts]
for host, stream, status in opened:
    print(host, status, get(tunnels, stream, host, authority) if status == "200" else "")

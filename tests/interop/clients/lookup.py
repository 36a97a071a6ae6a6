"""Python as a client: socket.getaddrinfo."""

import socket
import sys

for name in sys.argv[1:]:
    try:
        found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
        print(name, *(address[4][0] for address in found))
    except socket.gaierror as error:
        print(name, {socket.EAI_NONAME: "NONAME", socket.EAI_AGAIN: "AGAIN"}.get(error.errno, error))

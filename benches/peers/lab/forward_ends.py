"""The far ends of the forwarders, and the names that lead there.

A web server with TLS stands for an API. Where the forwarder alone is to be the limit, the end has no TLS: it takes a
ClientHello for a question and answers bytes.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import processes

ZONE = "execute-api.us-east-1.amazonaws.com"
LOCAL = "127.0.0.1"
SMALL_BYTES = 200
BIG_BYTES = 1 << 20


@dataclass(frozen=True)
class End:
    """One API: its id, and where it listens."""

    id: str
    port: int

    @property
    def host(self):
        return f"{self.id}.{ZONE}"


WEB = End("web0000001", 7443)
SMALL = End("small00001", 7444)
BIG = End("big0000001", 7445)
#: Answers a little and leaves the connection open.
STAYING = End("stay000001", 7446)
ENDS = (WEB, SMALL, BIG, STAYING)


def program(name):
    """Where a program is, None where it is not installed. The environment's own path may lack what is root's."""
    return shutil.which(name, path=f"/usr/sbin:/usr/bin:{os.environ.get('PATH', '')}")


def resolve_names(folder):
    """Lets the system's resolver know the names. The run has mounts of its own, the machine's file stays as it is."""
    hosts = folder / "hosts"
    hosts.write_text(f"{LOCAL} localhost {' '.join(end.host for end in ENDS)}\n")
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)


def web_server(folder, certificate):
    """A web server with a small answer at / and a large one at /big, that keeps connections and resumes no session."""
    (folder / "big").write_bytes(os.urandom(BIG_BYTES))
    configuration = folder / "web.conf"
    configuration.write_text(f"""daemon off;
worker_processes 1;
user root;
pid {folder}/web.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    sendfile on;
    server {{
        listen {LOCAL}:{WEB.port} ssl backlog=4096;
        ssl_certificate {certificate.certificate};
        ssl_certificate_key {certificate.key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache off;
        ssl_session_tickets off;
        root {folder};
        location = / {{ return 200 '{"x" * SMALL_BYTES}'; }}
        location = /big {{ }}
    }}
}}
""")
    return [program("nginx"), "-e", folder / "web.log", "-c", configuration]


def start(folder, binaries, certificate):
    """Starts them all on the load's core and gives their process ids."""
    limit = binaries / "forward_limit"
    commands = [web_server(folder, certificate)]
    for end, size, words in ((SMALL, SMALL_BYTES, []), (BIG, BIG_BYTES, []), (STAYING, SMALL_BYTES, ["stay"])):
        commands.append([limit, "sink", end.port, size, *words])
    return [processes.start(command, processes.LOAD_CORE, folder / "ends.log").pid for command in commands]

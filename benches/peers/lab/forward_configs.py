"""How each program is told to forward: its configuration is written, its command given.

All have one thread for their work, no access log, and room for as many tunnels as are held open.
"""

import resource
from dataclasses import dataclass
from pathlib import Path

from .certificates import Certificate
from .forward_ends import ENDS, LOCAL, WEB, ZONE, program

#: Files that a program may have open: what 10,000 tunnels take and some to spare, or what this machine allows.
FILES = min(24_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
#: Connections of both sides.
ROOM = FILES - 300


@dataclass(frozen=True)
class Place:
    """Where one contestant keeps its files and listens."""

    folder: Path
    port: int
    binaries: Path
    sidegate: Path
    certificate: Certificate

    @property
    def ports(self):
        """Sidegate bounds the connections of a listener below the tunnels that are held; it has two."""
        return self.port, self.port + 1

    def write(self, name, text):
        file = self.folder / name
        file.write_text(text)
        return file


def limit(place):
    return [place.binaries / "forward_limit", "relay", place.port, *(f"{end.id}={end.port}" for end in ENDS)]


NGINX = """daemon off;
worker_processes 1;
user root;
pid {folder}/pid;
events {{ worker_connections {room}; }}
"""


def _nginx(place, text, modules=""):
    head = modules + NGINX.format(folder=place.folder, room=ROOM)
    return [program("nginx"), "-e", place.folder / "log", "-c", place.write("nginx.conf", head + text)]


def nginx_sni(place):
    routes = "\n".join(f"        {end.host} {LOCAL}:{end.port};" for end in ENDS)
    text = f"""stream {{
    map $ssl_preread_server_name $to {{
{routes}
        default {LOCAL}:1;
    }}
    server {{
        listen {LOCAL}:{place.port} backlog=4096;
        ssl_preread on;
        proxy_pass $to;
        proxy_connect_timeout 5s;
    }}
}}
"""
    return _nginx(place, text, "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n")


def nginx_tls(place):
    return _nginx(
        place,
        f"""http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    upstream api {{
        server {LOCAL}:{WEB.port};
        keepalive 128;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {LOCAL}:{place.port} ssl backlog=4096;
        ssl_certificate {place.certificate.certificate};
        ssl_certificate_key {place.certificate.key};
        ssl_session_cache off;
        ssl_session_tickets off;
        location / {{
            proxy_pass https://api;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_ssl_server_name on;
            proxy_ssl_name $host;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {place.certificate.root};
            proxy_max_temp_file_size 0;
        }}
    }}
}}
""",
    )


HAPROXY = f"""global
    nbthread 1
    maxconn {ROOM // 2}
defaults
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
"""


def _haproxy(place, text):
    return [program("haproxy"), "-db", "-f", place.write("haproxy.cfg", HAPROXY + text)]


def haproxy_sni(place):
    rules = "\n".join(f"    use_backend {end.id} if {{ req.ssl_sni -i {end.host} }}" for end in ENDS)
    backends = "\n".join(f"backend {end.id}\n    server api {LOCAL}:{end.port}" for end in ENDS)
    text = f"""    mode tcp
frontend entrance
    bind {LOCAL}:{place.port} backlog 4096
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
{rules}
{backends}
"""
    return _haproxy(place, text)


def haproxy_tls(place):
    verified = f"ssl verify required ca-file {place.certificate.root} sni req.hdr(host)"
    text = f"""    mode http
frontend entrance
    bind {LOCAL}:{place.port} backlog 4096 ssl crt {place.certificate.both} alpn http/1.1 no-tls-tickets
    default_backend api
backend api
    http-reuse always
    server api {LOCAL}:{WEB.port} {verified} pool-max-conn 128
"""
    return _haproxy(place, text)


def sniproxy(place):
    routes = "\n".join(f"    {end.id}\\.{ZONE.replace('.', chr(92) + '.')} {LOCAL}:{end.port}" for end in ENDS)
    text = f"""user root
pidfile {place.folder}/pid
error_log {{
    filename {place.folder}/log
    priority error
}}
listener {LOCAL}:{place.port} {{
    protocol tls
    table ends
}}
table ends {{
{routes}
}}
"""
    return [program("sniproxy"), "-f", "-c", place.write("sniproxy.conf", text)]


def squid(place):
    # It gives up being root, and writes nevertheless.
    place.folder.chmod(0o777)
    text = f"""http_port {LOCAL}:{place.port}
visible_hostname lab
http_access allow all
cache deny all
access_log none
cache_log {place.folder}/log
pid_filename {place.folder}/pid
coredump_dir {place.folder}
dns_nameservers {LOCAL}
cache_mem 8 MB
netdb_filename none
pinger_enable off
shutdown_lifetime 1 second
max_filedescriptors {ROOM}
"""
    return [program("squid"), "-N", "-f", place.write("squid.conf", text)]


def tinyproxy(place):
    text = f"""Port {place.port}
Listen {LOCAL}
Allow 127.0.0.0/8
Timeout 300
MaxClients {ROOM // 2}
LogLevel Critical
LogFile "{place.folder}/log"
PidFile "{place.folder}/pid"
"""
    return [program("tinyproxy"), "-d", "-c", place.write("tinyproxy.conf", text)]


def _sidegate(place, entrance, more=""):
    listen = ", ".join(f'"{LOCAL}:{port}"' for port in place.ports)
    ends = "\n".join(
        f"""[[endpoint]]
region = "us-east-1"
addresses = ["{LOCAL}"]
port = {end.port}
health = "off"
private_api_ids = ["{end.id}"]"""
        for end in ENDS
    )
    text = f"""[policy]
region = "us-east-1"
{ends}
[dns]
listen = []
[forward]
extra_roots = ["{place.certificate.root}"]
{"" if entrance == "connect" else "[forward.connect]" + chr(10) + "listen = []"}
[forward.{entrance}]
listen = [{listen}]
{more}
[admin]
listen = ""
"""
    return [place.sidegate, "run", "--config", place.write("sidegate.toml", text)]


def sidegate_sni(place):
    return _sidegate(place, "sni")


def sidegate_connect(place):
    return _sidegate(place, "connect")


def sidegate_tls(place):
    certificate = place.certificate
    return _sidegate(
        place, "http", f'tls_certificate = "{certificate.certificate}"\ntls_key = "{certificate.key}"'
    )

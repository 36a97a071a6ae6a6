"""The servers behind the forwarder: nginx as endpoint and as public gateway, and a recorder that shows every byte."""

import sys

from .processes import Process, ProcessError, run
from .world import PEERS, ZONE

#: Behind nginx: by the endpoint, and by the public gateway with HTTP/2.
PRIVATE, GATEWAY = f"privapi123.{ZONE}", f"pubapi1234.{ZONE}"
#: The recorder itself speaks TLS: what arrived is told to the byte.
EXACT_PRIVATE, EXACT_PUBLIC = f"boundapi12.{ZONE}", f"always1234.{ZONE}"
#: Names and where a client that needs no forwarder finds them.
ADDRESSES = {
    PRIVATE: ["10.53.1.10"],
    ZONE: ["10.53.1.10"],
    GATEWAY: ["2001:db8:a::10", "198.51.100.10"],
    EXACT_PRIVATE: ["10.53.1.20"],
    EXACT_PUBLIC: ["198.51.100.12"],
}
#: Public names whose servers do not prove who they are, by what is wrong with their certificates.
UNPROVEN = {"expired": f"d-expired123.{ZONE}", "othername": f"d-othername1.{ZONE}", "unknown": f"d-unknown123.{ZONE}"}

LO = [
    *("10.53.1.10", "10.53.1.11", "10.53.1.20"),
    *("198.51.100.10", "198.51.100.11", "198.51.100.12", "198.51.100.31", "198.51.100.32", "198.51.100.33"),
    *("198.51.100.34", "2001:db8:a::10"),
]
BACKEND, WEBSOCKET = "127.0.0.1:8001", "127.0.0.1:8002"


class Gateways:
    """Comes up once for all of the forwarder's checks."""

    def __init__(self, world, home="gateways", names=(ZONE, f"*.{ZONE}")):
        self.world = world
        self.home = world.work / home
        self.gates = self.home / "gates"
        self.gates.mkdir(parents=True)
        #: What the servers of API Gateway show; `forward.http` is given it as well.
        self.certificate, self.key = self._issue("api", *names)
        self._issue("othername", "api.example.com")
        self._issue("expired", f"*.{ZONE}", dates=["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"])
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-keyout", self.home / "unknown.key", "-out", self.home / "unknown.pem"),
            *("-subj", "/CN=nobody knows me", "-addext", f"subjectAltName=DNS:{names[-1]}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )

    def _openssl(self, *words):
        code, _, error = run(["openssl", *words], cwd=self.home)
        if code != 0:
            raise ProcessError(f"openssl {words[0]}: {error}")

    def _issue(self, name, *names, dates=("-days", "2")):
        """A certificate of the world's authority; gives the paths of it and of its key."""
        certificate, key = self.home / f"{name}.pem", self.home / f"{name}.key"
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", key, "-out", "request.pem"),
        )
        (self.home / "extensions").write_text(
            "subjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\nextendedKeyUsage=serverAuth\n"
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        )
        # Only `openssl ca` makes certificates of the past.
        (self.home / "index.txt").write_text("")
        (self.home / "ca.conf").write_text(
            "[ca]\ndefault_ca = it\n[it]\ndatabase = index.txt\nnew_certs_dir = .\nrand_serial = yes\n"
            "default_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n"
        )
        self._openssl(
            *("ca", "-batch", "-notext", "-config", "ca.conf", *dates, "-in", "request.pem", "-out", certificate),
            *("-cert", self.world.authority, "-keyfile", self.world.work / "ca.key", "-extfile", "extensions"),
        )
        return certificate, key

    def start(self):
        """Gives lo the servers' addresses and starts them."""
        for address in LO:
            at_once = ["nodad"] if ":" in address else []
            code, _, error = run(["ip", "address", "replace", address, "dev", "lo", *at_once])
            if code != 0:
                raise ProcessError(f"ip address replace {address}: {error}")
        recorder = Process(
            "the recorder",
            [
                *(sys.executable, PEERS / "gateway.py", "--gates", self.gates, "--plain", BACKEND),
                *("--websocket", WEBSOCKET, "--certificate", self.certificate, "--key", self.key),
                *("--tls", "10.53.1.20:443", "--tls", "198.51.100.12:443"),
            ],
            self.home / "recorder.log",
        )
        self.world.peers["recorder"] = recorder
        recorder.await_port("127.0.0.1", 8002)
        template = (PEERS / "nginx.conf").read_text(encoding="utf-8")
        values = {
            "DIR": self.home,
            "API_CERTIFICATE": self.certificate,
            "API_KEY": self.key,
            "BACKEND": BACKEND,
            "WEBSOCKET": WEBSOCKET,
        }
        for name, value in values.items():
            template = template.replace(f"@{name}@", str(value))
        (self.home / "nginx.conf").write_text(template, encoding="utf-8")
        nginx = Process("nginx", ["nginx", "-e", "stderr", "-c", self.home / "nginx.conf"], self.home / "nginx.log")
        self.world.peers["nginx"] = nginx
        nginx.await_port("198.51.100.33", 443)

    def stop(self):
        """Stops them and takes the addresses away again."""
        for name in ("nginx", "recorder"):
            if name in self.world.peers:
                self.world.peers.pop(name).stop(3)
        for address in LO:
            run(["ip", "address", "delete", f"{address}/{128 if ':' in address else 32}", "dev", "lo"])

"""The resolvers around Sidegate and the Sidegates between them: addresses, zones, keys, configurations."""

import os
import re
import shutil
from pathlib import Path

from .processes import Process, ProcessError, run, wait_until

PUBLIC, SECOND, VPC, UNBOUND, DNSMASQ, BEYOND = (f"10.53.0.{n}" for n in (1, 2, 3, 4, 5, 53))
LOCAL = "127.0.0.1"
#: A whole VPC: its resolver with a Resolver rule, and the Sidegates that the rule leads to.
CENTRAL, TARGETS = "10.53.3.2", ["10.53.3.11", "10.53.3.12"]
#: Public DNS at a public address, for the parts that take no other.
INTERNET = "1.1.1.1"
#: What the certificate of every peer is for.
TLS_NAME = "resolver.interop.test"
ZONE = "execute-api.us-east-1.amazonaws.com"
ENDPOINT = ["10.53.1.10", "10.53.1.11"]

PEERS = Path(__file__).parent.parent / "peers"


class World:
    """Everything that runs. Peers come up once and stay; a Sidegate comes and goes with a check."""

    def __init__(self, sidegate, work, moto):
        self.sidegate = sidegate
        self.work = Path(work)
        #: The Python environment with moto.
        self.moto = Path(moto)
        self.peers = {}
        self._sidegates = []
        self._count = 0
        self.certificate, self.key, self.authority = (self.work / f"{n}.pem" for n in ("certificate", "key", "ca"))
        self.signed = self.work / "signed"
        self.anchors = self.work / "anchors.conf"
        self.anchor_records = self.work / "anchors.zone"

    # Peers.

    def prepare(self):
        """Makes certificates and signs zones."""
        self._certificates()
        self._sign("signed.example")
        self._sign("bogus.example")
        path = self.signed / "bogus.example.zone"
        self._break_signature(path, "www.bogus.example.")

    def _openssl(self, *words):
        code, _, error = run(["openssl", *words])
        if code != 0:
            raise ProcessError(f"openssl {words[0]}: {error}")

    def _certificates(self):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        ca_key, request, extensions = (self.work / n for n in ("ca.key", "request.pem", "extensions"))
        self._openssl(
            "req",
            "-x509",
            *key,
            "-keyout",
            ca_key,
            "-out",
            self.authority,
            "-days",
            "2",
            "-subj",
            "/CN=interop authority",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        )
        self._openssl("req", *key, "-keyout", self.key, "-out", request, "-subj", f"/CN={TLS_NAME}")
        extensions.write_text(
            f"subjectAltName=DNS:{TLS_NAME},"
            + ",".join(f"IP:{ip}" for ip in (PUBLIC, SECOND, VPC, UNBOUND, "1.1.1.1", "8.8.8.8"))
            + "\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        )
        self._openssl(
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            self.authority,
            "-CAkey",
            ca_key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            extensions,
            "-out",
            self.certificate,
        )

    def _sign(self, zone):
        """Signs a zone and adds its key to the trust anchors."""
        self.signed.mkdir(exist_ok=True)
        for flags in (["-f", "KSK"], []):
            code, out, error = run(["dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-K", self.signed, *flags, zone])
            if code != 0:
                raise ProcessError(f"dnssec-keygen: {error}")
            if flags:
                key = (self.signed / f"{out.strip()}.key").read_text()
        record = next(line for line in key.splitlines() if not line.startswith(";"))
        number = re.search(r"DNSKEY (\d+ \d+ \d+) (.*)", record)
        with open(self.anchor_records, "a", encoding="ascii") as out:
            out.write(record + "\n")
        with open(self.anchors, "a", encoding="ascii") as out:
            out.write(f'trust-anchors {{ {zone}. static-key {number[1]} "{number[2].replace(" ", "")}"; }};\n')
        shutil.copy(PEERS / "zones" / f"{zone}.zone", self.signed / f"{zone}.unsigned")
        code, _, error = run(
            ["dnssec-signzone", "-S", "-K", ".", "-N", "keep", "-o", zone, "-f", f"{zone}.zone", f"{zone}.unsigned"],
            cwd=self.signed,
        )
        if code != 0:
            raise ProcessError(f"dnssec-signzone: {error}")

    @staticmethod
    def _break_signature(path, owner):
        """Turns round the signature of the A record of `owner`."""
        text = path.read_text(encoding="ascii")
        pattern = re.compile(
            rf"^{re.escape(owner)}\s.*?RRSIG\s+A .*?\(\s.*?{re.escape(owner.split('.', 1)[1])}\s+"
            r"([A-Za-z0-9+/])",
            re.S | re.M,
        )
        found = pattern.search(text)
        at = found.start(1)
        path.write_text(text[:at] + ("B" if found[1] == "A" else "A") + text[at + 1 :], encoding="ascii")

    def _render(self, template, name, address):
        home = self.work / name
        home.mkdir(exist_ok=True)
        values = {
            "DIR": home,
            "ADDRESS": address,
            "PUBLIC": PUBLIC,
            "TARGETS": "; ".join(TARGETS),
            "ZONES": PEERS / "zones",
            "SIGNED": self.signed,
            "CERTIFICATE": self.certificate,
            "KEY": self.key,
            "ANCHORS": self.anchors,
            "ANCHOR_RECORDS": self.anchor_records,
        }
        text = (PEERS / template).read_text(encoding="utf-8")
        path = home / template
        path.write_text(re.sub(r"@([A-Z_]+)@", lambda match: str(values[match[1]]), text), encoding="utf-8")
        return home, path

    def start_peer(self, name):
        """Starts public, second, vpc, internet, central, unbound or dnsmasq and waits until it listens."""
        template, address, command = {
            "public": ("named-public.conf", PUBLIC, ["named", "-f", "-n", "1", "-c"]),
            "second": ("named-public.conf", SECOND, ["named", "-f", "-n", "1", "-c"]),
            "vpc": ("named-vpc.conf", VPC, ["named", "-f", "-n", "1", "-c"]),
            "internet": ("named-public.conf", INTERNET, ["named", "-f", "-n", "1", "-c"]),
            "central": ("named-central.conf", CENTRAL, ["named", "-f", "-n", "1", "-c"]),
            "unbound": ("unbound.conf", UNBOUND, ["unbound", "-d", "-c"]),
            "dnsmasq": ("dnsmasq.conf", DNSMASQ, ["dnsmasq", "-C"]),
        }[name]
        home, path = self._render(template, name, address)
        process = Process(name, [*command, path], home / "output")
        self.peers[name] = process
        process.await_port(address, 53)
        code, out, _ = run(["dig", f"@{address}", "+tries=3", "+timeout=2", "+short", "www.example.com", "A"])
        if code != 0 or "198.51.100.3" not in out:
            raise ProcessError(f"{name} does not know the zones: {out}\n{self.logs(home)}")
        return process

    @staticmethod
    def logs(home):
        """The end of what a peer wrote."""
        return "\n".join(
            path.read_text(errors="replace")[-1500:]
            for path in home.glob("*")
            if path.suffix == ".log" or path.name == "output"
        )

    # Sidegate.

    def configuration(
        self, text, listen=(f"{LOCAL}:53",), upstream="", dns="", forward="", connect=(), admin="", head="", state_dir=""
    ):
        """Writes a configuration: `text` for policy and endpoints, the rest in the usual form."""
        self._count += 1
        addresses, proxies = (", ".join(f'"{address}"' for address in listeners) for listeners in (listen, connect))
        path = self.work / f"sidegate-{self._count}.toml"
        path.write_text(
            f'state_dir = "{state_dir}"\n{head}\n{text}\n[upstream]\n{upstream}\n'
            f'[dns]\nlisten = [{addresses}]\nworkers = 1\n{dns}\n'
            f'[forward]\n{forward}\n[forward.connect]\nlisten = [{proxies}]\n[admin]\nlisten = "{admin}"\n',
            encoding="utf-8",
        )
        return path

    def start(self, *words, env=None, name="sidegate", before=(), pass_fds=()):
        """Starts the binary with these words, behind those of `before`; does not wait."""
        self._count += 1
        process = Process(
            name,
            [*before, self.sidegate, *words],
            self.work / f"sidegate-{self._count}.log",
            env={**os.environ, **(env or {})},
            cwd=self.work,
            pass_fds=pass_fds,
        )
        self._sidegates.append(process)
        return process

    def run_sidegate(self, configuration, listen=f"{LOCAL}:53"):
        """Starts `run` with a configuration and waits until it answers."""
        process = self.start("run", "--config", configuration)
        address, port = listen.rsplit(":", 1)
        process.await_port(address, int(port))

        def answers():
            code, out, _ = run(
                ["dig", f"@{address}", "-p", port, "+tries=1", "+timeout=1", "+short", "health.sidegate.invalid", "TXT"]
            )
            return code == 0 and "ok" in out

        wait_until(answers, 10, f"sidegate's health name on {listen}")
        return process

    def stop_sidegates(self):
        while self._sidegates:
            self._sidegates.pop().stop(3)

    def stop_all(self):
        self.stop_sidegates()
        for process in self.peers.values():
            process.stop(3)

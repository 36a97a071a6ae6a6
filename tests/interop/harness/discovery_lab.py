"""What sources of private ids ask: moto behind pages and faults, a server of lists, public DNS that knows every id."""

import http.client
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import dns.message
import dns.query
import dns.rcode
from botocore.config import Config

from .processes import Process, ProcessError, run, wait_until
from .world import ENDPOINT, LOCAL, PEERS, VPC, ZONE

#: How many, and which of them are PRIVATE, REGIONAL, EDGE.
APIS, TYPES = 1200, ["PRIVATE", "REGIONAL", "EDGE", "PRIVATE", "REGIONAL", "PRIVATE"]
FIRST, SECOND = ("vpce-" + pair * 8 + "0" for pair in ("0a", "0b"))
#: Of the second endpoint, and what public DNS says of every id.
SECOND_ADDRESSES, PUBLIC_ADDRESS = ["10.53.1.20"], "198.51.100.77"
CONTROL_PLANE, LISTS, PUBLIC_DNS = "10.53.2.1", "10.53.2.2", "10.53.2.3"
MOTO, SWITCH = (LOCAL, 5001), (LOCAL, 5002)
LO = [CONTROL_PLANE, LISTS, PUBLIC_DNS, "169.254.170.2", "169.254.170.23", "169.254.169.254"]
#: Nobody but the VPC's resolver knows these names: whoever asks resolv.conf, which is Sidegate, does not find them.
API_URL, LIST_URL, SECURE_URL = (
    "http://apigateway.corp.internal/",
    "http://lists.corp.internal/ids",
    "https://lists.corp.internal/ids",
)
ADMIN = f"{LOCAL}:9180"
INTERVAL = 2
#: What an environment with credentials has; there is no metadata service to ask.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
API_SOURCE = f'[[discovery]]\nkind = "api-gateway"\nendpoint_url = "{API_URL}"\ninterval = "{INTERVAL}s"\n'


class Lab:
    """Comes up once for all of discovery's checks."""

    def __init__(self, world):
        self.world = world
        self.home = world.work / "discovery"
        self.lists = self.home / "lists"
        self.state = self.home / "state"
        for path in (self.lists, self.state):
            path.mkdir(parents=True)
        #: Every API in moto: id to (type, endpoints).
        self.apis = {}
        self._running = {}

    # Peers.

    def start(self):
        if not self.world.moto.is_dir():
            raise ProcessError(f"moto is not in {self.world.moto}: run tests/interop/run without --no-install once")
        for address in LO:
            code, _, error = run(["ip", "address", "replace", f"{address}/32", "dev", "lo"])
            if code != 0:
                raise ProcessError(f"ip address replace {address}: {error}")
        moto = [self.world.moto / "bin/python", "-m", "moto.server", "-H", MOTO[0], "-p", MOTO[1]]
        self._peer("moto", moto, MOTO)
        self.start_control_plane()
        dnsmasq = ["dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--user=root"]
        dnsmasq += [f"--listen-address={PUBLIC_DNS}", "--bind-interfaces", f"--address=/{ZONE}/{PUBLIC_ADDRESS}"]
        self._peer("public DNS of every id", dnsmasq, (PUBLIC_DNS, 53))
        credentials = ["/usr/bin/python3", PEERS / "credentials.py", *LO[3:]]
        self._peer("credentials", credentials, (LO[-1], 80))
        self.client = boto3.client(
            "apigateway",
            endpoint_url=f"http://{MOTO[0]}:{MOTO[1]}",
            config=Config(region_name="us-east-1", max_pool_connections=4),
            aws_access_key_id="AKIALAB",
            aws_secret_access_key="secret",
        )

    def _peer(self, name, command, address):
        process = Process(name, command, self.home / f"{name.replace(' ', '-')}.log")
        self.world.peers[name] = process
        process.await_port(*address, within=60)

    def start_control_plane(self):
        at = f"{CONTROL_PLANE}:80"
        words = ["--listen", at, "--control", "{}:{}".format(*SWITCH), "--moto", "{}:{}".format(*MOTO)]
        self._peer("API Gateway", ["/usr/bin/python3", PEERS / "apigateway.py", *words], (CONTROL_PLANE, 80))

    def stop_control_plane(self):
        self.world.peers.pop("API Gateway").stop(3)

    def start_lists(self, certificate, key):
        """nginx with this certificate; the lists are what is in `self.lists`."""
        text = (PEERS / "lists.conf").read_text(encoding="utf-8")
        values = {"DIR": self.home, "LISTS": self.lists, "ADDRESS": LISTS, "CERTIFICATE": certificate, "KEY": key}
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        (self.home / "lists.conf").write_text(text, encoding="utf-8")
        self._peer("lists", ["nginx", "-e", "stderr", "-c", self.home / "lists.conf"], (LISTS, 443))

    def stop_lists(self):
        self.world.peers.pop("lists").stop(3)

    def list_requests(self):
        """Status and URL of each request that the server of lists has answered."""
        log = self.home / "access.log"
        return [line.split()[:5] for line in log.read_text().splitlines()] if log.exists() else []

    def stop(self):
        for name in ("API Gateway", "moto", "public DNS of every id", "credentials", "lists"):
            if name in self.world.peers:
                self.world.peers.pop(name).stop(3)
        for address in LO:
            run(["ip", "address", "delete", f"{address}/32", "dev", "lo"])

    # APIs.

    def create(self, number, kind):
        """Makes an API; every fourth private one belongs to the second endpoint alone."""
        endpoints = [SECOND] if kind == "PRIVATE" and number % 4 == 3 else []
        configuration = {"types": [kind], **({"vpcEndpointIds": endpoints} if endpoints else {})}
        api = self.client.create_rest_api(name=f"api {number}", endpointConfiguration=configuration)["id"]
        self.apis[api] = (kind, endpoints)
        return api

    def create_all(self):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: self.create(number, TYPES[number % len(TYPES)]), range(APIS)))

    def change(self, api, kind):
        was, endpoints = self.apis[api]
        self.client.update_rest_api(
            restApiId=api,
            patchOperations=[{"op": "replace", "path": f"/endpointConfiguration/types/{was}", "value": kind}],
        )
        self.apis[api] = (kind, endpoints)

    def delete(self, api):
        self.client.delete_rest_api(restApiId=api)
        del self.apis[api]

    def of_kind(self, *kinds):
        return [api for api, (kind, _) in self.apis.items() if kind in kinds]

    def private(self):
        return self.of_kind("PRIVATE")

    def addresses(self, api):
        """Where an API's name has to lead."""
        kind, endpoints = self.apis.get(api, ("", []))
        if kind != "PRIVATE":
            return [PUBLIC_ADDRESS]
        return SECOND_ADDRESSES if SECOND in endpoints else ENDPOINT

    def switch(self, **wanted):
        """Makes the control plane fail in a way, see peers/apigateway.py; nothing said: it is well."""
        connection = http.client.HTTPConnection(*SWITCH, timeout=5)
        connection.request("PUT", "/", json.dumps(wanted))
        connection.getresponse().read()
        connection.close()

    def counts(self):
        connection = http.client.HTTPConnection(*SWITCH, timeout=5)
        connection.request("GET", "/")
        counts = json.loads(connection.getresponse().read())
        connection.close()
        return counts

    # Sidegate.

    def configuration(self, sources, endpoints=None, state=False, upstream="", **more):
        """These sources, both endpoints of the region unless others are given, public DNS that knows every id."""
        if endpoints is None:
            addresses = ", ".join(f'"{address}"' for address in SECOND_ADDRESSES)
            endpoints = (
                f'[[endpoint]]\nvpce_id = "{FIRST}"\n'
                f'[[endpoint]]\nvpce_id = "{SECOND}"\naddresses = [{addresses}]\nhealth = "off"\n'
            )
        more.setdefault("admin", ADMIN)
        return self.world.configuration(
            f'[policy]\nregion = "us-east-1"\n{endpoints}{sources}',
            upstream=f'public = ["udp://{PUBLIC_DNS}"]\nvpc = ["{VPC}"]\n{upstream}',
            state_dir=self.state if state else "",
            **more,
        )

    def run(self, configuration, env=None, listen=f"{LOCAL}:53", before=()):
        """Starts it and waits until it is bound, not until it is ready. Ends the one that is there, if it is."""
        self.stop_running(listen)
        process = self.world.start("run", "--config", configuration, env={**ENVIRONMENT, **(env or {})}, before=before)
        address, port = listen.rsplit(":", 1)
        process.await_port(address, int(port))
        self._running[listen] = process
        return process

    def stop_running(self, listen=f"{LOCAL}:53"):
        if listen in self._running:
            self._running.pop(listen).stop(3)

    def discover(self, configuration, *words, env=None):
        """`sidegate discover`: exit code, what it printed, what it said."""
        command = [self.world.sidegate, "discover", "--config", configuration, *words]
        return run(command, 40, env={**os.environ, **(ENVIRONMENT if env is None else env)})

    def route(self, api, configuration):
        """What `sidegate route --json` says of an API."""
        command = [self.world.sidegate, "route", f"{api}.{ZONE}", "--json", "--config", configuration]
        code, out, error = run(command, 40, env={**os.environ, **ENVIRONMENT})
        return json.loads(out) if code == 0 else {"exit": code, "error": error}

    def ask(self, api, rtype="A", port=53):
        """The reply to a question for an API's name."""
        query = dns.message.make_query(f"{api}.{ZONE}", rtype, use_edns=0)
        return dns.query.udp(query, LOCAL, port=port, timeout=6)

    def resolve(self, api, port=53):
        """Its addresses, sorted; or the reply's status and extended errors."""
        reply = self.ask(api, port=port)
        found = [item.address for record in reply.answer for item in record if item.rdtype == 1]
        if found:
            return sorted(found)
        codes = [int(option.code) for option in reply.options if option.otype == 15]
        return [dns.rcode.to_text(reply.rcode()), *codes]

    def problems(self, apis, port=53):
        """Every API whose name leads elsewhere than it should."""
        for api in apis:
            found = self.resolve(api, port)
            if found != sorted(self.addresses(api)):
                yield f"{api} {self.apis.get(api)}: {found}"

    def seconds_until(self, true, within, what):
        began = time.monotonic()
        wait_until(true, within, what)
        return time.monotonic() - began

    def await_ids(self, count, within=20, admin=ADMIN):
        """Waits until that many ids are known; gives the seconds it took."""
        return self.seconds_until(
            lambda: known(admin) == count, within, lambda: f"{count} ids in /status, which has {known(admin)}"
        )


def get(path, admin=ADMIN, method="GET", headers=None, source=None):
    """Status and body of one request to admin; 0 and the reason where there is none."""
    address, port = admin.rsplit(":", 1)
    try:
        connection = http.client.HTTPConnection(
            address, int(port), timeout=10, source_address=(source, 0) if source else None
        )
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)


def status(admin=ADMIN):
    """/status, None while there is none."""
    code, body = get("/status", admin)
    return json.loads(body) if code == 200 else None


def known(admin=ADMIN):
    """How many ids it knows."""
    found = status(admin)
    return found["ids"]["count"] if found else None


def source(position=0, admin=ADMIN):
    """What /status says of a source."""
    found = status(admin)
    return found["sources"][position] if found else {"reads": 0, "failures": 0}


def await_reads(more, field="reads", within=40, position=0):
    """Waits for so many more reads, or failures, of a source."""
    until = source(position)[field] + more
    wait_until(lambda: source(position)[field] >= until, within, lambda: f"{more} more {field}: {source(position)}")


def warnings(process, since=0):
    """The lines of its log that somebody should act on."""
    return [line for line in process.output()[since:].splitlines() if re.search(r"\b(WARN|ERROR)\b", line)]

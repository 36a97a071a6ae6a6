"""/metrics as promtool and a Prometheus server take it, from this host and from another; METRICS.md's rules and configuration."""

import http.client
import json
import pathlib
import re
import urllib.parse
import urllib.request

from .compare import PLAIN
from .dig import dig
from .processes import Process, run, wait_until
from .world import LOCAL, PUBLIC, VPC, ZONE

#: Sidegate as seen from beyond loopback, and a client there.
OUTSIDE, CLIENT = "10.53.0.53", "10.53.0.5"
ADMIN_PORT, PROMETHEUS = 9180, 9090
METRICS_MD = pathlib.Path(__file__).parents[3] / "METRICS.md"


def fetch(path, host=LOCAL, client=LOCAL):
    """Status, content type and body of one request from an address of this host."""
    connection = http.client.HTTPConnection(host, ADMIN_PORT, timeout=3, source_address=(client, 0))
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    except OSError as error:
        return 0, None, str(error)
    finally:
        connection.close()


def block(tag):
    """The block of METRICS.md behind this comment."""
    return re.search(rf"<!-- {tag} -->\n```\w+\n(.*?)```", METRICS_MD.read_text(encoding="utf-8"), re.S)[1]


def value(text, series):
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.rpartition(" ")[0] == series]
    return float(found[0]) if found else None


def in_prometheus(query):
    """What a Prometheus server says of a query: one value, or None."""
    url = f"http://{LOCAL}:{PROMETHEUS}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=3) as response:
            result = json.load(response)["data"]["result"]
    except (OSError, ValueError):
        return None
    return float(result[0]["value"][1]) if result else None


def formats(report, text, work):
    page = work / "metrics.txt"
    page.write_text(text, encoding="utf-8")
    code, out, error = run(["sh", "-c", f"promtool check metrics <{page}"])
    said = (out + error).strip()
    report.check("promtool check metrics says nothing", [] if code == 0 and not said else f"exit {code}: {said}")
    rules, prometheus = work / "rules.yml", work / "prometheus.yml"
    rules.write_text(block("alerts"), encoding="utf-8")
    settings = f"global:\n  scrape_interval: 1s\nrule_files: ['{rules}']\n"
    prometheus.write_text(settings + block("prometheus"), encoding="utf-8")
    code, out, error = run(["promtool", "check", "config", prometheus])
    report.check("METRICS.md's alerts and scrape configuration pass promtool", [] if code == 0 else out + error)
    code, out, error = run(["python3", "-m", "json.tool", "/dev/stdin"], stdin=block("cloudwatch"))
    report.check("METRICS.md's agent configuration is JSON", [] if code == 0 else error)
    return prometheus


def check(world, report):
    report.section("/metrics")
    upstream = f'public = ["udp://{PUBLIC}"]\nvpc = ["{VPC}"]'
    configuration = world.configuration(PLAIN, upstream=upstream, admin=f"0.0.0.0:{ADMIN_PORT}")
    sidegate = world.start("run", "--config", configuration)
    sidegate.await_port(LOCAL, ADMIN_PORT)
    wait_until(lambda: fetch("/ready")[0] == 200, 20, "/ready")
    before = fetch("/metrics")[2]
    for _ in range(3):
        dig(f"privapi123.{ZONE}")
        dig("www.example.com")
    dig("www.example.com", "+tcp")
    status, kind, text = fetch("/metrics")
    is_text = (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    report.check("it is text of version 0.0.4", [] if is_text else f"{status} {kind}")
    series = 'sidegate_dns_queries_total{{transport="{}",route="{}",rcode="NOERROR"}}'
    for transport, route, wanted in (("udp", "endpoint", 3), ("udp", "public", 3), ("tcp", "public", 1)):
        name = series.format(transport, route)
        got = (value(text, name) or 0) - (value(before, name) or 0)
        report.check(f"dig over {transport}, {route}: {wanted} counted", [] if got == wanted else f"{got}")
    for path, wanted in (("/metrics", 200), ("/ready", 200), ("/status", 403), ("/reload", 403)):
        got = fetch(path, OUTSIDE, CLIENT)[0]
        report.check(f"GET {path} from another host: {wanted}", [] if got == wanted else str(got))
    prometheus = formats(report, text, world.work)
    home = world.work / "prometheus"
    home.mkdir(exist_ok=True)
    command = ["prometheus", f"--config.file={prometheus}", f"--storage.tsdb.path={home}"]
    server = Process("prometheus", [*command, f"--web.listen-address={LOCAL}:{PROMETHEUS}"], home / "output")
    try:
        server.await_port(LOCAL, PROMETHEUS)
        wait_until(lambda: in_prometheus('up{job="sidegate"}') == 1, 20, "Prometheus to scrape")
        report.check("a Prometheus server scrapes it")
        got = in_prometheus('sum(sidegate_dns_queries_total{route="endpoint"})')
        report.check("... and has its counts", [] if got and got >= 3 else str(got))
        got = in_prometheus('count(ALERTS{alertstate="firing"}) or vector(0)')
        report.check("... and none of METRICS.md's alerts fires", [] if got == 0 else str(got))
    finally:
        server.stop()
        sidegate.stop()

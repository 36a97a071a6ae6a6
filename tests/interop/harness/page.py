"""The admin listener's page in a real browser: what it shows, that it is live, and what hostile names do to it: nothing."""

import signal
import socket

from .browser import FAINT, NAMELESS, Browser
from .dig import dig
from .processes import ProcessError, run, wait_until
from .world import LOCAL, PUBLIC, SECOND, VPC, ZONE

ADMIN = f"{LOCAL}:9180"
PROXY = 3128
#: Nobody is there.
SILENT = "10.53.0.9"
ENDPOINT = "vpce-0123456789abcdef0"
#: What a script would do if it ran.
HOSTILE = "<img/src/onerror=document.title=7>"


class Lab:
    """A Sidegate with two kinds of ids, an endpoint that nobody serves, and upstreams one of which is dead."""

    def __init__(self, world):
        self.world = world
        self.list = world.work / "page-ids"
        self.list.write_text("listed0001\nlisted0002\n", encoding="ascii")
        self.configuration = None
        self.sidegate = None

    def configure(self, ids):
        """Writes the configuration with these static ids, in place of what was there."""
        listed = ", ".join(f'"{one}"' for one in ids)
        made = self.world.configuration(
            f'[policy]\nregion = "us-east-1"\nprivate_api_ids = [{listed}]\n'
            f'[[endpoint]]\nvpce_id = "{ENDPOINT}"\naddresses = ["{LOCAL}", "10.53.1.99"]\nport = 4433\n'
            f'[[discovery]]\nkind = "file"\npath = "{self.list}"\n'
            '[[upstream.zone]]\nname = "corp.internal"\n' f'servers = ["{VPC}"]\n',
            upstream=f'public = ["udp://{PUBLIC}", "{SECOND}", "tcp://{SILENT}"]\nvpc = ["{VPC}"]',
            connect=[f"{LOCAL}:{PROXY}"],
            admin=ADMIN,
        )
        if self.configuration is None:
            self.configuration = made
        else:
            self.configuration.write_text(made.read_text(encoding="utf-8"), encoding="utf-8")

    def start(self):
        self.sidegate = self.world.run_sidegate(self.configuration)


def connect(target):
    """Asks the forwarder for a tunnel; gives the first line of its answer."""
    with socket.create_connection((LOCAL, PROXY), timeout=5) as client:
        client.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return client.recv(4096).split(b"\r\n")[0].decode()


class Page:
    """The page in a browser, and the report on it."""

    def __init__(self, browser, report):
        self.browser, self.report = browser, report

    def shows(self, name, selector, *words, within=8):
        """A check: the element comes to show all these words, without anybody reloading the page."""
        missing = list(words)

        def all_there():
            text = self.browser.text(selector)
            missing[:] = [word for word in words if word not in text]
            return not missing

        try:
            wait_until(all_there, within, name)
            self.report.check(name)
        except ProcessError:
            self.report.check(name, f"{selector} lacks {missing}:\n{self.browser.text(selector)[:800]}")

    def ask_route(self, text):
        self.browser.script(
            "const field = document.querySelector('#name'); field.value = arguments[0]; field.form.requestSubmit();", text
        )


def contents(page):
    page.shows("it is live and ready", "header", "ready", "live")
    page.shows("ids, and where each came from", "#ids", "static0001", "policy.private_api_ids", "listed0001", "page-ids")
    page.shows("endpoints, and their addresses' health", "#endpoints", f"{LOCAL}:4433", "10.53.1.99:4433", ENDPOINT, "tcp")
    page.shows("upstreams by group", "#upstreams", PUBLIC, SECOND, SILENT, "zone corp.internal", "not asked")
    page.shows("sources with age and interval", "#sources", "page-ids", "required")
    page.shows("reloads", "#reloads", "0 succeeded, 0 refused")


def decisions(page):
    began = page.browser.script("return performance.timeOrigin")
    for name, words in (
        (f"static0001.{ZONE}", ["endpoint", "2 ·", "NOERROR"]),
        (f"x.static0001.{ZONE}", ["nonexistent", "4 ·", "NXDOMAIN"]),
        ("www.example.com", ["public", "7 ·", "asked"]),
        ("db.corp.internal", ["zone", "6 ·"]),
    ):
        dig(name)
        page.shows(f"{name}, asked while the page is open, is among the last decisions", "#decisions", name, *words)
    answer = connect(f"static0001.{ZONE}:443")
    page.shows(f"so is a connection that came to nothing ({answer})", "#decisions", "connect", f"static0001.{ZONE}:443")
    connect("192.0.2.1:443")
    page.shows("and one that was refused", "#decisions", "address literal")
    page.shows("totals by route", "#dns", "endpoint", "NXDOMAIN", "public")
    page.shows("connections by entrance and reason", "#forwarder", "connect", "address literal")
    page.shows("latency of upstreams", "#upstreams", " ms", "answers")
    same = page.browser.script("return performance.timeOrigin") == began
    page.report.check("all of that without a reload of the page", same)


def route_box(page):
    page.ask_route(f"listed0002.{ZONE}")
    page.shows("the route of a name, its rule and who says so", "#route", "endpoint", "2, an API id", "page-ids", ENDPOINT)
    page.ask_route("static0001")
    page.shows("an id alone is taken as that of an API", "#route", f"static0001.{ZONE}", "policy.private_api_ids")
    page.ask_route("https://www.example.com/a?b")
    page.shows("a URL by its host", "#route", "www.example.com", "public", PUBLIC)
    page.ask_route("a..b")
    page.shows("a name that is none: the rule", "#route", "no empty label")
    page.ask_route("<b>x<b>.example.com")
    page.shows("a name of markup stands there as text", "#route", "<b>x<b>.example.com", "7, everything else")
    page.browser.script("document.querySelector('#ids [data-ask=listed0001]').click()")
    page.shows("a click on an id asks for it", "#route", f"listed0001.{ZONE}")


def hostile(page):
    name = f"{HOSTILE}.example.com"
    dig(name)
    page.shows("a hostile name stands there as text", "#decisions", name)
    state = page.browser.script("return [document.title, document.querySelectorAll('img, iframe, script').length]")
    page.report.check("and was not taken for markup, nor run", [] if state == ["Sidegate", 1] else str(state))


def looks(page):
    browser, report = page.browser, page.report
    for name, width, dark in (("desktop", 1280, False), ("dark", 1280, True), ("phone", 360, False), ("dark phone", 360, True)):
        browser.window(width, 800, dark, mobile=width == 360)
        wide = browser.script("return document.documentElement.scrollWidth")
        report.check(f"{name}: {width} px hold it, no horizontal scroll", [] if wide <= width else f"{wide} px")
        report.check(f"{name}: contrast of all text at least 4.5", browser.script(FAINT))
    report.check("labels, captions, headings of tables", browser.script(NAMELESS))
    browser.window(1280, 800)


def stillness(page):
    """The layout shifts of a page that is opened and watched while queries come."""
    source = """new PerformanceObserver((list) => { for (const shift of list.getEntries()) if (!shift.hadRecentInput)
        window.shifted = (window.shifted ?? 0) + shift.value; }).observe({ type: 'layout-shift', buffered: true });"""
    for width in (1280, 360):
        page.browser.window(width, 800, mobile=width == 360)
        page.browser.driver.refresh()
        page.browser.script(source)
        page.shows(f"{width} px: it fills", "#ids", "static0001")
        for number in range(20):
            dig(f"name-{number}.example.com")
        page.shows(f"{width} px: queries come", "#decisions", "name-19.example.com")
        shifted = page.browser.script("return window.shifted ?? 0")
        page.report.check(f"{width} px: nothing jumps (shift {shifted:.3f})", [] if shifted < 0.1 else f"{shifted}")
    page.browser.window(1280, 800)


def pause(page):
    """Polls are counted while another tab is in front."""
    driver = page.browser.driver
    counted = "return performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/status')).length"
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    second = driver.current_window_handle
    driver.switch_to.window(first)
    if not page.browser.script("return document.hidden"):
        # Which tab is in front is the driver's affair; then the page is told so.
        page.browser.script(
            "Object.defineProperty(document, 'hidden', { get: () => window.away, configurable: true }); window.away = true;"
            "document.dispatchEvent(new Event('visibilitychange'));"
        )
    page.shows("out of sight it pauses", "header", "paused")
    before = page.browser.script(counted)
    # Three times as long as it would take it to ask again.
    page.browser.driver.execute_async_script("setTimeout(arguments[0], 3000)")
    after = page.browser.script(counted)
    page.report.check("and asks for nothing", [] if after == before else f"{after - before} times")
    driver.switch_to.window(second)
    driver.close()
    driver.switch_to.window(first)
    page.browser.script("window.away = false; document.dispatchEvent(new Event('visibilitychange'));")
    page.shows("in sight again it goes on", "header", "live")


def reload_and_stop(page, lab):
    lab.configure(["static0001", "brandnew01"])
    page.browser.script("document.querySelector('#reload').click()")
    page.shows("the button reloads", "#outcome", "was reloaded")
    page.shows("and the id that came with it appears", "#ids", "brandnew01")
    page.shows("and the reload is counted", "#reloads", "1 succeeded")
    lab.configuration.write_text("nonsense = 1\n", encoding="ascii")
    page.browser.script("document.querySelector('#reload').click()")
    page.shows("a wrong configuration is refused with its errors", "#outcome", "everything is as before", "nonsense")
    refused = page.browser.complaints()
    page.report.check("which the console notes as 422, and no more", [one for one in refused if "422" not in one])
    lab.configure(["static0001"])
    lab.sidegate.signal(signal.SIGHUP)
    page.shows("after a SIGHUP the id is gone", "#reloads", "2 succeeded, 1 refused")
    foreign = page.browser.beyond(f"http://{ADMIN}")
    page.report.check("no request went beyond its own origin", foreign)
    code = lab.sidegate.stop()
    page.report.check("Sidegate ends", [] if code == 0 else f"exit {code}")
    page.shows("then the page says that it does not answer", "#alarm", "Sidegate does not answer since")
    lab.start()
    page.shows("and is live again with the next one", "header", "live")


def check(world, report, _short):
    report.section("The page in Chromium")
    lab = Lab(world)
    lab.configure(["static0001"])
    lab.start()
    code, version, _ = run(["chromium", "--version"])
    report.check(f"{version.strip()} is there", code == 0)
    with Browser(world.work / "chromium") as browser:
        page = Page(browser, report)
        browser.window(1280, 800)
        browser.driver.get(f"http://{ADMIN}/")
        for part in (contents, decisions, route_box, hostile, looks, stillness, pause):
            part(page)
        # An answer of 400 to a name that is none is an error to the console, and none to the page.
        said = [line for line in browser.complaints() if "400" not in line]
        report.check("the console is silent", said)
        reload_and_stop(page, lab)
    world.stop_sidegates()

"""A headless Chromium: its window, its console, what it asked the network for."""

import json
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

#: Of every element with text of its own that is shown: the text whose contrast with its ground is below 4.5 (WCAG 2.1, 1.4.3).
FAINT = """
const channel = (value) => (value /= 255, value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgb = (colour, ground) => {
  canvas.fillStyle = ground; canvas.fillRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const groundOf = (element) => {
  const above = []; for (let at = element; at; at = at.parentElement) above.push(getComputedStyle(at).backgroundColor);
  return above.reduceRight((ground, colour) => `rgb(${[...rgb(colour, ground)].slice(0, 3)})`, 'rgb(255,255,255)');
};
const faint = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.closest('script,style,noscript,.skip')) continue;
  const ground = groundOf(element), colour = getComputedStyle(element).color;
  const [a, b] = [light(rgb(colour, ground)), light(rgb(ground, ground))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) faint.push(`${element.textContent.slice(0, 40)}: ${ratio.toFixed(2)}`);
}
return faint;
"""

#: What a screen reader would not know the name of, and tables that it could not read.
NAMELESS = """
const found = [];
for (const field of document.querySelectorAll('input'))
  if (![...field.labels].some((label) => label.textContent.trim())) found.push(`input ${field.id} has no label`);
for (const button of document.querySelectorAll('button'))
  if (!(button.textContent + (button.ariaLabel ?? '')).trim()) found.push('a button without a name');
for (const table of document.querySelectorAll('table')) {
  if (!table.caption?.textContent) found.push('a table without a caption');
  for (const head of table.tHead.rows[0].cells) if (head.scope !== 'col' || !head.textContent) found.push('a heading without scope');
}
for (const section of document.querySelectorAll('section'))
  if (!document.getElementById(section.getAttribute('aria-labelledby'))) found.push('a section without a heading');
if (!document.documentElement.lang) found.push('no language');
return found;
"""


class Browser:
    """One window. Leaving the `with` ends the browser."""

    def __init__(self, folder):
        options = webdriver.ChromeOptions()
        # Root has no sandbox of Chromium's; the namespace is one.
        for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                       "--no-first-run", "--disable-background-networking", "--disable-component-update"):
            options.add_argument(switch)
        options.add_argument(f"--user-data-dir={folder}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def window(self, width, height, dark=False, mobile=False):
        """The size of the window in CSS pixels, and the colours that the user prefers."""
        command = self.driver.execute_cdp_cmd
        scale = 2 if mobile else 1
        command(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        command("Emulation.setEmulatedMedia", {"features": [scheme]})

    def text(self, selector):
        """What is shown of an element, without its hidden parts."""
        return self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def script(self, source, *arguments):
        return self.driver.execute_script(source, *arguments)

    def complaints(self):
        """What the console has said since the last call, but of Chromium's own pages."""
        messages = (entry["message"] for entry in self.driver.get_log("browser"))
        return [message for message in messages if not message.startswith("chrome")]

    def beyond(self, origin):
        """Where the page went since the last call, other than its own origin."""
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                asked.append(message["params"].get("request", message["params"])["url"])
        own = [url for url in asked if url.startswith(f"{origin}/")]
        foreign = [url for url in asked if urlsplit(url).scheme not in ("data", "chrome") and url not in own]
        return foreign if own else ["nothing was asked for at all"]

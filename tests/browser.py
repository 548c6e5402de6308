"""A real browser without a screen, Debian's chromium, and what a test sees in it of our page."""

import os
import shutil
import tempfile
import uuid
from typing import Any, Dict, List, Optional, Sequence

from conftest import MARKER, eventually, marked_processes
from tools import missing, tool

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
except ImportError:  # it is in the extra `browser`, and runs on Python 3.10 and newer
    HAS_SELENIUM = False
else:
    HAS_SELENIUM = True

#: Width and height: a desk, and the narrowest phone.
WIDE, PHONE = (1280, 900), (360, 740)

OPTIONS = [
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
    # It asks nobody for updates, lists of bad sites, and the like.
    "--disable-background-networking", "--disable-component-update", "--no-first-run",
    "--disable-sync", "--disable-extensions", "--disable-features=Translate,OptimizationHints",
    # All of our pages are of one machine: a process for each would be in the way.
    "--process-per-site",
]

#: All that is asked of the page in one go: the rows of its tables, as a person sees them.
ROWS = """
const rows = [];
for (const row of document.querySelectorAll("[data-row]")) {
  const cells = {};
  for (const cell of row.querySelectorAll("td[data-title]")) {
    const value = cell.querySelector(".value") || cell;
    cells[cell.dataset.title] = value.textContent.trim();
  }
  cells.why = Array.from(row.querySelectorAll(".why:not([hidden])"), (e) => e.textContent).join();
  rows.push([row.dataset.row, cells]);
}
return rows;
"""


class Browser:
    """One browser with one window. `end` it."""

    def __init__(self) -> None:
        if not HAS_SELENIUM:
            missing("selenium")
        self.folder = tempfile.mkdtemp(prefix="pg-browser-")
        #: Its processes come and go; a test that begins meanwhile has not left them behind.
        self.mark = uuid.uuid4().hex
        options = webdriver.ChromeOptions()
        options.binary_location = tool("chromium")
        for option in [*OPTIONS, "--user-data-dir=" + self.folder]:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = Service(tool("chromedriver"), env=dict(os.environ, **{MARKER: self.mark}))
        self.driver: Any = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(60)

    def end(self) -> None:
        """Of a browser that hangs nothing is left either: it fails the test."""
        self.driver.quit()
        eventually(lambda: not marked_processes(self.mark), message="the browser has ended")
        shutil.rmtree(self.folder, ignore_errors=True)

    # What it is

    def command(self, name: str, **parameters: Any) -> Any:
        """Of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def resize(self, size: Sequence[int]) -> None:
        self.command("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1],
                     deviceScaleFactor=1, mobile=size == PHONE)

    def prefer(self, **features: str) -> None:
        """What the person has chosen: `color_scheme="dark"`, `reduced_motion="reduce"`."""
        self.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-" + name.replace("_", "-"), "value": value}
            for name, value in features.items()])

    def open(self, url: str) -> "Browser":
        """In the state of a new one, on a desk in the light."""
        self.driver.get("about:blank")
        self.problems()
        self.resize(WIDE)
        self.prefer(color_scheme="light")
        self.driver.get(url)
        return self

    # What it shows

    def run(self, script: str, *words: Any) -> Any:
        return self.driver.execute_script(script, *words)

    def text(self, selector: str) -> str:
        """Of the first that is there, as it is shown; empty without any."""
        return str(self.run(
            "const e = document.querySelector(arguments[0]);"
            "return e && e.checkVisibility() ? e.innerText : ''", selector))

    def texts(self, selector: str) -> List[str]:
        found = self.run(
            "return Array.from(document.querySelectorAll(arguments[0]), (e) => e.innerText)",
            selector)
        return list(found)

    def count(self, selector: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def rows(self) -> Dict[str, Dict[str, str]]:
        """By instance: what each cell of its row says, by its heading, and why it does not run."""
        return dict(self.run(ROWS))

    def focused(self) -> str:
        """The instance whose button has the focus, else the id or the name of the element."""
        return str(self.run(
            "const e = document.activeElement;"
            "return e.dataset.instance || e.id || e.tagName.toLowerCase()"))

    def accessible(self) -> List[Dict[str, Any]]:
        """What assistive technology is told: role, name and properties of each node."""
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        return [
            {"role": node["role"]["value"], "name": node.get("name", {}).get("value", ""),
             **{each["name"]: each["value"].get("value") for each in node.get("properties", ())}}
            for node in nodes if not node["ignored"]]

    def press(self, *names: str) -> None:
        """Keys, by the names that DevTools has for them: Tab, Enter, Escape, ArrowRight."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "Home": 36, "End": 35, "ArrowLeft": 37,
                 "ArrowRight": 39}
        for name in names:
            key = {"key": name, "code": name, "windowsVirtualKeyCode": codes[name]}
            if name == "Enter":
                key["text"] = "\r"
            self.command("Input.dispatchKeyEvent", type="keyDown", **key)
            self.command("Input.dispatchKeyEvent", type="keyUp", **key)

    def point_at(self, selector: str, across: float) -> None:
        """Move the mouse over an element: 0 is its left end, 1 its right end."""
        left, top, width, height = self.run(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [box.left, box.top, box.width, box.height]", selector)
        self.command("Input.dispatchMouseEvent", type="mouseMoved",
                     x=left + across * width, y=top + height / 2)

    # What was wrong

    def problems(self) -> List[str]:
        """What its console has said since the last time: errors, violations of the policy."""
        return [each["message"] for each in self.driver.get_log("browser")
                if each["level"] in ("SEVERE", "WARNING")]

    def origins(self) -> List[str]:
        """Whom it has asked for something, besides the page itself."""
        found = self.run(
            "return performance.getEntriesByType('resource').map((e) => new URL(e.name).origin)")
        return sorted(set(found))


def address(port: int, token: Optional[str] = None) -> str:
    return "http://%s127.0.0.1:%d/" % ("" if token is None else "me:%s@" % token, port)


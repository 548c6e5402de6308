"""Take the pictures of the page for the README: docs/page-light.png, -dark.png and -phone.png.

    python docs/screenshots.py [MINUTES]

Run by hand, with the extra `browser` and Debian's chromium. It starts the demonstration application
under some load, a worker and a job that fails, kills an instance now and then for some minutes (6),
and looks at the page. The pictures get a palette where Pillow is installed.
"""

import itertools
import math
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests")]

from browser import Browser, address  # noqa: E402
from conftest import PortLocks  # noqa: E402
from running import Running, server, sleeper  # noqa: E402

#: Name, colour scheme, width and height.
PICTURES = [("light", "light", 1280, 1700), ("dark", "dark", 1280, 1700),
            ("phone", "light", 360, 1180)]  # fmt: skip

#: What clients ask for, and how often at the same time.
PATHS = ["/", "/", "/bytes/4000", "/bytes/30000", "/slow/0.3"]
CLIENTS = 10

QUEUE = """\
echo "connected to the broker"
while :; do sleep 2; echo "42 messages sent"; done"""
MAIL = """\
echo "sending 3 mails"; sleep 2
echo "smtp.example.com:25: connection refused" >&2; exit 75"""


def processes(ports: "List[int]") -> "List[Dict[str, Any]]":
    """What the page shows. The last two ports are those where clients connect."""
    api = server("api", ports[4:7], ports[8], restartDelayMs=2000)
    api["cluster"]["strategy"] = "least-connections"
    return [
        server("my-app", ports[:4], ports[7], restartDelayMs=2000), api,
        sleeper("worker", cmd=QUEUE, cluster={"instances": 2}, restartDelayMs=20000),
        sleeper("mail", cmd=MAIL, restartDelayMs=3000, minUptimeMs=1000),
        sleeper("nightly-report", cron="30 3 * * *", autostart=False),
    ]  # fmt: skip


class Load:
    """Clients that come and go, more and fewer of them in turn."""

    def __init__(self, port: int, pause: float) -> None:
        self.port = port
        self.pause = pause
        for _ in range(CLIENTS):
            threading.Thread(target=self.live, daemon=True).start()

    def live(self) -> None:
        while True:
            request = "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            try:
                with socket.create_connection(("127.0.0.1", self.port), 10) as client:
                    client.sendall((request % random.choice(PATHS)).encode())
                    while client.recv(65536):
                        pass
            except OSError:
                pass
            wave = 1 + 0.6 * math.sin(time.time() / 25) + 0.2 * math.sin(time.time() / 4)
            time.sleep(self.pause * random.uniform(0.7, 1.4) / wave)


def live_for(app: Running, seconds: float) -> None:
    """Kill an instance now and then; the last one just before the end."""
    victims = itertools.cycle(["my-app-2", "api-3", "my-app-4"])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(70, max(0.0, end - time.monotonic() - 8)))
        pid = app.pids()[next(victims)]
        if pid:
            os.kill(pid, signal.SIGKILL)
        time.sleep(min(9, max(0.0, end - time.monotonic())))
    pid = app.pids()["worker-2"]
    if pid:
        os.kill(pid, signal.SIGTERM)
        time.sleep(3)


def take(browser: Browser, name: str, scheme: str, size: Tuple[int, int]) -> None:
    browser.resize(size)
    browser.prefer(color_scheme=scheme)
    # The scroll bar is the machine's.
    browser.command("Emulation.setScrollbarsHidden", hidden=True)
    browser.run("scrollTo(0, 0); document.activeElement.blur()")
    time.sleep(3)
    path = DOCS / ("page-%s.png" % name)
    browser.driver.save_screenshot(str(path))
    shrink(path)
    print("%s: %d KB" % (path.name, path.stat().st_size // 1024), flush=True)


def shrink(path: Path) -> None:
    """Give it a palette of 256 colours."""
    try:
        from PIL import Image
    except ImportError:
        return
    with Image.open(str(path)) as picture:
        small = picture.convert("RGB").quantize(256, kmeans=1, dither=0)
    small.save(str(path), optimize=True)


def main() -> None:
    seconds = 60 * float(sys.argv[1] if len(sys.argv) > 1 else 6)
    ports = PortLocks().take(10)
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        app = Running(Path(folder), *processes(ports), name="shop", dashboard={"port": ports[9]})
        browser = Browser()
        try:
            app.begin()
            time.sleep(3)
            Load(ports[7], 0.12)
            Load(ports[8], 0.5)
            browser.open(address(ports[9]))
            browser.run("const s = document.getElementById('span'); s.value = 900;")
            live_for(app, seconds)
            for name, scheme, *size in PICTURES:
                take(browser, name, scheme, (size[0], size[1]))
        finally:
            browser.end()
            app.end()


if __name__ == "__main__":
    main()

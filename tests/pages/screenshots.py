"""`make screenshots`: pictures of every page, how long the server took, how much script came.

Starts a site of its own, fills it (`tests.pages.showcase`), opens every page of the site map in
every look, and writes build/screenshots/. A chosen few go, small, to docs/screenshots/. Ends with 1
where a page took longer or has more script than it may.
"""

import base64
import contextlib
import gzip
import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import django
from playwright.sync_api import Browser, expect, sync_playwright

import tests.environment  # noqa: F401 - settings that are nobody's

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ollamasite.settings")
    django.setup()

from tests.pages.catalogue import STARTER
from tests.pages.served_site import ServedSite, served_site
from tests.pages.showcase import OWNER
from tests.pages.site_map import PAGES, Page
from tests.pages.visits import CHROMIUM, LOOKS, Visit, open_visit

ROOT: Final = Path(__file__).resolve().parents[2]
PICTURES: Final = ROOT / "build" / "screenshots"
SHOWN: Final = ROOT / "docs" / "screenshots"
MOST_MS: Final = 150.0
MOST_SCRIPT_BYTES: Final = 200_000
_TIMES: Final = 5
_QUALITY: Final = 70
# Pages that show what goes on: while they are taken, somebody asks.
_BUSY: Final = {"home", "queue"}
_AT_ONCE: Final = 6
_HEIGHTS: Final = {390: 844, 1440: 900}
# Pages of the user's guide, by the name of the URL: the look of the picture.
_CHOSEN: Final = {
    "home": (1440, "light"),
    "chat-open": (1440, "light"),
    "queue": (1440, "dark"),
    "models": (1440, "light"),
    "model": (390, "dark"),
    "jobs": (1440, "light"),
    "keys": (1440, "light"),
    "usage": (1440, "light"),
    "usage-request": (390, "light"),
    "team": (390, "light"),
    "api-operation": (1440, "dark"),
}


@dataclass
class Measured:
    """What was found out about a page."""

    page: Page
    seconds: list[float] = field(default_factory=list)
    script_bytes: int = 0
    html_bytes: int = 0

    @property
    def milliseconds(self) -> float:
        """The server's time, p50."""
        return median(self.seconds) * 1000

    @property
    def is_too_much(self) -> bool:
        """Whether it is over what a page may take."""
        return self.milliseconds > MOST_MS or self.script_bytes > MOST_SCRIPT_BYTES


def main() -> int:
    """Take the pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    SHOWN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="o") as folder, served_site(Path(folder) / "d") as site:
        # The job in the pictures is nobody's work: a worker would begin it anew.
        for pid, command in site.running.processes().items():
            if "worker" in command:
                os.kill(pid, signal.SIGSTOP)
        things = json.loads(site.run("tests.pages.showcase").splitlines()[-1])
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            measured = _take(browser, site, things)
            browser.close()
        site.running.clean_up()
    _tell(measured)
    return 1 if any(one.is_too_much for one in measured) else 0


def _take(browser: Browser, site: ServedSite, things: dict[str, str]) -> list[Measured]:
    measured = []
    for who in dict.fromkeys(page.who for page in PAGES):
        state = _signed_in(browser, site, who)
        for page in [page for page in PAGES if page.who == who]:
            one = Measured(page)
            path = page.path_with(things)
            _time(site, path, state, one)
            with _asked_by_others(site, things["secret"] if page.name in _BUSY else ""):
                for look in LOOKS:
                    _photograph(browser, site, state, look, one, path)
            measured.append(one)
            sys.stdout.write(f"{path}: {one.milliseconds:.0f} ms\n")
            sys.stdout.flush()
    return measured


@contextlib.contextmanager
def _asked_by_others(site: ServedSite, secret: str) -> Iterator[None]:
    """Let a few requests run and wait; without a secret, none."""
    is_over = threading.Event()

    def ask() -> None:
        body = {"model": STARTER, "prompt": "Tell a long story.", "options": {"num_predict": 200}}
        while not is_over.is_set():
            connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=120)
            headers = {"Authorization": f"Bearer {secret}"}
            connection.request("POST", "/api/generate", json.dumps(body), headers)
            answer = connection.getresponse()
            while not is_over.is_set() and answer.readline():
                pass
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(_AT_ONCE if secret else 0)]
    for thread in threads:
        thread.start()
    time.sleep(2 if threads else 0)
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _signed_in(browser: Browser, site: ServedSite, who: str) -> Any:
    if who == "nobody":
        return None
    for visit in open_visit(browser, site):
        visit.sign_in({"bob": OWNER}.get(who, who))
        return visit.page.context.storage_state()
    return None


def _photograph(
    browser: Browser,
    site: ServedSite,
    state: Any,
    look: tuple[int, str],
    one: Measured,
    path: str,
) -> None:
    width, scheme = look
    window = {"width": width, "height": _HEIGHTS[width]}
    for visit in open_visit(
        browser, site, viewport=window, color_scheme=scheme, storage_state=state
    ):
        visit.page.goto(f"{site.url}{path}")
        expect(visit.page.locator("main")).to_be_visible()
        visit.page.wait_for_timeout(300)  # what htmx loads
        name = f"{_named(one.page)}-{width}-{scheme}.png"
        visit.page.screenshot(path=PICTURES / name, full_page=True)
        one.script_bytes = max(one.script_bytes, _script_bytes(visit))
        if one.page.who != "alice" and _CHOSEN.get(one.page.name) == look:
            _write_small(visit, SHOWN / f"{one.page.name}.webp")


def _named(page: Page) -> str:
    query = "".join(each if each.isalnum() else "-" for each in urlsplit(page.path).query)
    return "-".join(part for part in (page.who, page.name, query) if part)


def _script_bytes(visit: Visit) -> int:
    """Return how many bytes the scripts of a page are when they come compressed."""
    urls = visit.page.evaluate(
        "performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    scripts = {url for url in urls if urlsplit(url).path.endswith((".js", ".mjs"))}
    bodies = (visit.page.request.get(url).body() for url in scripts)
    return sum(len(gzip.compress(body)) for body in bodies)


def _write_small(visit: Visit, path: Path) -> None:
    session = visit.page.context.new_cdp_session(visit.page)
    wanted = {"format": "webp", "quality": _QUALITY}
    path.write_bytes(base64.b64decode(session.send("Page.captureScreenshot", wanted)["data"]))


def _time(site: ServedSite, path: str, state: Any, one: Measured) -> None:
    cookies = state["cookies"] if state else []
    headers = {
        "Accept": "text/html",
        "Cookie": "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in cookies),
    }
    for turn in range(_TIMES + 1):
        began_s = time.perf_counter()
        connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=30)
        connection.request("GET", path, headers=headers)
        one.html_bytes = len(connection.getresponse().read())
        connection.close()
        if turn:  # the first one warms up
            one.seconds.append(time.perf_counter() - began_s)


def _tell(measured: list[Measured]) -> None:
    lines = [f"{'page':44}{'who':8}{'server':>10}{'script':>10}{'html':>10}"]
    for one in measured:
        mark = "  too much" if one.is_too_much else ""
        lines.append(
            f"{one.page.path:44}{one.page.who:8}{one.milliseconds:7.0f} ms"
            f"{one.script_bytes / 1000:7.1f} kB{one.html_bytes / 1000:7.1f} kB{mark}"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())

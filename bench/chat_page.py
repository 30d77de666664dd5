"""The chat page in a real browser while an answer grows faster than anybody reads.

The real web process over a scripted node, which says Markdown at a set rate. The page itself counts
its frames (`requestAnimationFrame`) and what moves on it (`layout-shift`). Knows no engine.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from playwright.sync_api import Browser, Page, expect, sync_playwright

from bench import processes, report
from bench.processes import Process
from bench.servers import Shape, SiteModel, answers, prepare, site_environment
from bench.workplace import MODELS, PLACE
from ollamasite.data_dir import run_dir

TOKENS: Final = 4000
TOKENS_PER_S: Final = 200
_USER: Final = "reader"
_PASSWORD: Final = f"{_USER} of the benchmark"  # as bench.site_setup makes them
_MODEL: Final = "scripted"
_CHROMIUM: Final = Path("/usr/bin/chromium")
_TEXT: Final = Path(__file__).with_name("chat_page.md")
_WHEN_DONE: Final = """() => new Promise((resolve) => {
  const answer = document.querySelector(".turn-assistant");
  const look = () => {
    if (answer.dataset.state !== "running") {
      requestAnimationFrame(() => requestAnimationFrame(() => resolve(window.counted())));
    }
  };
  new MutationObserver(look).observe(answer, { attributeFilter: ["data-state"] });
  look();
})"""
_COUNT: Final = Path(__file__).with_name("chat_page.js")
_START_MS: Final = 30_000
_NICE: Final = 10
_SPARE: Final = 3  # so many times what the answer should take, before it is given up
_UPDATE_MS: Final = 100  # a frame later than this is seen as a halt


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the page counted while an answer grew. Dropped: a display of 60 Hz lacked so many."""

    tokens: int
    lasted_s: float
    frames: int
    dropped: int
    longest_ms: float
    halts: int
    shift: float
    shown_characters: int
    web_cpus: float


def measure(tokens: int = TOKENS) -> Found:
    """Measure. Raises ProcessError."""
    site = _Site()
    try:
        site.wait_until_ready()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
            )
            report.log(f"chat page: {tokens} tokens at {TOKENS_PER_S} a second")
            found = _watch(browser, site, tokens)
            browser.close()
    finally:
        site.stop()
    return found


class _Site:
    """The web process as `serve` starts it, and the scripted node behind it."""

    def __init__(self) -> None:
        data_dir = PLACE / "site-chat-page"
        shutil.rmtree(data_dir, ignore_errors=True)
        environment = site_environment(data_dir, Shape(slots=1, window_tokens=8192))
        environment["OLLAMASITE_LOG_LEVEL"] = "WARNING"
        prepare(data_dir, environment, [SiteModel(_MODEL, MODELS[0])], [_USER])
        self.port = processes.free_port()
        self._socket = run_dir(data_dir) / "engine.sock"
        node = [sys.executable, "-m", "bench.scripted_node", str(self._socket)]
        self._node = Process(
            [*node, str(TOKENS_PER_S), str(_TEXT)], PLACE / "logs" / "chat-page-node.log"
        )
        web = [sys.executable, "-m", "ollamasite", "web", "--port", str(self.port)]
        self._web = Process(web, PLACE / "logs" / "chat-page-web.log", environment)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Return what web has used until now."""
        return processes.cpu_s([self._web.pid])

    def wait_until_ready(self) -> None:
        self._node.wait_until(self._socket.exists)
        self._web.wait_until(lambda: answers(self.port, "/healthz"))
        # A reader's browser is on a machine of its own: it does not wait for the site's processes.
        for process in (self._web, self._node):
            os.setpriority(os.PRIO_PGRP, process.pid, _NICE)

    def stop(self) -> None:
        self._web.stop()
        self._node.stop()


def _watch(browser: Browser, site: _Site, tokens: int) -> Found:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(_START_MS)
    _open(page, site, tokens)
    page.evaluate(_COUNT.read_text())
    before_s = site.cpu_s()
    page.get_by_label("Message", exact=True).press("Enter")
    answer = page.locator(".turn-assistant")
    expect(answer).to_have_attribute("data-state", "running")
    # The page says when it is over: being asked again and again costs it frames, the more it shows.
    limit_ms = _SPARE * tokens / TOKENS_PER_S * 1000 + _START_MS
    page.set_default_timeout(limit_ms)
    counted = cast("dict[str, float]", page.evaluate(_WHEN_DONE))
    used_s = site.cpu_s() - before_s
    expect(answer).to_have_attribute("data-state", "done")
    return Found(
        tokens=tokens,
        lasted_s=counted["lasted_s"],
        frames=round(counted["frames"]),
        dropped=round(counted["dropped"]),
        longest_ms=counted["longest_ms"],
        halts=round(counted["halts"]),
        shift=counted["shift"],
        shown_characters=len(answer.locator(".blocks").text_content() or ""),
        web_cpus=used_s / counted["lasted_s"],
    )


def _open(page: Page, site: _Site, tokens: int) -> None:
    """Sign in, and write a question whose answer has so many tokens."""
    page.goto(f"{site.url}/chat")
    page.get_by_label("User name").fill(_USER)
    page.get_by_label("Password").fill(_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#chat[data-ready]")).to_be_visible(timeout=_START_MS)
    page.get_by_role("button", name="Parameters and system prompt").click()
    page.get_by_label("Most tokens").fill(str(tokens))
    page.get_by_role("button", name="Use these").click()
    page.get_by_label("Message", exact=True).fill("Tell all of it.")


def to_markdown(found: Found) -> str:
    """Return the table."""
    share = found.dropped / max(1, found.frames + found.dropped)
    rows = [
        ["tokens, at 200 a second", str(found.tokens)],
        ["seconds until the page showed the last", f"{found.lasted_s:.1f}"],
        ["characters shown", str(found.shown_characters)],
        ["frames drawn", str(found.frames)],
        ["frames dropped, of 60 a second", f"{found.dropped} ({share:.1%})"],
        ["longest time between two frames, ms", f"{found.longest_ms:.0f}"],
        [f"halts: more than {_UPDATE_MS} ms between two frames", str(found.halts)],
        ["layout shift (target: 0)", f"{found.shift:.4f}"],
        ["CPUs that web used meanwhile", f"{found.web_cpus:.2f}"],
    ]
    return report.table(("an answer that grows", "found"), rows)

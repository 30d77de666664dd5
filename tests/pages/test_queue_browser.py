"""Home and queue in a browser, two people at the same time, while answers really run and wait."""

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.pages.catalogue import STARTER
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, every_look
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.beside]

SOON_MS = 120_000  # a busy machine takes its time to load a model
ENDS_WITHIN_S = 60
CANCELED = {"error": "request canceled"}


class Answer(threading.Thread):
    """A long answer that is being read, by somebody's key."""

    def __init__(self, url: str, secret: str) -> None:
        super().__init__()
        # Once it counts it goes on for as long as it may.
        options = {"num_predict": 4000, "temperature": 0}
        body = {"model": STARTER, "prompt": "1, 2, 3, 4, 5, 6, 7,", "raw": True, "options": options}
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        self._request = urllib.request.Request(  # noqa: S310 - our own site
            f"{url}/api/generate", json.dumps(body).encode(), headers
        )
        self.last: dict[str, Any] = {}

    def run(self) -> None:
        """Read it to its end."""
        try:
            with urllib.request.urlopen(self._request, timeout=300) as lines:  # noqa: S310 - same
                for line in lines:
                    self.last = json.loads(line)
        except urllib.error.HTTPError as error:  # it was ended before its first word
            with error:
                self.last = json.load(error)


def ask(url: str, secret: str, body: bytes | None = None) -> bytes:
    """Ask the site by a key; a request that has just ended is not there to be cancelled."""
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    asked = urllib.request.Request(url, body, headers)  # noqa: S310 - our own site
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310 - same
            read: bytes = answer.read()
            return read
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != HTTPStatus.NOT_FOUND:
            raise
        return b""


def cancel_all(site: ServedSite, secret: str) -> None:
    told = json.loads(ask(f"{site.url}/api/queue", secret))
    for one in [*told["queue"], *told["on_slots"]]:
        ask(f"{site.url}/api/queue/{one['request_id']}/cancel", secret, b"{}")


@pytest.fixture(scope="module")
def secrets(served: ServedSite) -> dict[str, str]:
    return {
        name: served.command("create-key", name, "--name", f"queue {name}")
        for name in ("alice", "bob")
    }


@pytest.fixture(params=[["bob", "bob"]], ids=["two"])
def answers(
    request: pytest.FixtureRequest, served: ServedSite, secrets: dict[str, str]
) -> Iterator[list[Answer]]:
    """Long answers to the people named; what is left of them ends with the test."""
    running = [Answer(served.url, secrets[name]) for name in request.param]
    for answer in running:
        answer.start()
    yield running
    deadline_s = time.monotonic() + ENDS_WITHIN_S
    while any(answer.is_alive() for answer in running):
        assert time.monotonic() < deadline_s, "answers go on"
        cancel_all(served, secrets["alice"])
        for answer in running:
            answer.join(0.2)


# There are four places.
@pytest.mark.parametrize("answers", [[*["bob"] * 5, "alice"]], ids=["six"], indirect=True)
def test_two_people_see_and_end_what_runs_and_waits(
    served: ServedSite, chromium: Chromium, answers: list[Answer]
) -> None:
    for bobs, alices in zip(
        served.visit(chromium, "bob", path="/queue"),
        served.visit(chromium, "alice", path="/queue"),
        strict=True,
    ):
        queue = bobs.page.get_by_role("region", name=STARTER)
        mine = queue.get_by_role("row").filter(has_text="with queue bob")
        expect(mine).to_have_count(5, timeout=SOON_MS)
        expect(queue.get_by_role("row").filter(has_text="Somebody else")).to_have_count(1)
        expect(queue.get_by_text("Place 1")).to_be_visible()
        expect(queue.get_by_role("button", name="Cancel the request")).to_have_count(5)
        tokens = mine.filter(has_text="Running").first.get_by_role("cell").nth(2)
        expect(tokens).to_have_text(re.compile(r"\d+ tokens\s+[\d.]+/s"), timeout=SOON_MS)

        # The other one looks after the site.
        others = alices.page.get_by_role("region", name=STARTER).get_by_role("row")
        expect(others.filter(has_text=re.compile(r"\bbob\b")).first).to_be_visible(timeout=SOON_MS)
        assert "queue bob" not in alices.page.content()

        # One thinks better of it, then ends one; by keyboard.
        last = mine.last.get_by_role("button")
        place = f"#{last.get_attribute('id')}"
        last.focus()
        bobs.page.keyboard.press("Enter")
        expect(bobs.page.get_by_role("dialog")).to_contain_text("You, with queue bob")
        bobs.check()
        alices.check()
        bobs.page.keyboard.press("Escape")
        bobs.page.locator(place).click()
        bobs.page.get_by_role("button", name="Cancel the request", exact=True).click()
        expect(bobs.page.get_by_text("The request is cancelled.")).to_be_visible()
        for visit in (bobs, alices):
            expect(visit.page.locator(place)).to_have_count(0, timeout=SOON_MS)

        # Whoever looks after the site ends another; both pages tell without being asked.
        row = alices.page.get_by_role("row").filter(has_text=re.compile(r"\bbob\b")).last
        place = f"#{row.get_by_role('button').get_attribute('id')}"
        expect(bobs.page.locator(place)).to_be_visible(timeout=SOON_MS)
        alices.page.locator(place).click()  # another row may be the last by now
        alices.page.get_by_role("button", name="Cancel the request", exact=True).click()
        expect(alices.page.get_by_text("The request is cancelled.")).to_be_visible()
        for visit in (bobs, alices):
            expect(visit.page.locator(place)).to_have_count(0, timeout=SOON_MS)
    wait_for(lambda: [answer.last for answer in answers].count(CANCELED) == 2)


@every_look
def test_pages_fit_and_can_be_read_while_answers_run(
    served: ServedSite, chromium: Chromium, answers: list[Answer]
) -> None:
    for visit in served.visit(chromium, "bob", path="/home"):
        now = visit.page.get_by_role("region", name="Requests now")
        expect(now).to_contain_text("with queue bob", timeout=SOON_MS)
        expect(visit.page.get_by_role("img", name="Memory for models")).to_be_visible()
        for path in ("home", "queue"):
            visit.page.goto(f"{served.url}/{path}")
            expect(visit.page.get_by_text("with queue bob").first).to_be_visible()
            visit.check()
        visit.page.get_by_role("button", name="Cancel the request").first.click()
        visit.check()


def test_request_is_cancelled_without_scripts(
    served: ServedSite, chromium: Chromium, answers: list[Answer]
) -> None:
    for visit in served.visit(chromium, "bob", path="/queue", java_script_enabled=False):
        rows = visit.page.get_by_role("row").filter(has_text="with queue bob")
        deadline_s = time.monotonic() + ENDS_WITHIN_S
        while rows.count() != 2:
            assert time.monotonic() < deadline_s, visit.page.content()
            visit.page.reload()
        rows.first.get_by_role("button").click()
        expect(visit.page.get_by_role("heading", name="Cancel this request?")).to_be_visible()
        visit.page.get_by_role("button", name="Cancel the request").click()
        expect(visit.page.get_by_text("The request is cancelled.")).to_be_visible()


def test_page_rests_while_nobody_looks_at_it(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium, "bob", path="/queue"):
        visit.page.clock.install()
        visit.page.reload()
        # In one go: by this clock, too, five seconds may pass while the test waits for its turn.
        visit.page.evaluate(
            """() => {
                window.seen = "hidden";
                Object.defineProperty(document, "visibilityState", { get: () => window.seen });
            }"""
        )
        asked = visit.addresses.count(f"{served.url}/queue")
        visit.page.clock.run_for(20_000)
        assert visit.addresses.count(f"{served.url}/queue") == asked
        visit.page.evaluate("window.seen = 'visible'")
        with visit.page.expect_response(f"{served.url}/queue"):
            visit.page.clock.run_for(5_000)

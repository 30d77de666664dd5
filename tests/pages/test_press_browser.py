"""In a browser: what tells what is new by replacing itself never takes a click away."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, Visit, hold, press, wait_for_held

pytestmark = [pytest.mark.slow, pytest.mark.beside]

# What a page does when somebody comes back to it: it asks for what is new at once.
COME_BACK = "document.dispatchEvent(new Event('visibilitychange'))"
# Notes the answers that htmx is done with.
NOTE_ANSWERS = """() => {
  const told = document.documentElement.dataset;
  told.answers = "";
  document.addEventListener("htmx:afterRequest", () => { told.answers += "|"; });
}"""
# Clicks it the moment it appears, before anything else of the page has its turn.
CLICK_AT_ONCE = """() => {
  const seen = new MutationObserver(() => {
    const close = document.getElementById("job-strip-close");
    if (close) { seen.disconnect(); close.click(); }
  });
  seen.observe(document.body, { childList: true, subtree: true });
}"""


@pytest.fixture
def visit(served: ServedSite, chromium: Chromium, failed_job: str) -> Iterator[Visit]:
    """A browser whose next page has a line that says that the job has ended."""
    # This one has no line, whose answer would take away what the browser remembers.
    for visit in served.visit(chromium, path="/jobs"):
        visit.page.context.add_cookies(
            [
                {
                    "name": "job_strip",
                    "value": failed_job.rpartition("/")[2],
                    "domain": "127.0.0.1",
                    "path": "/jobs/strip",
                }
            ]
        )
        yield visit


def line_of(visit: Visit, failed_job: str) -> Locator:
    return visit.page.locator(f"#job-strip-done[href='{failed_job}']")


def open_page(visit: Visit) -> None:
    visit.page.goto(f"{visit.site.url}/client-keys")


def ask_anew(page: Page, held: list[Route]) -> Route:
    """Have a page ask for what is new, and return the request, which is held."""
    before = len(held)
    page.evaluate(COME_BACK)
    return wait_for_held(page, held, before + 1)


def let_answer(page: Page, held: Route) -> None:
    """Let what was held be answered, and wait until the page is done with the answer."""
    page.evaluate(NOTE_ANSWERS)
    held.continue_()
    expect(page.locator("html")).to_have_attribute("data-answers", re.compile(r"\|"))


def test_line_is_closed_the_moment_it_appears(visit: Visit, failed_job: str) -> None:
    page = visit.page
    held = hold(page, "**/jobs/strip")
    open_page(visit)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    asked = wait_for_held(page, held)
    page.evaluate(CLICK_AT_ONCE)
    asked.continue_()

    expect(page.locator("#job-strip[data-poll]")).to_be_attached()
    expect(line_of(visit, failed_job)).to_have_count(0)
    assert sum("/jobs/strip" in address for address in visit.addresses) >= 2
    visit.check()


def test_line_that_is_closed_while_it_asks_stays_closed(visit: Visit, failed_job: str) -> None:
    page, line = visit.page, line_of(visit, failed_job)
    visit.expects("htmx:(afterRequest|sendAbort)")  # what the library says of asking no longer
    open_page(visit)
    expect(line).to_be_visible()
    held = hold(page, "**/jobs/strip*")
    ask_anew(page, held)
    page.get_by_role("button", name="Close this line").click()
    wait_for_held(page, held, 2)
    for route in held:  # what was asked first is answered first, if anybody still waits for it
        route.continue_()
    expect(line).to_have_count(0)

    asked = ask_anew(page, held)
    let_answer(page, asked)
    expect(line).to_have_count(0)
    visit.check()


def test_line_is_not_replaced_under_a_press(visit: Visit, failed_job: str) -> None:
    page, line = visit.page, line_of(visit, failed_job)
    open_page(visit)
    close = page.get_by_role("button", name="Close this line")
    expect(close).to_be_visible()
    held = hold(page, "**/jobs/strip?*ended=*")
    asked = ask_anew(page, held)
    press(page, close)
    let_answer(page, asked)
    expect(line).to_be_visible()
    page.mouse.up()
    expect(line).to_have_count(0)

    # Once nothing is pressed it asks again by itself.
    page.unroute("**/jobs/strip?*ended=*")
    with page.expect_response("**/jobs/strip?*ended=*"):
        page.evaluate(COME_BACK)
    visit.check()


def test_key_that_is_down_is_a_press(visit: Visit, failed_job: str) -> None:
    page, line = visit.page, line_of(visit, failed_job)
    open_page(visit)
    page.get_by_role("button", name="Close this line").focus()
    held = hold(page, "**/jobs/strip?*ended=*")
    asked = ask_anew(page, held)
    page.keyboard.down(" ")
    let_answer(page, asked)
    expect(line).to_be_visible()
    page.keyboard.up(" ")
    expect(line).to_have_count(0)
    visit.check()


def test_part_that_asks_every_few_seconds_waits_for_the_release(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in served.visit(chromium):
        page = visit.page
        held = hold(page, "**/home")
        asked = ask_anew(page, held)
        press(page, page.locator("#now-queue"))
        let_answer(page, asked)
        page.mouse.up()
        page.wait_for_url("**/queue")
        visit.check()


def test_what_is_told_of_a_form_waits_for_the_release(
    served: ServedSite, chromium: Chromium
) -> None:
    """It may be taller than what stood there, and move the button away under the press."""
    for visit in served.visit(chromium, path="/models/pull"):
        page, told = visit.page, visit.page.locator("#name-check")
        visit.expects("htmx:(afterRequest|sendAbort)")  # of the first question
        held = hold(page, "**/models/pull/check")
        page.get_by_label("Name of the model").fill("evil.example/a/b")
        wait_for_held(page, held)
        press(page, page.get_by_role("button", name="Pull"))  # which leaves the field
        let_answer(page, wait_for_held(page, held, 2))
        expect(told).to_contain_text("[host/]")

        page.unroute("**/models/pull/check")
        page.mouse.move(1, 1)  # elsewhere: the form is not sent
        page.mouse.up()
        expect(told).to_contain_text("is not allowed here")
        visit.check()


def test_list_of_choices_is_no_press(served: ServedSite, chromium: Chromium) -> None:
    """It takes the release."""
    for visit in served.visit(chromium, path="/models"):
        page = visit.page
        order = page.get_by_label("Order")
        order.dispatch_event("pointerdown")
        order.select_option(index=1)
        page.wait_for_url("**sort=*")
        visit.check()

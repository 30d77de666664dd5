"""In a browser: what goes wrong without a new page is told in words, and keys lead about."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, Visit

pytestmark = [pytest.mark.slow, pytest.mark.beside]
# What browser and library say of an answer that does not come, or is a refusal.
UNREACHED = "htmx:(sendError|afterRequest)|/asked"
PRESS = """(keys) => keys.forEach((key) => {
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
})"""
ASK = "htmx.ajax('GET', '/asked', {target: '#main h1', swap: 'innerHTML'})"


@pytest.fixture
def visit(served: ServedSite, chromium: Chromium) -> Iterator[Visit]:
    yield from served.visit(chromium)


def answer_with(visit: Visit, **answer: Any) -> None:
    visit.expects(UNREACHED)
    visit.page.unroute("**/asked")
    visit.page.route("**/asked", lambda route: route.fulfill(**answer))


def test_refusal_is_told_in_the_servers_words_with_its_id(visit: Visit) -> None:
    answer_with(visit, status=409, json={"error": "two <b>at once"}, headers={"x-request-id": "a1"})
    visit.page.evaluate(ASK)
    line = visit.page.locator("#alerts")
    expect(line).to_contain_text("two <b>at once id a1")
    visit.check()
    answer_with(visit, status=200, content_type="text/html", body="Home again")
    line.get_by_role("button", name="Try again").click()
    expect(visit.page.get_by_role("heading", name="Home again")).to_be_visible()
    expect(line).to_be_empty()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 500, "content_type": "text/html", "body": "<h1>x"}, "Something broke"),
        ({"status": 404, "content_type": "text/plain", "body": "no such job"}, "no such job"),
        ({"status": 429, "content_type": "application/json", "body": "{"}, "too often"),
        ({"status": 403, "json": {"error": {"message": "not yours"}}}, "not yours"),
    ],
)
def test_every_answer_has_its_sentence(visit: Visit, answer: dict[str, Any], told: str) -> None:
    answer_with(visit, **answer)
    visit.page.evaluate(ASK)
    expect(visit.page.locator("#alerts")).to_contain_text(told)
    visit.check()
    visit.page.get_by_role("button", name="Dismiss").click()
    expect(visit.page.locator("#alerts")).to_be_empty()


def test_lost_connection_is_told_until_it_is_back(visit: Visit) -> None:
    visit.expects(UNREACHED)
    visit.page.route("**/asked", lambda route: route.abort())
    visit.page.evaluate(f"{ASK}.catch(() => null)")
    expect(visit.page.locator("#alerts")).to_contain_text("cannot be reached")
    visit.check()
    answer_with(visit, status=200, content_type="text/html", body="Home")
    visit.page.evaluate(ASK)
    expect(visit.page.locator("#alerts")).to_be_empty()


def test_way_to_try_again_stays_though_something_else_is_answered(visit: Visit) -> None:
    visit.expects(UNREACHED)
    visit.page.route("**/asked", lambda route: route.abort())
    visit.page.evaluate(f"{ASK}.catch(() => null)")
    expect(visit.page.get_by_role("button", name="Try again")).to_be_visible()
    visit.page.evaluate("htmx.ajax('GET', '/jobs/strip', {target: '#job-strip', swap: 'none'})")
    expect(visit.page.get_by_role("button", name="Try again")).to_be_visible()


def test_ended_session_leads_to_the_sign_in_page_and_back(visit: Visit) -> None:
    visit.expects("401")
    visit.page.context.clear_cookies()
    visit.page.evaluate("htmx.ajax('GET', '/home', '#main h1')")
    expect(visit.page.locator("#alerts")).to_contain_text("your session has ended")
    visit.page.locator("#alerts").get_by_role("link", name="Sign in").click()
    visit.page.wait_for_url(re.compile(r"/signin\?next=%2Fhome$"))


def test_list_of_shortcuts_is_found_by_key_and_in_the_menu(visit: Visit) -> None:
    dialog = visit.page.get_by_role("dialog", name="Keyboard shortcuts")
    visit.page.keyboard.press("?")
    expect(dialog).to_be_visible()
    visit.check()
    visit.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    visit.page.locator("[data-menu] summary").click()
    visit.page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(dialog).to_be_visible()


def test_g_and_a_letter_go(visit: Visit) -> None:
    visit.page.goto(f"{visit.site.url}/client-keys")
    # The second counts as long as the first is a second and a half old: nothing may come between.
    visit.page.evaluate(PRESS, ["g", "h"])
    expect(visit.page.get_by_role("heading", name="Home", exact=True)).to_be_visible()


def test_shortcuts_rest_in_fields_and_when_they_are_off(visit: Visit) -> None:
    visit.page.goto(f"{visit.site.url}/client-keys")
    field = visit.page.get_by_label("Public key")
    field.press_sequentially("gh?")
    expect(field).to_have_value("gh?")
    field.blur()
    visit.page.keyboard.press("?")
    visit.page.get_by_label("Use them in this browser").uncheck()
    visit.page.keyboard.press("Escape")
    visit.page.reload()
    visit.page.keyboard.press("?")
    expect(visit.page.get_by_role("dialog")).to_be_hidden()

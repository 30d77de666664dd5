"""The pages of usage in a browser: charts at every look, the drawer by keyboard, a file."""

import csv
import re
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import expect

from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, Visit, every_look, hold, wait_for_held

pytestmark = [pytest.mark.slow, pytest.mark.beside]
PATHS: Final = (
    "/usage",
    "/usage?period=year&group_by=dialect",
    "/usage/requests",
    "/usage?period=own",
)


@pytest.fixture(scope="module")
def used(served: ServedSite) -> ServedSite:
    """Give somebody of this file's own a year of use."""
    served.add_user("una")
    served.run("tests.pages.fill_usage", "una")
    return served


@pytest.fixture
def visit(used: ServedSite, chromium: Chromium) -> Iterator[Visit]:
    yield from used.visit(chromium, "una", path="/usage")


@every_look
def test_charts_are_whole_at_every_look(used: ServedSite, chromium: Chromium) -> None:
    for visit in used.visit(chromium, "una", path="/usage"):
        # A question that makes no sense is a page, too, of the status 400.
        visit.expects("400")
        for path in PATHS:
            visit.page.goto(f"{used.url}{path}")
            expect(visit.page.locator("main h1")).to_be_visible()
            visit.check()
        visit.page.goto(f"{used.url}/usage")
        for name in (re.compile("^Tokens by the day"), re.compile("^Use by the day")):
            box = visit.page.get_by_role("img", name=name).bounding_box()
            assert box is not None
            assert box["width"] > 0.7 * min(chromium.look.width, 1280) * 0.8
            assert 90 <= box["height"] <= 220


def test_numbers_of_the_chart_are_a_table_too(visit: Visit) -> None:
    visit.page.get_by_text("As a table").click()
    table = visit.page.get_by_role("table", name="Use by the day")
    expect(table.get_by_role("row").nth(1)).to_be_visible()


def test_requests_are_walked_through_by_keyboard(visit: Visit) -> None:
    page = visit.page
    # A browser with a window lets the tab that one uses; without one, nobody is there to ask.
    page.context.grant_permissions(["clipboard-write"])
    page.goto(f"{visit.site.url}/usage/requests?period=year")
    drawer = page.get_by_role("dialog", name="A request")
    first = page.locator("[data-drawer]").first
    first.focus()
    page.keyboard.press("Enter")
    expect(drawer).to_be_visible()
    expect(drawer).to_contain_text("from beginning to end")
    visit.check()
    assert page.evaluate("document.getElementById('drawer').contains(document.activeElement)")
    visit.copy_with(drawer.get_by_role("button", name="Copy").first)
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    assert page.evaluate("document.activeElement.hasAttribute('data-drawer')")
    more = page.get_by_role("link", name="Show older requests")
    more.focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-drawer]")).to_have_count(100)
    expect(page.locator("[data-drawer]").nth(50)).to_be_focused()


def test_drawer_shows_the_place_of_what_is_on_its_way_and_goes_where_it_fails(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.site.url}/usage/requests?period=year")
    held = hold(page, "**/usage/requests/*")
    page.locator("[data-drawer]").first.click()
    drawer = page.get_by_role("dialog", name="A request")
    expect(drawer.locator(".skeleton").first).to_be_visible()
    visit.check()
    visit.expects("htmx:(sendError|afterRequest)|ERR_FAILED")
    wait_for_held(page, held).abort()
    expect(drawer).to_be_hidden()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_drawer_shows_what_was_asked_for_last(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.site.url}/usage/requests?period=year")
    visit.expects("htmx:(afterRequest|sendAbort)")  # what the library says of asking no longer
    held = hold(page, "**/usage/requests/*")
    page.locator("[data-drawer]").first.click()
    first = wait_for_held(page, held).request
    page.keyboard.press("Escape")
    with page.expect_event("requestfailed", lambda request: request == first):
        page.locator("[data-drawer]").nth(1).click()
    wait_for_held(page, held, 2).continue_()
    drawer = page.get_by_role("dialog", name="A request")
    expect(drawer).to_contain_text(held[1].request.url.rpartition("/")[2])


def test_filter_narrows_and_is_cleared(visit: Visit) -> None:
    page = visit.page
    model = page.locator("input[name=model]")
    page.get_by_label("Period").select_option("Last 12 months")
    model.fill("qwen3:8b")
    page.get_by_role("button", name="Show").click()
    models = page.get_by_role("region", name="By model")
    expect(models.locator("tbody tr")).to_have_count(1)
    expect(model).to_have_value("qwen3:8b")
    page.get_by_role("link", name="Requests", exact=True).click()
    expect(model).to_have_value("qwen3:8b")
    expect(page.get_by_label("Period")).to_have_value("year")
    page.get_by_role("link", name="Clear filters").click()
    expect(model).to_have_value("")


def test_own_dates_are_asked_for_where_they_are_wanted(visit: Visit) -> None:
    page = visit.page
    expect(page.get_by_label("From")).to_be_hidden()
    page.get_by_label("Period").select_option("Own dates")
    expect(page.get_by_label("From")).to_be_visible()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("Choose a day.").first).to_be_visible()
    visit.expects("400")
    expect(page.locator("#id_since")).to_be_focused()


def test_file_is_what_the_page_shows(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.site.url}/usage/requests?period=year&outcome=failed")
    shown = page.locator("[data-drawer]").count()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    with download.value.path().open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert download.value.suggested_filename == "usage.csv"
    assert len(rows) == shown > 0
    assert {row["outcome"] for row in rows} == {"failed"}


def test_pages_work_without_any_script(used: ServedSite, chromium: Chromium) -> None:
    for signed_in in used.visit(chromium, "una", path="/usage"):
        state = signed_in.page.context.storage_state()
    for visit in used.visit(chromium, "una", storage_state=state, java_script_enabled=False):
        page = visit.page
        page.goto(f"{used.url}/usage/requests?period=year")
        page.get_by_role("link", name="Show older requests").click()
        expect(page.locator("[data-drawer]")).to_have_count(50)
        page.locator("[data-drawer]").first.click()
        expect(page.get_by_role("heading", name="Request", level=1)).to_be_visible()

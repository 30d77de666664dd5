"""In a browser: texts that try to run do not, on no page, and nothing is fetched for them."""

import json

import pytest
from playwright.sync_api import Dialog, expect

from tests.pages.life import Things
from tests.pages.served_site import ServedSite
from tests.pages.site_map import PAGES
from tests.pages.visits import DESK, PATIENCE_MS, Chromium, Visit, only_look
from tests.pages.xss import VECTORS

pytestmark = [pytest.mark.slow, pytest.mark.beside]
COUNT = 8


@pytest.fixture(scope="module")
def things(served: ServedSite) -> list[Things]:
    """Give somebody of this file's own things that say what is hostile."""
    served.add_user("mallory")
    said = served.run("tests.pages.life", str(COUNT), "hostile", "mallory")
    made: list[Things] = json.loads(said.splitlines()[-1])
    return made


class Heard:
    """Notes dialogs and closes them."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def __call__(self, dialog: Dialog) -> None:
        """Note one."""
        self._told.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


def look_at(visit: Visit, path: str, wrong: list[str]) -> None:
    visit.complaints.clear()
    visit.addresses.clear()
    visit.page.goto(f"{visit.site.url}{path}")
    expect(visit.page.locator("main")).to_be_visible()
    # What waits for the mouse, for the focus or for a fold to open.
    for fold in visit.page.locator("main details:not([open]) > summary").all()[:5]:
        if fold.is_visible():
            fold.click()
    visit.page.wait_for_timeout(50)
    wrong += [f"{path}: {text}" for text in visit.complaints]
    wrong += [
        f"{path} asked for {address}"
        for address in visit.addresses
        if not address.startswith((visit.site.url, f"ws{visit.site.url[4:]}", "data:", "blob:"))
    ]
    if (width := visit.overflow_px()) > 0:
        wrong.append(f"{path} is {width} px too wide")


AT_DESK = only_look(DESK, "what texts do is the same at every look")


@AT_DESK
@pytest.mark.parametrize("who", ["bob", "alice"])
def test_nothing_runs_and_nothing_is_fetched(
    served: ServedSite, chromium: Chromium, things: list[Things], who: str
) -> None:
    wrong: list[str] = []
    name = "mallory" if who == "bob" else who
    for visit in served.visit(chromium, name, path="/signin"):
        visit.page.on("dialog", Heard(wrong))
        for page in [page for page in PAGES if page.who == who]:
            several = things if page.name == "chat-open" else things[:1]
            for path in dict.fromkeys(page.path_with(each) for each in several):
                look_at(visit, path, wrong)

    assert wrong == []


@AT_DESK
def test_corpus_would_be_heard(chromium: Chromium) -> None:
    """Written into a page as they are, some of them open a dialog."""
    heard: list[str] = []
    page = chromium.new_context().new_page()
    page.on("dialog", Heard(heard))
    for text in VECTORS[16:24]:
        page.set_content(text)
    for _ in range(PATIENCE_MS // 100):
        if heard:
            break
        page.wait_for_timeout(100)
    page.close()

    assert heard

"""Every page in a browser, with some life in it: axe, contrast, width, no complaints."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from django.conf import settings
from playwright.sync_api import expect

from tests.pages.life import Things
from tests.pages.served_site import ServedSite
from tests.pages.site_map import PAGES, Page
from tests.pages.visits import FLOW_LOOKS, Chromium, Visit, every_look, walk

pytestmark = [pytest.mark.slow, pytest.mark.beside]
ROOT: Final = Path(settings.BASE_DIR)
AXE: Final = ROOT / "tests/contract/js/node_modules/axe-core/axe.min.js"
# axe takes a second a page: these two looks have every element and both sets of colours.
AXE_LOOKS: Final = FLOW_LOOKS
RULES: Final = """async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const found = await axe.run({runOnly: {type: "tag", values: tags}});
    return found.violations
        .filter(({impact}) => impact === "serious" || impact === "critical")
        .map(({id, help, nodes}) => `${id}: ${help}: ${nodes.map((at) => at.html).slice(0, 3)}`);
}"""


@pytest.fixture(scope="module")
def things(served: ServedSite) -> Things:
    """Give somebody of this file's own something of everything; return how paths name it."""
    served.add_user("vera")
    said = served.run("tests.pages.life", "3", "plain", "vera")
    made: list[Things] = json.loads(said.splitlines()[-1])
    return made[0]


def visits(served: ServedSite, chromium: Chromium, who: str, **options: Any) -> Iterator[Visit]:
    if who == "nobody":
        yield from walk(chromium, served, **options)
    else:
        name = {"bob": "vera"}.get(who, who)
        yield from served.visit(chromium, name, path="/signin", **options)


def faults_of(visit: Visit, page: Page, things: Things, *, has_axe: bool) -> list[str]:
    """Open a page and return everything that is wrong with it."""
    visit.complaints.clear()
    visit.page.goto(f"{visit.site.url}{page.path_with(things)}")
    expect(visit.page.locator("main")).to_be_visible()
    visit.page.evaluate("document.fonts.ready")
    # A sign-up that is not open is a page, too: of the status 404, of which browsers complain.
    visit.meant = [".*"] if page.name == "signup" else []
    found = visit.faults()
    if has_axe:
        visit.page.evaluate(AXE.read_text())
        found += visit.page.evaluate(RULES)
    return found


@every_look
@pytest.mark.parametrize("who", ["nobody", "bob", "alice"])
def test_every_page_can_be_used_by_everybody(
    served: ServedSite, chromium: Chromium, things: Things, who: str
) -> None:
    wrong = {}
    has_axe = chromium.look in AXE_LOOKS
    for visit in visits(served, chromium, who):
        for page in PAGES:
            if page.who == who:
                wrong[page.path] = faults_of(visit, page, things, has_axe=has_axe)

    assert {path: faults for path, faults in wrong.items() if faults} == {}

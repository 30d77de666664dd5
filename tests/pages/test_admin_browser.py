"""The pages under /admin/ in a real browser: they work under the site's content policy."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.models_app.admin_pages import TABLES
from tests.pages.catalogue import STARTER
from tests.pages.live_site import LiveSite
from tests.pages.visits import Chromium, Visit, open_visit

pytestmark = [pytest.mark.slow, pytest.mark.beside]

LIST = "/admin/models_app/alias/"


@pytest.fixture
def visit(chromium: Chromium, site: LiveSite) -> Iterator[Visit]:
    """A tab whose colours are not looked at: they are those of the library."""
    yield from open_visit(chromium, site)


def test_alias_is_added_and_removed_by_hand(visit: Visit) -> None:
    page = visit.page
    visit.sign_in()
    page.goto(f"{visit.site.url}{LIST}add/")
    page.get_by_label("Name").fill("gpt-4o-mini")
    page.get_by_label("Model").fill("missing")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("There is no model missing:latest.")).to_be_visible()
    assert visit.overflow_px() <= 0
    page.get_by_label("Model").fill(STARTER)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    assert visit.overflow_px() <= 0
    page.get_by_role("link", name="gpt-4o-mini:latest").first.click()
    expect(page.get_by_label("Model")).to_have_value(STARTER)
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.get_by_text("was deleted successfully")).to_be_visible()

    assert visit.complaints == []
    assert all(url.startswith(visit.site.url) for url in visit.addresses)


def test_every_page_of_the_menu_fits_its_window(visit: Visit) -> None:
    visit.sign_in()
    for path in ("", "nodes/", *(f"models_app/{table}/" for table in TABLES)):
        answer = visit.page.goto(f"{visit.site.url}/admin/{path}")

        assert answer is not None
        assert answer.status == 200
        assert visit.overflow_px() <= 0, path
    assert visit.complaints == []

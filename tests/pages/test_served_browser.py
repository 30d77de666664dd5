"""The whole site in a browser: the frame that all pages have."""

import pytest
from playwright.sync_api import expect

from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium

pytestmark = [pytest.mark.slow, pytest.mark.beside]


def test_pages_are_reached_from_each_other(served: ServedSite, chromium: Chromium) -> None:
    for visit in served.visit(chromium):
        ways = visit.page.get_by_role("navigation", name="Pages")
        expect(ways.get_by_role("link", name="Home")).to_have_attribute("aria-current", "page")
        assert visit.complaints == []

"""The table of all pages is complete: what is tested over it is tested for every page."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from tests.pages.site_map import PAGES, SHOWS_NO_PAGE, THINGS, Page

# Answered for programs, or made by another library.
ELSEWHERE = ("api/", "v1/", "v2", "admin", "healthz", "readyz", "metrics", "openapi.json")


def routes(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        else:
            yield route, pattern


def page_routes() -> dict[str, URLPattern]:
    """Return every route of the site that people open or send forms to."""
    found = routes(get_resolver().url_patterns)
    return {route: at for route, at in found if route and not route.startswith(ELSEWHERE)}


def takes_forms_alone(pattern: URLPattern) -> bool:
    """Whether a view says that it is never read (`models_app.page_requests.allow`)."""
    methods = getattr(pattern.callback, "allowed_methods", frozenset({"GET"}))
    return "GET" not in methods


def test_every_page_has_a_line() -> None:
    named = {page.name for page in PAGES} | SHOWS_NO_PAGE.keys() | {"signout", "remove-client-key"}
    missing = {
        route: "add a line to tests/pages/site_map.py"
        for route, pattern in page_routes().items()
        if not takes_forms_alone(pattern) and pattern.name not in named
    }

    assert missing == {}


def test_every_line_has_its_route() -> None:
    names = {pattern.name for pattern in page_routes().values()}

    assert {page.name for page in PAGES} - names == set()
    assert SHOWS_NO_PAGE.keys() - names == set()
    assert SHOWS_NO_PAGE.keys() & {page.name for page in PAGES} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.path} {page.who}")
def test_path_of_a_line_is_its_routes(page: Page) -> None:
    path = page.path_with(THINGS).partition("?")[0]

    assert resolve(path).url_name == page.name

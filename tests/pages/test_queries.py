"""How often each page asks the database: as often as the site map says, however much there is."""

from typing import Final

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from models_app.accounts import create_user
from models_app.models import User
from tests.pages.catalogue import PASSWORD
from tests.pages.conftest import BROWSER
from tests.pages.life import Things, fill
from tests.pages.site_map import PAGES, Page

FEW: Final = 2
MANY: Final = 9
# Whether the site's limits are still what they were: asked once a second, for everybody together.
OF_ALL: Final = 'SELECT COUNT("models_app_limitrule"."id")'


def counted(page: Page, things: Things, people: dict[str, User]) -> int:
    """Return how many queries a page makes when it is opened again."""
    client = Client(headers={"accept": BROWSER})
    if page.who in people:
        client.force_login(people[page.who])
    path = page.path_with(things)
    client.get(path, follow=True)  # the session's first page writes when it was last used
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(path, follow=True)
    assert answer.status_code == 200, path
    return sum(not query["sql"].startswith(OF_ALL) for query in queries)


def test_each_page_asks_as_often_however_much_there_is(db: None, settings: Settings) -> None:
    settings.SIGN_UP = "open"
    alice = create_user("alice", PASSWORD, is_admin=True)
    few, many = (create_user(name, PASSWORD) for name in ("bob", "carol"))
    few_things = fill(few, count=FEW)[0]
    with_few = [counted(page, few_things, {"alice": alice, "bob": few}) for page in PAGES]
    many_things = fill(many, count=MANY)[0]
    with_many = [counted(page, many_things, {"alice": alice, "bob": many}) for page in PAGES]
    told = [page.queries for page in PAGES]
    wrong = [
        f"{page.path} {page.who}: {fewer} with a few, {more} with more, {said} in the site map"
        for page, fewer, more, said in zip(PAGES, with_few, with_many, told, strict=True)
        if not fewer == more == said
    ]

    assert wrong == [], "\n".join(wrong)

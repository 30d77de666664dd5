"""What people and models write is text on every page: it becomes no element and no attribute.

Two people have as many of everything: carol writes what people write, bob what `xss` has. Their
pages are then made of the same kinds of elements.
"""

import re
from collections.abc import Callable
from typing import Final

import pytest
from django.test import Client
from pytest_django import Settings

from models_app.accounts import create_user
from models_app.models import User
from tests.pages.catalogue import PASSWORD
from tests.pages.conftest import BROWSER
from tests.pages.html_kinds import Kind, Made, made_of
from tests.pages.life import Things, fill, hostile, plain
from tests.pages.site_map import PAGES, Page
from tests.pages.xss import VECTORS

# Half a minute of one core.
pytestmark = [pytest.mark.slow, pytest.mark.beside]
AT_ONCE: Final = 18  # fits on one page of every list
# Pages of one thing that make more of a text than to escape it are seen with each text; the others
# with every sixth of them, for the lists show the same fields with all.
RENDERED: Final = frozenset({"chat-open", "model"})
EVERY: Final = 6
# Where addresses lead: to this site, or where a link in Markdown was meant to go.
GOOD: Final = re.compile(r"(?!//)[/#?]|$|(https?|mailto):")
# What Markdown makes of some of the texts and not of others, with the attributes that it sets.
MARKDOWN: Final = re.compile(
    r"p|br|hr|em|strong|del|s|h[1-6]|[uo]l|li|blockquote|pre|code|table|t(head|body|r|h|d)|a|div"
    r"|span|button|math|m(row|i|n|o|text)|semantics|annotation"
)
MARKDOWN_ATTRIBUTES: Final = frozenset(
    {"href", "target", "class", "type", "start", "display", "tabindex", "role", "aria-label"}
)


def test_corpus_is_large_and_each_is_another() -> None:
    assert len(set(VECTORS)) == len(VECTORS) >= 60


@pytest.mark.parametrize("text", VECTORS)
def test_each_would_be_seen_where_it_is_not_escaped(text: str) -> None:
    page = '<p>{0}</p><p title="{0}"></p><p title=\'{0}\'></p><a href="{0}">x</a>'
    made = made_of(page.format(text))
    expected = made_of(page.format("plain"))
    leads_away = not all(GOOD.match(at) for at in made.addresses)
    is_inert = not re.search(r"[<>\"'`]|script:|data:", text) or "&" in text
    assert made.faults or made.kinds - expected.kinds or leads_away or is_inert


def see(page: Page, things: list[Things], people: dict[str, User]) -> list[Made]:
    """Open a page, and where it is of a thing, that of each."""
    client = Client(headers={"accept": BROWSER})
    if page.who in people:
        client.force_login(people[page.who])
    made = []
    for path in dict.fromkeys(page.path_with(each) for each in things):
        answer = client.get(path, follow=True)
        assert answer.status_code == 200, path
        made.append(made_of(answer.content.decode()))
    return made


def kinds(made: list[Made]) -> set[Kind]:
    return set[Kind]().union(*(each.kinds for each in made))


def is_markdown(kind: Kind) -> bool:
    return bool(MARKDOWN.fullmatch(kind[0])) and kind[1] <= MARKDOWN_ATTRIBUTES


@pytest.fixture(scope="module")
def allowed() -> dict[Page, set[Kind]]:
    """What pages are made of where people write what people write; the first test finds it out."""
    return {}


def see_plain(alice: User) -> dict[Page, set[Kind]]:
    """Look at each page with what people write on it."""
    carol, dave = create_user("carol", PASSWORD), create_user("dave", PASSWORD)
    fill(dave, count=AT_ONCE, texts=plain)  # so that alice has as many people to look at
    things = fill(carol, count=AT_ONCE, texts=plain)[:3]  # a job in each state among them
    return {page: kinds(see(page, things, {"alice": alice, "bob": carol})) for page in PAGES}


@pytest.mark.parametrize("first", range(0, len(VECTORS), AT_ONCE))
def test_no_text_becomes_a_part_of_a_page(
    db: None, settings: Settings, allowed: dict[Page, set[Kind]], first: int
) -> None:
    settings.SIGN_UP = "open"
    alice = create_user("alice", PASSWORD, is_admin=True)
    if not allowed:
        allowed |= see_plain(alice)
    bob = create_user("bob", PASSWORD)
    things = fill(bob, count=AT_ONCE, texts=numbered_from(first))
    wrong = {}
    for page in PAGES:
        some = things if page.name in RENDERED else things[::EVERY]
        made = see(page, some, {"alice": alice, "bob": bob})
        wrong[f"{page.path} {page.who}"] = [
            *(fault for each in made for fault in each.faults),
            *(at for each in made for at in each.addresses if not GOOD.match(at)),
            *(
                kind
                for kind in kinds(made) - allowed[page]
                if not (page.path.startswith("/chat/") and is_markdown(kind))
            ),
        ]

    assert {path: faults for path, faults in wrong.items() if faults} == {}


def numbered_from(first: int) -> Callable[[str, int], str]:
    return lambda place, number: hostile(place, number + first)

"""The chat page as somebody uses it in a browser: small words for its tests. Knows no server."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

from playwright.sync_api import Locator, Page, expect

from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, Visit

ANSWER_MS: Final = 180_000  # a busy machine takes a minute to load the model
SHORT: Final = 12
# What is told on the page comes before its address.
_OPEN: Final = re.compile(r"/chat/[0-9a-f]{32}")
LONG: Final = 4000  # ends long after whoever stops it has had a turn
LONG_QUESTION: Final = "Write a very long story about a lighthouse, with many chapters."


def chat(
    served: ServedSite, chromium: Chromium, path: str = "/chat", **options: Any
) -> Iterator[Visit]:
    """Open the page; what it complains about is looked at when the test is over."""
    for visit in served.visit(chromium, "carla", path=path, **options):
        wait_until_ready(visit.page)
        yield visit


def wait_until_ready(page: Page) -> None:
    """Wait until the page's script listens; until then Enter is a key like others."""
    expect(page.locator("#chat[data-ready]")).to_be_visible()


def ask(page: Page, text: str, tokens: int = SHORT) -> Locator:
    """Ask, and return the answer's article as soon as it is there."""
    limit(page, tokens)
    before = page.locator(".turn-assistant").count()
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_label("Message", exact=True).press("Enter")
    answer = page.locator(".turn-assistant").nth(before)
    expect(answer).to_be_visible()
    return answer


def show_list(page: Page) -> None:
    """Open the list of chats where the window is too narrow to have it beside the conversation."""
    opener = page.get_by_role("button", name="Your chats")
    if opener.is_visible() and opener.get_attribute("aria-expanded") != "true":
        opener.click()


def limit(page: Page, tokens: int) -> None:
    """Let answers have so many tokens at most, and be always the same."""
    page.get_by_role("button", name="Parameters and system prompt").click()
    drawer = page.get_by_role("dialog", name="Parameters")
    drawer.get_by_label("Most tokens").fill(str(tokens))
    drawer.get_by_label("Temperature").fill("0")
    drawer.get_by_role("button", name="Use these").click()
    expect(drawer).to_be_hidden()


def wait_for_end(answer: Locator, state: str = "done") -> None:
    """Wait until an answer is over."""
    expect(answer).to_have_attribute("data-state", state, timeout=ANSWER_MS)


def wait_for_words(answer: Locator, characters: int = 20) -> None:
    """Wait until so much of an answer can be read."""
    words = re.compile(rf"[\s\S]{{{characters}}}")
    expect(answer.locator(".blocks")).to_contain_text(words, timeout=ANSWER_MS)


def source_of(article: Locator) -> str:
    """Return the text behind an article, as `Copy` takes it."""
    script = "node => node.querySelector('.turn-source').content.textContent"
    return str(article.evaluate(script))


def chat_id_of(page: Page) -> str:
    """Return which chat is open."""
    expect(page).to_have_url(_OPEN)
    return page.url.rpartition("/")[2]


def exported(page: Page) -> dict[str, Any]:
    """Return the open chat as the server has it."""
    expect(page).to_have_url(_OPEN)
    # A connection of its own: one that is kept may be closed by the site as it is asked.
    closes = {"connection": "close"}
    path = f"{page.url.partition('?')[0]}/export?format=json"
    answer = page.request.get(path, headers=closes)
    assert answer.ok
    found: dict[str, Any] = json.loads(answer.body())
    return found


def own_word() -> str:
    """Return a word that no other test uses."""
    return f"w{uuid4().hex[:8]}"

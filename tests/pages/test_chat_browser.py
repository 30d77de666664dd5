"""Asking and being answered on the chat page, in a real browser with a real model."""

import json
import time
from functools import partial

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.pages.chatting import (
    ANSWER_MS,
    LONG,
    LONG_QUESTION,
    ask,
    chat,
    exported,
    own_word,
    show_list,
    source_of,
    wait_for_end,
    wait_for_words,
    wait_until_ready,
)
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium

pytestmark = [pytest.mark.slow, pytest.mark.beside]

# A second on a quiet machine; where the test or the site waits for a turn longer, but never as long
# as the answer would have gone on.
STOP_S = 30.0


class Gate:
    """Stands between page and site, and lets what an answer says wait until it is opened."""

    def __init__(self) -> None:
        self._held: list[partial[None]] | None = []

    def accept(self, socket: WebSocketRoute) -> None:
        """Take a socket of the page."""
        socket.connect_to_server().on_message(partial(self._take, socket))

    def open(self) -> None:
        """Let everything through, first what has waited."""
        held, self._held = self._held or [], None
        for send in held:
            send()

    def _take(self, socket: WebSocketRoute, text: str | bytes) -> None:
        send = partial(socket.send, text)
        if self._held is not None and json.loads(text)["type"] in {"growth", "ended"}:
            self._held.append(send)
        else:
            send()


def test_an_answer_grows_and_ends_with_its_figures(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        answer = ask(page, "Say hello.")
        expect(page).to_have_url(f"{served.url}/chat/{exported(page)['id']}")
        wait_for_end(answer)
        expect(answer.locator(".figures")).to_contain_text("tokens/s")
        expect(answer.locator(".blocks")).not_to_be_empty()
        expect(page.get_by_role("heading", name="Say hello.")).to_be_visible()
        show_list(page)
        expect(page.locator(".side-chat", has_text="Say hello.").first).to_be_visible()
        expect(page.locator("#announcer")).to_contain_text("has answered")
        assert exported(page)["messages"][-1]["content"] == source_of(answer)


def test_shift_and_enter_makes_a_line_and_enter_sends(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        field = page.get_by_label("Message", exact=True)
        field.fill("One")
        field.press("Shift+Enter")
        field.type("two")
        answer = ask(page, field.input_value())
        expect(page.locator(".said")).to_have_text("One\ntwo")
        wait_for_end(answer)


def test_escape_stops_soon(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        answer = ask(page, LONG_QUESTION, LONG)
        wait_for_words(answer)
        began_s = time.monotonic()
        page.keyboard.press("Escape")
        wait_for_end(answer, "stopped")
        assert time.monotonic() - began_s < STOP_S
        expect(answer).to_contain_text("Stopped.")
        expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def test_reload_resumes_an_answer_without_loss(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        wait_for_words(ask(page, LONG_QUESTION, 150))
        page.reload()
        answer = page.locator(".turn-assistant")
        wait_for_words(answer, 100)
        wait_for_end(answer)
        rows = exported(page)["messages"]
        assert len(rows) == 2
        assert source_of(answer) == rows[-1]["content"]
        assert len(source_of(answer)) > 300


def test_a_lost_connection_comes_back_and_the_answer_with_it(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        answer = ask(page, LONG_QUESTION, 150)
        wait_for_words(answer)
        visit.expects("ERR_INTERNET_DISCONNECTED")  # of trying again, where that is soon enough
        page.get_by_label("Message", exact=True).fill("what I have typed")
        page.context.set_offline(True)
        expect(page.get_by_text("Connection lost, trying again")).to_be_visible()
        visit.check()
        page.context.set_offline(False)
        expect(page.get_by_text("Connection lost, trying again")).to_be_hidden()
        wait_for_end(answer)
        assert source_of(answer) == exported(page)["messages"][-1]["content"]
        expect(page.get_by_label("Message", exact=True)).to_have_value("what I have typed")


def test_two_tabs_follow_the_same_answer(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        first = ask(visit.page, LONG_QUESTION, LONG)
        wait_for_words(first)
        second_page = visit.page.context.new_page()
        second_page.goto(visit.page.url)
        second = second_page.locator(".turn-assistant")
        wait_for_words(second, 40)
        second_page.keyboard.press("Escape")
        wait_for_end(second, "stopped")
        wait_for_end(first, "stopped")
        assert source_of(first) == source_of(second)


def test_an_edited_question_is_a_version_beside_the_old_one(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        wait_for_end(ask(page, "First question"))
        page.locator(".turn-user").get_by_role("button", name="Edit").click()
        page.get_by_label("Your question").fill("Second question")
        visit.check()
        page.get_by_label("Your question").press("Enter")
        expect(page.locator(".said")).to_have_text("Second question")
        wait_for_end(page.locator(".turn-assistant"))
        asked = page.locator(".turn-user")
        expect(asked.get_by_role("group", name="Versions")).to_contain_text("2")
        asked.get_by_role("button", name="Version before").click()
        expect(page.locator(".said")).to_have_text("First question")
        expect(page.locator(".turn")).to_have_count(2)
        asked.get_by_role("button", name="Version after").click()
        expect(page.locator(".said")).to_have_text("Second question")
        page.reload()
        expect(page.locator(".said")).to_have_text("Second question")


def test_regenerating_makes_another_answer(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        wait_for_end(ask(page, "Say a word."))
        page.get_by_role("button", name="Regenerate").click()
        versions = page.locator(".turn-assistant").get_by_role("group", name="Versions")
        expect(versions).to_contain_text("2", timeout=ANSWER_MS)
        expect(page.locator(".turn")).to_have_count(2)
        wait_for_end(page.locator(".turn-assistant"))
        assert [row["role"] for row in exported(page)["messages"]].count("assistant") == 2


def test_nothing_moves_while_an_answer_grows(served: ServedSite, chromium: Chromium) -> None:
    for visit in chat(served, chromium):
        page = visit.page
        gate = Gate()
        page.route_web_socket("**/ws/chats", gate.accept)
        page.reload()
        wait_until_ready(page)
        answer = ask(page, "Write a list of ten animals, and a table of them.", 250)
        # The field to write in grows and shrinks by what is typed; that is over from here on.
        expect(page.get_by_label("Message", exact=True)).to_have_value("")
        state = page.evaluate(
            """async () => {
                const drawn = () => new Promise(requestAnimationFrame);
                await drawn();
                await drawn();
                window.shifts = 0;
                new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
                    window.shifts += entry.value;
                })).observe({ type: "layout-shift" });
                return document.querySelector(".turn-assistant").dataset.state;
            }"""
        )
        assert state == "running"
        gate.open()
        wait_for_end(answer)
        assert page.evaluate("window.shifts") < 0.001


def test_hostile_text_stays_text(served: ServedSite, chromium: Chromium) -> None:
    hostile = f'<img src=x onerror="document.title=1"><script>alert(1)</script> {own_word()}'
    for visit in chat(served, chromium):
        page = visit.page
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        wait_for_end(ask(page, hostile))
        page.reload()
        expect(page.locator(".said")).to_have_text(hostile)
        expect(page.locator("#title")).to_contain_text("<img src=x")
        assert page.locator("#log img, #log script, #side script, #side img").count() == 0
        foreign = [at for at in visit.addresses if not at.startswith(served.url)]
        assert [at for at in foreign if not at.startswith("ws")] == []

"""The chat page where something comes late, is lost, or comes in another order."""

from typing import Any, Final

import pytest
from django.template.loader import render_to_string
from playwright.sync_api import FilePayload, Page, expect

from tests.pages.chat_server import ANSWER, Server, ask, shown, started, talk, talk_without_line
from tests.pages.chatting import show_list, wait_until_ready
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, hold, press, wait_for_held

pytestmark = [pytest.mark.slow, pytest.mark.beside]

CHAT: Final = "d" * 32
LATER: Final = "c" * 32
MESSAGES: Final = f"**/chat/{CHAT}/messages"
# What a browser says of a page that it has kept; the page then asks what has become of the chat.
COME_BACK: Final = "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"


def said(page: Page, kind: str) -> list[dict[str, Any]]:
    """Return what the page has said of a kind on its newest line."""
    return [frame for frame in page.evaluate("line.said") if frame["type"] == kind]


def turns(*states: str) -> str:
    """Return the articles of questions and their answers, of these states."""
    articles = []
    for number, state in enumerate(states):
        message = (ANSWER, LATER)[number]
        articles.append(shown(id=f"{number}" * 32, role="user", text=f"Question {number}"))
        articles.append(shown(id=message, state=state))
    return "".join(articles)


def answer_first(page: Page, server: Server) -> None:
    """Have the first question answered, in a chat that is kept."""
    server.start(page, chat=CHAT)
    server.end()
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()


def test_stop_that_no_line_takes_is_told_when_there_is_one(
    served: ServedSite, chromium: Chromium
) -> None:
    for page in talk_without_line(served, chromium):
        page.evaluate("line.open()")
        page.evaluate("frame => line.tell(frame)", started(said(page, "ask")[0]))
        expect(page.locator(".turn-assistant")).to_be_visible()

        page.evaluate("line.lose()")
        page.keyboard.press("Escape")
        page.evaluate("line.open()")
        assert [frame["message"] for frame in said(page, "stop")] == [ANSWER]


def test_what_is_typed_stays_where_it_is_not_known_whether_something_else_was_asked(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        page, field = visit.page, visit.page.get_by_label("Message", exact=True)
        answer_first(page, server)
        page.route(MESSAGES, lambda route: route.fulfill(body=turns("running")))
        field.fill("My next thought")
        page.get_by_role("button", name="Regenerate").click()
        server.next(page, "regenerate")
        server.sockets[-1].close(code=1011)
        expect(page.locator('.turn-assistant[data-state="running"]')).to_be_visible()
        expect(field).to_have_value("My next thought")


def test_changed_question_that_is_refused_can_be_changed_on(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        page, field = visit.page, visit.page.get_by_label("Your question")
        answer_first(page, server)
        page.locator(".turn-user").get_by_role("button", name="Edit").click()
        field.fill("What else?")
        field.press("Enter")
        asked = server.next(page, "ask")
        server.tell("error", id=asked["id"], error="The day's tokens are used.", error_id=None)
        expect(page.get_by_role("alert")).to_have_text("The day's tokens are used.")
        expect(field).to_have_value("What else?")


def test_conversation_stays_where_it_was_shown_anew_before_a_question_is_taken(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        answer_first(page, server)
        held = hold(page, MESSAGES)
        ask(page)
        asked = server.next(page, "ask")
        page.locator(".turn-user").evaluate("turn => { turn.dataset.old = '' }")
        page.evaluate(COME_BACK)
        wait_for_held(page, held).fulfill(body=turns("done"))
        expect(page.locator("[data-old]")).to_have_count(0)
        server.send(started(asked, LATER, chat=CHAT))
        wait_for_held(page, held, 2).fulfill(body=turns("done", "running"))
        expect(page.locator(".turn")).to_have_count(4)
        server.end(message=LATER)
        expect(page.locator(f"#m-{LATER}")).to_have_attribute("data-state", "done")


def test_question_that_is_taken_while_the_chat_is_asked_for_is_not_taken_away_again(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        answer_first(page, server)
        held = hold(page, MESSAGES)
        ask(page)
        asked = server.next(page, "ask")
        page.evaluate(COME_BACK)
        before = wait_for_held(page, held)
        server.send(started(asked, LATER, chat=CHAT))
        expect(page.locator(".turn")).to_have_count(4)
        before.fulfill(body=turns("done"))
        wait_for_held(page, held, 2).fulfill(body=turns("done", "running"))
        expect(page.get_by_text("Question 1")).to_be_visible()
        server.end(message=LATER)
        expect(page.locator(f"#m-{LATER}")).to_have_attribute("data-state", "done")
        expect(page.locator(".turn")).to_have_count(4)


def test_list_of_chats_is_not_replaced_under_a_press(
    served: ServedSite, chromium: Chromium
) -> None:
    chats = [{"id": CHAT, "title": "A talk", "folder_id": ""}]
    fields = {"groups": [{"label": "", "chats": chats}], "is_first": True}
    html = render_to_string("inference/chat/list.html", fields)
    for visit in served.visit(chromium, "bob", path="/chat"):
        page = visit.page
        wait_until_ready(page)
        show_list(page)
        held = hold(page, "**/chat/list?*")
        search = page.get_by_label("Search your chats")
        search.dispatch_event("input")
        wait_for_held(page, held).fulfill(body=html)
        change = page.get_by_role("button", name="Change A talk")
        expect(change).to_be_visible()

        search.dispatch_event("input")
        asked = wait_for_held(page, held, 2)
        press(page, change)
        with page.expect_event("requestfinished"):
            asked.fulfill(body=html)
        page.wait_for_timeout(200)  # for a page that does not wait
        page.mouse.up()
        expect(page.get_by_role("dialog", name="This chat")).to_be_visible()

        # Whoever has the keyboard there keeps it.
        page.keyboard.press("Escape")
        change.focus()
        change.evaluate("button => { button.dataset.old = '' }")
        search.dispatch_event("input")
        wait_for_held(page, held, 3).fulfill(body=html)
        expect(page.locator("[data-old]")).to_have_count(0)
        expect(change).to_be_focused()


def test_page_whose_script_comes_late_sends_nothing_and_takes_nobodys_place(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in served.visit(chromium, "bob"):
        page = visit.page
        held = hold(page, "**/chat/main.js")
        page.goto(f"{served.url}/chat", wait_until="commit")
        send = page.get_by_role("button", name="Send", exact=True)
        expect(send).to_be_disabled()
        settings = page.get_by_role("button", name="Parameters and system prompt")
        settings.focus()
        wait_for_held(page, held).continue_()
        wait_until_ready(page)
        expect(send).to_be_enabled()
        expect(settings).to_be_focused()


def test_images_go_with_the_question_before_they_are_drawn(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit in served.visit(chromium, "bob"):
        page = visit.page
        page.add_init_script("window.createImageBitmap = () => new Promise(() => {})")
        page.goto(f"{served.url}/chat")
        wait_until_ready(page)
        names = ("one.png", "two.png")
        files = [FilePayload(name=name, mimeType="image/png", buffer=b"-") for name in names]
        page.locator("#files").set_input_files(files)
        expect(page.get_by_role("button", name="Remove")).to_have_count(2)

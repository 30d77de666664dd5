"""What the chat page makes of what the server tells it: the test speaks for the server's socket."""

from typing import Final

import pytest
from django.template.loader import render_to_string
from playwright.sync_api import Page, expect

from inference.chats.figures import Figures
from inference.chats.shown import CallShown, as_safe
from tests.pages.chat_server import ANSWER, ask, shown, talk, talk_without_line
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium

pytestmark = [pytest.mark.slow, pytest.mark.beside]

# Where it is once it scrolls no longer: a wheel's way may take some pictures.
COME_TO_REST: Final = """async (node) => {
    let [top, still] = [node.scrollTop, 0];
    while (still < 10) {
        await new Promise(requestAnimationFrame);
        still = node.scrollTop === top ? still + 1 : 0;
        top = node.scrollTop;
    }
    return top;
}"""
CALL: Final = CallShown(name="get_weather", arguments='{\n  "city": "Turin"\n}')


def test_waiting_is_told_as_a_place_in_the_queue(served: ServedSite, chromium: Chromium) -> None:
    for visit, server in talk(served, chromium):
        server.start(visit.page)
        server.tell("waiting", message=ANSWER, position=3, reason="loading")
        expect(visit.page.get_by_text("Number 3 in the queue")).to_be_visible()
        visit.check()
        server.grow(1, blocks=["<p>Hello</p>"])
        expect(visit.page.get_by_text("Number 3 in the queue")).to_be_hidden()
        expect(visit.page.locator(".turn-live")).to_have_text("12.3 tokens/s, 1 tokens")


@pytest.mark.parametrize("model", ["smollm2:135m", "a-model-whose-name/is-wider-than-a-phone:q4"])
def test_first_words_stand_where_the_waiting_stood(
    served: ServedSite, chromium: Chromium, model: str
) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page

        def top(selector: str, page: Page = page) -> float:
            box = page.locator(selector).bounding_box()
            assert box is not None
            return box["y"]

        server.start(page, model_name=model)
        expect(page.locator(".turn-assistant")).to_be_visible()
        tops = [top(".blocks")]
        server.tell("waiting", message=ANSWER, position=1, reason="parallel_limit")
        expect(page.locator(".turn-waiting")).to_have_text("Number 1 in the queue: parallel limit")
        expect(page.locator(".blocks")).to_be_hidden()
        tops.append(top(".turn-waiting"))
        server.grow(1000, blocks=["<p>Hello</p>"])
        expect(page.locator(".turn-live")).to_have_text("12.3 tokens/s, 1000 tokens")
        tops.append(top(".blocks"))
        visit.check()
        server.end(model_name=model, html_blocks=as_safe(["<p>Hello</p>"]), text="Hello")
        expect(page.locator(".turn-live")).to_be_empty()
        tops.append(top(".blocks"))
        assert max(tops) - min(tops) < 1, tops


def test_only_blocks_that_changed_are_replaced(served: ServedSite, chromium: Chromium) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        server.start(page)
        server.grow(1, blocks=["<p>One</p>", "<p>Tw</p>"])
        expect(page.locator(".block")).to_have_count(2)
        page.evaluate("window.first = document.querySelector('.block').firstChild")
        server.grow(2, at=1, blocks=["<p>Two</p>", "<p>Three</p>"])
        expect(page.locator(".block")).to_have_text(["One", "Two", "Three"])
        blocks = as_safe(["<p>One</p>", "<p>Two</p>", "<p>Three</p>"])
        server.end(html_blocks=blocks, text="One\n\nTwo\n\nThree", figures=Figures(tokens_out=3))
        expect(page.locator(".figures")).to_contain_text("3 tokens")
        assert page.evaluate("window.first === document.querySelector('.block').firstChild")


def test_a_gap_makes_the_page_follow_from_the_beginning(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        server.start(visit.page)
        server.grow(7, at=5, blocks=["<p>Late</p>"])
        assert server.next(visit.page, "follow")["message"] == ANSWER
        expect(visit.page.locator(".block")).to_have_count(0)


def test_thinking_stays_as_the_reader_wants_it(served: ServedSite, chromium: Chromium) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        server.start(page)
        server.grow(1, thinking=["<p>Hm.</p>"])
        fold = page.locator(".thinking")
        expect(fold.get_by_text("Thinking…")).to_be_visible()
        expect(page.get_by_text("Hm.")).to_be_hidden()
        fold.locator("summary").click()
        expect(page.get_by_text("Hm.")).to_be_visible()
        server.grow(2, thinking=["<p>Hm. Well.</p>"], blocks=["<p>Yes</p>"])
        expect(page.get_by_text("Hm. Well.")).to_be_visible()
        visit.check()
        expect(fold.get_by_text("Thoughts")).to_be_visible()
        server.end(thinking_html=as_safe(["<p>Hm. Well.</p>"]), html_blocks=as_safe(["<p>Yes</p>"]))
        expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
        expect(page.get_by_text("Hm. Well.")).to_be_visible()
        ask(page)
        server.start(page, "c" * 32)
        server.grow(1, message="c" * 32, thinking=["<p>Again.</p>"])
        expect(page.get_by_text("Again.")).to_be_visible()


def test_a_call_is_answered_with_what_one_writes(served: ServedSite, chromium: Chromium) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        server.start(page)
        html = render_to_string("inference/chat/call.html", {"call": CALL})
        server.grow(1, calls=[html])
        expect(page.get_by_text('"city": "Turin"')).to_be_visible()
        expect(page.get_by_label("Result of get_weather")).to_be_hidden()
        server.end(calls=[CALL], is_waiting_for_results=True)
        send = page.get_by_role("button", name="Send results")
        send.click()
        assert server.heard == []
        page.get_by_label("Result of get_weather").fill("<b>sunny</b>")
        visit.check()
        send.click()
        told = server.next(page, "result")
        assert told["message"] == ANSWER
        assert told["results"] == [{"name": "get_weather", "content": "<b>sunny</b>"}]
        article = shown(id="c" * 32, state="running")
        fields = {"chat": None, "title": "", "question": None, "message": "c" * 32}
        server.tell("started", id=told["id"], html=article, parent=ANSWER, **fields)
        expect(page.locator(".turn-assistant")).to_have_count(2)
        expect(page.locator(".call pre").last).to_have_text("<b>sunny</b>")
        expect(send).to_be_hidden()


def test_what_is_sent_before_the_line_is_there_is_sent_with_it(
    served: ServedSite, chromium: Chromium
) -> None:
    for page in talk_without_line(served, chromium):
        assert page.evaluate("line.said") == []
        page.evaluate("line.open()")
        assert [(frame["type"], frame["text"]) for frame in page.evaluate("line.said")] == [
            ("ask", "And then?")
        ]


def test_a_refusal_is_told_with_its_id_and_keeps_what_was_typed(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        asked = server.next(page, "ask")
        server.tell("error", id=asked["id"], error="The day's tokens are used.", error_id="req_1")
        expect(page.get_by_role("alert")).to_have_text("The day's tokens are used. (id req_1)")
        expect(page.get_by_label("Message", exact=True)).to_have_value("And then?")
        expect(page.locator(".turn")).to_have_count(0)


def test_a_question_that_may_not_have_arrived_is_kept(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        server.next(page, "ask")
        server.sockets[-1].close(code=1011)
        expect(page.get_by_text("The connection was lost as you sent this")).to_be_visible()
        expect(page.get_by_label("Message", exact=True)).to_have_value("And then?")
        assert len(server.sockets) == 2


def test_a_lost_line_is_followed_from_what_the_page_has(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        server.start(page)
        server.grow(4, blocks=["<p>One</p>"])
        expect(page.locator(".block")).to_have_count(1)
        server.sockets[-1].close(code=1011)
        followed = server.next(page, "follow")
        assert (followed["message"], followed["version"]) == (ANSWER, 4)


def test_an_ended_session_is_said(served: ServedSite, chromium: Chromium) -> None:
    for visit, server in talk(served, chromium):
        server.next(visit.page, "ask")
        server.sockets[-1].close(code=4401)
        expect(visit.page.get_by_text("Your session has ended")).to_be_visible()
        visit.page.wait_for_timeout(800)
        assert len(server.sockets) == 1


def test_the_reader_who_scrolls_up_is_left_there(served: ServedSite, chromium: Chromium) -> None:
    for visit, server in talk(served, chromium):
        page = visit.page
        lines = [f"<p>Line {number}</p>" for number in range(80)]
        server.start(page)
        server.grow(1, blocks=lines)
        expect(page.get_by_text("Line 79")).to_be_in_viewport()
        page.locator("#scroll").hover()
        page.mouse.wheel(0, -1500)
        to_end = page.get_by_role("button", name="To the end of the conversation")
        expect(to_end).to_be_visible()
        top = page.locator("#scroll").evaluate(COME_TO_REST)
        server.grow(2, at=80, blocks=["<p>Line 80</p>"])
        expect(page.get_by_text("Line 80")).to_be_attached()
        expect(page.get_by_text("Line 80")).not_to_be_in_viewport()
        assert page.locator("#scroll").evaluate("node => node.scrollTop") == top
        to_end.click()
        expect(page.get_by_text("Line 80")).to_be_in_viewport()


def test_what_is_typed_while_a_question_is_on_its_way_stays(
    served: ServedSite, chromium: Chromium
) -> None:
    for visit, server in talk(served, chromium):
        field = visit.page.get_by_label("Message", exact=True)
        field.press_sequentially(" Next one")
        server.start(visit.page)
        expect(visit.page.locator(".said")).to_have_text("And then?")

        expect(field).to_have_value("Next one")
        drafts = visit.page.evaluate("Object.entries(sessionStorage)")
        assert ["chat.draft.bob.new", "Next one"] in drafts

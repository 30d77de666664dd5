"""What the chat page makes of what the server tells it: the test speaks for the server's socket."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from django.template.loader import render_to_string
from playwright.sync_api import Page, WebSocketRoute, expect

from inference.chats.figures import Figures
from inference.chats.shown import CallShown, MessageShown, as_safe
from tests.pages.chatting import wait_until_ready
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, Visit

pytestmark = [pytest.mark.slow, pytest.mark.beside]

QUESTION: Final = "a" * 32
ANSWER: Final = "b" * 32
CALL: Final = CallShown(name="get_weather", arguments='{\n  "city": "Turin"\n}')


# A line that is there when the test says so.
LATE_LINE: Final = """
window.WebSocket = class extends EventTarget {
    static OPEN = 1;
    readyState = 0;
    said = [];
    constructor() { super(); window.line = this; }
    send(text) { this.said.push(JSON.parse(text)); }
    open() { this.readyState = 1; this.dispatchEvent(new Event("open")); }
};
"""


class Server:
    """The other end of the page's sockets."""

    def __init__(self) -> None:
        self.sockets: list[WebSocketRoute] = []
        self.heard: list[dict[str, Any]] = []

    def accept(self, socket: WebSocketRoute) -> None:
        """Take a socket of the page."""
        self.sockets.append(socket)
        socket.on_message(lambda text: self.heard.append(json.loads(text)))

    def tell(self, kind: str, **fields: Any) -> None:
        """Say something on the newest one."""
        self.sockets[-1].send(json.dumps({"type": kind, **fields}))

    def next(self, page: Page, kind: str) -> dict[str, Any]:
        """Wait for the page to say something of a kind."""
        for _ in range(600):
            found = [frame for frame in self.heard if frame["type"] == kind]
            if found:
                self.heard.clear()
                return found[0]
            page.wait_for_timeout(50)
        raise AssertionError(self.heard)

    def start(self, page: Page, message: str = ANSWER, **fields: Any) -> None:
        """Begin to answer the question that the page asks now."""
        asked = self.next(page, "ask")
        articles = [
            shown(id=QUESTION + message, role="user", text=asked["text"]),
            shown(id=message, state="running", **fields),
        ]
        html = "".join(articles)
        fields = {"chat": None, "title": "", "question": QUESTION, "message": message}
        self.tell("started", id=asked["id"], html=html, parent=None, **fields)

    def grow(self, version: int, *, at: int = 0, message: str = ANSWER, **fields: Any) -> None:
        """Tell of more of an answer, whose blocks from `at` on are new."""
        empty = {"from": at, "blocks": [], "thinking_from": 0, "thinking": [], "calls": None}
        figures = {"tokens_out": version, "tokens_per_s": 12.345}
        told = empty | {"message": message, "version": version, "figures": figures} | fields
        self.tell("growth", **told)

    def end(self, *, message: str = ANSWER, **fields: Any) -> None:
        """Tell that an answer is over."""
        html = shown(id=message, **fields)
        told = {"message": message, "version": 99, "state": "done", "title": "", "error": None}
        self.tell("ended", **told, html=html)


def shown(**fields: Any) -> str:
    """Return an article as the server makes it."""
    known: dict[str, Any] = {
        "role": "assistant",
        "model_name": "smollm2:135m",
        "created_at": datetime.now(UTC),
    }
    message = MessageShown(**(known | fields))
    return str(render_to_string("inference/chat/message.html", {"message": message}))


def talk(served: ServedSite, chromium: Chromium) -> Iterator[tuple[Visit, Server]]:
    """Open the page with the test at the other end of its socket, and ask something."""
    for visit in served.visit(chromium, "bob"):
        server = Server()
        visit.page.route_web_socket("**/ws/chats", server.accept)
        visit.page.goto(f"{served.url}/chat")
        wait_until_ready(visit.page)
        ask(visit.page)
        yield visit, server


def ask(page: Page) -> None:
    """Ask something."""
    field = page.get_by_label("Message", exact=True)
    field.fill("And then?")
    field.press("Enter")


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
    for visit in served.visit(chromium, "bob"):
        page = visit.page
        page.add_init_script(LATE_LINE)
        page.goto(f"{served.url}/chat")
        wait_until_ready(page)
        ask(page)
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
        top = page.locator("#scroll").evaluate("node => node.scrollTop")
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

"""The other end of a chat page's line, for tests that speak for the server. Knows no chat of it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from django.template.loader import render_to_string
from playwright.sync_api import Page, WebSocketRoute

from inference.chats.shown import MessageShown
from tests.pages.chatting import wait_until_ready
from tests.pages.served_site import ServedSite
from tests.pages.visits import Chromium, Visit

QUESTION: Final = "a" * 32
ANSWER: Final = "b" * 32
# A line that is there, tells and is lost when the test says so.
LATE_LINE: Final = """
window.WebSocket = class extends EventTarget {
    static OPEN = 1;
    readyState = 0;
    said = [];
    constructor() { super(); window.line = this; }
    send(text) { this.said.push(JSON.parse(text)); }
    open() { this.readyState = 1; this.dispatchEvent(new Event("open")); }
    tell(frame) {
        this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(frame) }));
    }
    lose() { this.readyState = 3; this.dispatchEvent(new CloseEvent("close", { code: 1011 })); }
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
        self.send({"type": kind, **fields})

    def send(self, frame: dict[str, Any]) -> None:
        """Send a frame on the newest one."""
        self.sockets[-1].send(json.dumps(frame))

    def next(self, page: Page, kind: str) -> dict[str, Any]:
        """Wait for the page to say something of a kind."""
        for _ in range(600):
            found = [frame for frame in self.heard if frame["type"] == kind]
            if found:
                self.heard.clear()
                return found[0]
            page.wait_for_timeout(50)
        raise AssertionError(self.heard)

    def start(
        self, page: Page, message: str = ANSWER, *, chat: str | None = None, **fields: Any
    ) -> None:
        """Begin to answer the question that the page asks now."""
        asked = self.next(page, "ask")
        self.send(started(asked, message, chat=chat, **fields))

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


def started(
    asked: dict[str, Any], message: str = ANSWER, *, chat: str | None = None, **fields: Any
) -> dict[str, Any]:
    """Return what tells that a question is being answered."""
    html = shown(id=QUESTION + message, role="user", text=asked["text"])
    html += shown(id=message, state="running", **fields)
    told = {"id": asked["id"], "chat": chat, "title": "", "question": QUESTION, "message": message}
    return {"type": "started", "html": html, "parent": None, **told}


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


def talk_without_line(served: ServedSite, chromium: Chromium) -> Iterator[Page]:
    """Open the page with a `LATE_LINE`, and ask something."""
    for visit in served.visit(chromium, "bob"):
        visit.page.add_init_script(LATE_LINE)
        visit.page.goto(f"{served.url}/chat")
        wait_until_ready(visit.page)
        ask(visit.page)
        yield visit.page


def ask(page: Page) -> None:
    """Ask something."""
    field = page.get_by_label("Message", exact=True)
    field.fill("And then?")
    field.press("Enter")

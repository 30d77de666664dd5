"""Sixteen users at once: streams, short chats, embeddings and the chat page, one after the other.

Each request has a seed of its own, by which its row of the ledger is found. What a user has heard
is noted request by request. Knows nothing of faults.
"""

import contextlib
import http.client
import itertools
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.faults.patience import REQUEST_S
from tests.processes.running_site import wait_for

MODEL: Final = "tiny"
KINDS: Final = ("stream", "chat", "embed", "page")
_EACH: Final = {"stream": 7, "chat": 5, "embed": 2, "page": 2}
# Whoever is refused or cut off comes back after a moment, as people's programs do.
_PAUSE_S: Final = 0.3
_seeds = itertools.count(1)
_BROKEN: Final = (OSError, http.client.HTTPException, WebSocketException, EOFError, ValueError)


@dataclass
class Heard:
    """What a user has heard of one request. `end`: how it ended for them.

    done: the whole answer; failed: an error after the answer had begun; refused: an error status;
    cut: the connection broke.
    """

    kind: str
    seed: int
    began_at: float = field(default_factory=time.monotonic)
    ended_at: float = 0.0
    end: str = "cut"
    detail: str = ""
    pieces: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None

    @property
    def took_s(self) -> float:
        return self.ended_at - self.began_at


class Users:
    """They ask until they are told to stop."""

    def __init__(self, port: int, key: str, session: str) -> None:
        self.port = port
        self.heard: list[Heard] = []
        self._key = key
        self._session = session
        self._is_over = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Have all of them ask meanwhile; at the end, wait for their last answers."""
        asks = {"stream": self._stream, "chat": self._chat, "embed": self._embed}
        for kind, count in _EACH.items():
            for _ in range(count):
                target = self._ask_on_the_page if kind == "page" else asks[kind]
                thread = threading.Thread(target=self._keep_asking, args=(kind, target))
                self._threads.append(thread)
                thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            until = time.monotonic() + 2 * REQUEST_S
            for thread in self._threads:
                thread.join(max(0.1, until - time.monotonic()))
        assert not any(thread.is_alive() for thread in self._threads), "a request hangs"

    def wait_for_answers(self, *, of_each: int = 1, timeout_s: float = REQUEST_S) -> float:
        """Wait until each kind of request that begins from now on succeeds; return how long."""
        since = time.monotonic()

        def are_there() -> bool:
            done = Counter(
                one.kind for one in list(self.heard) if one.end == "done" and one.began_at >= since
            )
            return all(done[kind] >= of_each for kind in KINDS)

        try:
            wait_for(are_there, timeout_s)
        except AssertionError as error:
            raise AssertionError(self.summary(since)) from error
        return time.monotonic() - since

    def summary(self, since: float = 0.0) -> str:
        """Return how many requests ended how."""
        ends = Counter(
            (one.kind, one.end, one.detail[:90])
            for one in list(self.heard)
            if one.began_at >= since
        )
        return "\n".join(f"{count:5} {' '.join(what)}" for what, count in sorted(ends.items()))

    # ------------------------------------------------------------ one request

    def _keep_asking(self, kind: str, ask: Callable[[Heard], None]) -> None:
        while not self._is_over.is_set():
            heard = Heard(kind, next(_seeds))
            try:
                ask(heard)
            except _BROKEN as error:
                heard.detail = heard.detail or repr(error)
            heard.ended_at = time.monotonic()
            self.heard.append(heard)
            if heard.end != "done":
                self._is_over.wait(_PAUSE_S)

    @contextlib.contextmanager
    def _post(self, path: str, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_S)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", path, json.dumps(body), headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def _stream(self, heard: Heard) -> None:
        options = {"num_predict": 40, "seed": heard.seed, "stop": []}
        body = {"model": MODEL, "prompt": "hello the world", "raw": True, "options": options}
        with self._post("/api/generate", body) as answer:
            if answer.status != http.HTTPStatus.OK:
                _refuse(heard, answer)
                return
            for line in answer:
                told = json.loads(line)
                if "error" in told:
                    heard.end, heard.detail = "failed", told["error"]
                elif told["done"]:
                    _finish(heard, told)
                else:
                    heard.pieces += 1

    def _chat(self, heard: Heard) -> None:
        options = {"num_predict": 8, "seed": heard.seed}
        messages = [{"role": "user", "content": "why is the sky blue?"}]
        body = {"model": MODEL, "messages": messages, "stream": False, "options": options}
        with self._post("/api/chat", body) as answer:
            if answer.status != http.HTTPStatus.OK:
                _refuse(heard, answer)
                return
            _finish(heard, json.loads(answer.read()))

    def _embed(self, heard: Heard) -> None:
        with self._post("/api/embed", {"model": MODEL, "input": "hello world"}) as answer:
            if answer.status != http.HTTPStatus.OK:
                _refuse(heard, answer)
                return
            told = json.loads(answer.read())
            heard.end, heard.tokens_in = "done", told["prompt_eval_count"]

    def _ask_on_the_page(self, heard: Heard) -> None:
        host = f"127.0.0.1:{self.port}"
        headers = {"Cookie": f"ollamasite_session={self._session}", "Origin": f"http://{host}"}
        url = f"ws://{host}/ws/chats"
        opened = connect(url, additional_headers=headers, origin=None, open_timeout=REQUEST_S)
        with opened as page:
            options = {"num_predict": 20, "seed": heard.seed}
            asked = {"type": "ask", "id": "q", "model": MODEL, "text": "why?", "options": options}
            page.send(json.dumps(asked))
            while True:
                frame = json.loads(page.recv(timeout=REQUEST_S))
                if frame["type"] == "error":
                    heard.end, heard.detail = "refused", str(frame)
                    return
                if frame["type"] == "ended":
                    heard.end = "done" if frame["state"] == "done" else "failed"
                    heard.detail = str(frame.get("error") or "")
                    return


def _refuse(heard: Heard, answer: http.client.HTTPResponse) -> None:
    heard.end, heard.detail = "refused", f"{answer.status} {answer.read()[:150]!r}"


def _finish(heard: Heard, told: dict[str, Any]) -> None:
    heard.end = "done"
    heard.tokens_in, heard.tokens_out = told["prompt_eval_count"], told["eval_count"]


def answers(port: int, path: str) -> bool:
    """Whether a path is answered with 200 right now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException, socket.gaierror):
        return False
    finally:
        connection.close()

"""One streamed chat over HTTP, with the moment at which every piece of its text arrived.

Speaks `/v1/chat/completions`, so the same code measures any server. Knows no server by name.
Times are `time.monotonic_ns`, which all processes of a machine share.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httptools
import msgspec

TIMEOUT_S: Final = 300.0
_EVENT_END: Final = b"\n\n"
_DATA: Final = b"data: "
_OK: Final = 200
_KEPT_BODY_BYTES: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a question goes. `extra` are fields of the body that only this server knows."""

    port: int
    model: str
    key: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, greedily, for at most `max_tokens` tokens."""

    messages: Sequence[Mapping[str, str]]
    max_tokens: int


@dataclass(slots=True)
class Answer:
    """What came back. `failure` is empty where the stream came to its good end."""

    sent_ns: int = field(default_factory=time.monotonic_ns)
    pieces: list[str] = field(default_factory=list)
    arrivals_ns: list[int] = field(default_factory=list)  # of the pieces
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failure: str = ""
    is_complete: bool = False  # no more will come

    @property
    def first_s(self) -> float:
        """Time to the first piece. Raises IndexError where none came."""
        return (self.arrivals_ns[0] - self.sent_ns) / 1e9

    @property
    def gaps_s(self) -> list[float]:
        """Times between neighbouring pieces."""
        moments = self.arrivals_ns
        return [(b - a) / 1e9 for a, b in itertools.pairwise(moments)]


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decoder: Final = msgspec.json.Decoder(_Chunk)


async def ask(
    target: Target, question: Question, answer: Answer, *, pieces_wanted: int | None = None
) -> None:
    """Ask and fill in the answer as it comes; hang up after `pieces_wanted` pieces.

    Failures of any kind end up in `Answer.failure`.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            transport, reading = await loop.create_connection(
                lambda: _Reading(answer, pieces_wanted), "127.0.0.1", target.port
            )
            try:
                transport.write(request_bytes(target, question))
                await reading.ended
            finally:
                transport.abort()
    except (OSError, TimeoutError) as error:
        answer.failure = f"{type(error).__name__} {error}"
    answer.is_complete = True


def request_bytes(target: Target, question: Question, *, streams: bool = True) -> bytes:
    """Return the HTTP request for a question."""
    body = json.dumps(
        {
            "model": target.model,
            "messages": list(question.messages),
            "max_tokens": question.max_tokens,
            "temperature": 0,
            "stream": streams,
            **({"stream_options": {"include_usage": True}} if streams else {}),
            **target.extra,
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{target.port}\r\n"
        f"Authorization: Bearer {target.key or 'none'}\r\n"
        "Content-Type: application/json\r\n"
        "Connection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Reading(asyncio.Protocol):
    """Reads one response; also the callbacks of httptools' parser."""

    def __init__(self, answer: Answer, pieces_wanted: int | None) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._pieces_wanted = pieces_wanted
        self._parser = httptools.HttpResponseParser(self)
        self._pending = b""
        self._is_complete = False

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("" if self._is_complete else f"the stream was cut ({exc})")

    def on_body(self, body: bytes) -> None:
        now_ns = time.monotonic_ns()
        self._pending += body
        if self._parser.get_status_code() != _OK:
            return
        *events, self._pending = self._pending.split(_EVENT_END)
        for event in events:
            self._receive(event, now_ns)

    def on_message_complete(self) -> None:
        self._is_complete = True
        status = self._parser.get_status_code()
        if status != _OK:
            self._end(f"{status} {self._pending[:_KEPT_BODY_BYTES].decode('utf-8', 'replace')}")
        else:
            self._end("")

    def _receive(self, event: bytes, now_ns: int) -> None:
        if not event.startswith(_DATA) or event == b"data: [DONE]":
            return
        chunk = _decoder.decode(event[len(_DATA) :])
        if chunk.error is not None:
            self._end(f"error in the stream: {chunk.error}")
        if chunk.usage is not None:
            self._answer.prompt_tokens = chunk.usage.prompt_tokens
            self._answer.completion_tokens = chunk.usage.completion_tokens
        for choice in chunk.choices:
            if choice.delta.content:
                self._answer.pieces.append(choice.delta.content)
                self._answer.arrivals_ns.append(now_ns)
        if len(self._answer.pieces) == self._pieces_wanted:
            self._end("")

    def _end(self, failure: str) -> None:
        if not self.ended.done():
            self._answer.failure = failure
            self.ended.set_result(None)

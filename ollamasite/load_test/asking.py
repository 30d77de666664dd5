"""One streamed chat over HTTP, with the moment at which every piece of its text arrived.

Speaks `/v1/chat/completions` (server-sent events) or `/api/chat` (NDJSON). Times are seconds of
`time.monotonic`. Knows no load.
"""

import enum
import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import httpx2
import msgspec

_OK: Final = 200


class Api(enum.StrEnum):
    """Whose API is spoken."""

    OPENAI = "openai"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and who asks."""

    model: str
    text: str
    max_tokens: int
    key: str = field(repr=False)


@dataclass(slots=True)
class Answer:
    """What came back. `failure` is empty where the answer came to its good end."""

    sent_s: float
    arrivals_s: list[float] = field(default_factory=list)  # of the pieces of text
    ended_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    queue_s: float | None = None  # as the site tells it
    failure: str = ""

    @property
    def first_s(self) -> float | None:
        """Time to the first piece; None where none came."""
        return self.arrivals_s[0] - self.sent_s if self.arrivals_s else None

    @property
    def gaps_s(self) -> list[float]:
        """Times between neighbouring pieces."""
        return [after - before for before, after in itertools.pairwise(self.arrivals_s)]


class _Text(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None

    @property
    def has_text(self) -> bool:
        return bool(self.content or self.reasoning or self.thinking)


class _Choice(msgspec.Struct):
    delta: _Text = msgspec.field(default_factory=_Text)
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _OpenAiChunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class _OllamaChunk(msgspec.Struct):
    message: _Text = msgspec.field(default_factory=_Text)
    done: bool = False
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: Any = None


class _ErrorBody(msgspec.Struct):
    error: Any = None


_decode_openai: Final = msgspec.json.Decoder(_OpenAiChunk).decode
_decode_ollama: Final = msgspec.json.Decoder(_OllamaChunk).decode
_decode_error: Final = msgspec.json.Decoder(_ErrorBody).decode


async def ask(client: httpx2.AsyncClient, api: Api, question: Question) -> Answer:
    """Ask and return what came. Failures of any kind end up in `Answer.failure`."""
    answer = Answer(sent_s=time.monotonic())
    try:
        await _ask(client, api, question, answer)
    except httpx2.TimeoutException:
        answer.failure = "timed out"
    except httpx2.ConnectError:
        answer.failure = "cannot connect"
    except httpx2.TransportError:
        answer.failure = "the connection was cut"
    except msgspec.MsgspecError:
        answer.failure = "not the answer of such an API"
    answer.ended_s = time.monotonic()
    return answer


async def _ask(client: httpx2.AsyncClient, api: Api, question: Question, answer: Answer) -> None:
    path, body = _request(api, question)
    headers = {"Authorization": f"Bearer {question.key}"}
    async with client.stream("POST", path, json=body, headers=headers) as response:
        if response.status_code != _OK:
            answer.failure = _refusal(response.status_code, await response.aread())
            return
        if (waited_ms := response.headers.get("x-queue-ms", "")).isdecimal():
            answer.queue_s = int(waited_ms) / 1000
        answer.failure = "the stream ended too early"
        pending = b""
        async for data in response.aiter_raw():
            now_s = time.monotonic()
            *lines, pending = (pending + data).split(b"\n")
            _receive(api, lines, answer, now_s)


def _request(api: Api, question: Question) -> tuple[str, Mapping[str, Any]]:
    body: dict[str, Any] = {
        "model": question.model,
        "messages": [{"role": "user", "content": question.text}],
        "stream": True,
    }
    match api:
        case Api.OPENAI:
            body |= {"max_tokens": question.max_tokens, "stream_options": {"include_usage": True}}
            return "/v1/chat/completions", body
        case Api.OLLAMA:
            body["options"] = {"num_predict": question.max_tokens}
            return "/api/chat", body
        case _:
            assert_never(api)


def _receive(api: Api, lines: Iterable[bytes], answer: Answer, now_s: float) -> None:
    for line in lines:
        if api is Api.OLLAMA and line.strip():
            _receive_ollama(_decode_ollama(line), answer, now_s)
        elif line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
            _receive_openai(_decode_openai(line[len(b"data: ") :]), answer, now_s)


def _receive_openai(chunk: _OpenAiChunk, answer: Answer, now_s: float) -> None:
    if chunk.error is not None:
        answer.failure = f"error in the stream: {_code(chunk.error)}"
    if chunk.usage is not None:
        answer.prompt_tokens = chunk.usage.prompt_tokens
        answer.completion_tokens = chunk.usage.completion_tokens
    for choice in chunk.choices:
        if choice.delta.has_text:
            answer.arrivals_s.append(now_s)
        if choice.finish_reason:
            answer.failure = ""


def _receive_ollama(chunk: _OllamaChunk, answer: Answer, now_s: float) -> None:
    if chunk.error is not None:
        answer.failure = f"error in the stream: {_code(chunk.error)}"
    if chunk.message.has_text:
        answer.arrivals_s.append(now_s)
    if chunk.done:
        answer.prompt_tokens, answer.completion_tokens = chunk.prompt_eval_count, chunk.eval_count
        answer.failure = ""


def _refusal(status: int, body: bytes) -> str:
    try:
        return f"HTTP {status} {_code(_decode_error(body).error)}".rstrip()
    except msgspec.MsgspecError:
        return f"HTTP {status}"


def _code(error: Any) -> str:
    """Return a word for a kind of error: messages name models and numbers, so each is its own."""
    if isinstance(error, dict):
        return str(error.get("code") or error.get("type") or "")
    return ""

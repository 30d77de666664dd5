"""Events of a generation → an HTTP answer: the one way, for every dialect.

The first token is awaited before the response object exists, so an early error keeps its status;
a late one becomes the dialect's last words. The generation belongs to the task that serves the
request: whatever ends that task (the client leaving, an error, the last byte) ends it too.
Knows no wire shape: a dialect hands in an `AnswerWriter`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import ClassVar, Protocol

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from inference import generation
from inference.api.answers import Answer, queue_headers
from inference.errors import EngineFailed, LateRefusal
from inference.generation import Generation
from inference.messages import ChoiceEnded, Event, Finished, Started, Token
from inference.requests import Caller, GenerationRequest
from ollamasite.error_responses import to_service_error
from ollamasite.errors import ServiceError
from ollamasite.http import JSON

logger = logging.getLogger(__name__)

_Shown = Token | ChoiceEnded | Finished


class AnswerWriter(Protocol):
    """How a dialect writes the answer to one request; one object serves one answer.

    `total_ns` runs from the request's arrival to its end.
    """

    stream_type: ClassVar[str]
    stream_headers: ClassVar[Mapping[str, str]]

    def begin(self, started: Started | None) -> bytes:
        """Return what is sent before the first piece; None: the engine told nothing of the start.

        Not called for an answer that is not streamed.
        """

    def piece(self, token: Token) -> bytes:
        """Return what is sent for a piece of the answer."""

    def choice_end(self, ended: ChoiceEnded) -> bytes:
        """Return what is sent when one of several choices is complete."""

    def end(self, finished: Finished, total_ns: int) -> bytes:
        """Return what is sent at the good end; `finished.text` may hold the last piece."""

    def failure(self, error: ServiceError) -> bytes:
        """Return the last words of a stream that fails after its first byte."""

    def whole(self, answer: Answer, finished: Finished, total_ns: int) -> HttpResponse:
        """Return the answer that is not streamed."""


async def respond(
    caller: Caller,
    request: GenerationRequest,
    writer: AnswerWriter,
    *,
    is_streamed: bool,
    before_end: Callable[[], Awaitable[None]] | None = None,
) -> HttpResponseBase:
    """Generate for a caller and return the answer. Raises ServiceError before the first byte.

    `before_end` is awaited when all of a good answer is known and before its last bytes are sent.
    """
    try:
        running = await generation.start(caller, request)
    except LateRefusal as error:
        if is_streamed:
            lose_charset(error)
        raise
    end_with_this_task(running.close)
    answer = Answer()
    if not is_streamed:
        finished = await _collect(running, answer)
        response = writer.whole(answer, finished, running.elapsed_ns)
        if before_end is not None:
            await before_end()
        for name, value in queue_headers(answer.started).items():
            response.headers[name] = value
        return response
    events = aiter(running)
    try:
        first = await _first_shown(events, answer)
        begin = writer.begin(answer.started)
    except ServiceError as error:
        lose_charset(error)
        raise
    return stream_response(
        _chunks(running, begin, _with_first(first, events), writer, before_end),
        writer,
        headers=queue_headers(answer.started),
    )


class _StreamKind(Protocol):
    """What a writer says of its streams."""

    @property
    def stream_type(self) -> str:
        """The content type."""

    @property
    def stream_headers(self) -> Mapping[str, str]:
        """Further headers."""


def stream_response(
    chunks: AsyncIterator[bytes], kind: _StreamKind, *, headers: Mapping[str, str]
) -> StreamingHttpResponse:
    """Return the answer that sends chunks as they come."""
    return StreamingHttpResponse(
        chunks,
        content_type=kind.stream_type,
        headers={
            # Proxies that buffer would turn a stream into one late answer.
            "X-Accel-Buffering": "no",
            **kind.stream_headers,
            **headers,
        },
    )


def lose_charset(error: ServiceError) -> None:
    """Let the refusal of a stream have the content type that it has in Ollama.

    It has begun its stream by then, which sets the type (contract 11, 1.0).
    """
    error.headers.setdefault("Content-Type", JSON)


def end_with_this_task(close: Callable[[], None]) -> None:
    """Have `close` called when the task that serves the request ends, however it does.

    Closing in the iterator alone is not enough: a client may leave before anything iterates, and
    Django does not close the inner iterator of a response whose sending was cancelled.
    """
    task = asyncio.current_task()
    if task is not None:
        task.add_done_callback(lambda _task: close())


async def _collect(running: Generation, answer: Answer) -> Finished:
    try:
        async for event in running:
            answer.add(event)
            if isinstance(event, Finished):
                return event
    finally:
        running.close()
    raise EngineFailed


async def _first_shown(events: AsyncIterator[Event], answer: Answer) -> _Shown:
    async for event in events:
        if isinstance(event, _Shown):
            return event
        answer.add(event)
    raise EngineFailed


async def _with_first(first: Event, others: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in others:
        yield event


async def _chunks(
    running: Generation,
    begin: bytes,
    events: AsyncIterator[Event],
    writer: AnswerWriter,
    before_end: Callable[[], Awaitable[None]] | None,
) -> AsyncIterator[bytes]:
    try:
        if begin:
            yield begin
        async for event in events:
            chunk = _chunk(running, event, writer)
            if before_end is not None and isinstance(event, Finished):
                await before_end()
            if chunk:
                yield chunk
    except Exception as error:  # noqa: BLE001 - behind the first byte no one else can answer
        yield writer.failure(to_service_error(error))
    finally:
        running.close()


def _chunk(running: Generation, event: Event, writer: AnswerWriter) -> bytes:
    match event:
        case Token():
            return writer.piece(event)
        case ChoiceEnded():
            return writer.choice_end(event)
        case Finished():
            return writer.end(event, running.elapsed_ns)
    return b""

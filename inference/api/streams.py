"""Events of a generation → an HTTP answer: the one way, for every dialect.

The first token is awaited before the response object exists, so an early error keeps its status;
a late one becomes the dialect's last words. The generation belongs to the task that serves the
request: whatever ends that task (the client leaving, an error, the last byte) ends it too.
Knows no wire shape: a dialect hands in an `AnswerWriter`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar, Protocol

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from inference import generation
from inference.api.answers import Answer, queue_headers
from inference.errors import EngineFailed, LateRefusal
from inference.generation import Generation
from inference.messages import ChoiceEnded, Event, Finished, Priority, Token
from inference.requests import GenerationRequest
from models_app.permissions import Principal
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
    principal: Principal,
    request: GenerationRequest,
    writer: AnswerWriter,
    *,
    is_streamed: bool,
    priority: Priority | None = None,
) -> HttpResponseBase:
    """Generate for a principal and return the answer. Raises ServiceError before the first byte."""
    try:
        running = await generation.start(principal, request, priority=priority)
    except LateRefusal as error:
        if is_streamed:
            _lose_charset(error)
        raise
    _end_with_this_task(running)
    answer = Answer()
    if not is_streamed:
        finished = await _collect(running, answer)
        response = writer.whole(answer, finished, running.elapsed_ns)
        for name, value in queue_headers(answer.started).items():
            response.headers[name] = value
        return response
    events = aiter(running)
    try:
        first = await _first_shown(events, answer)
    except ServiceError as error:
        _lose_charset(error)
        raise
    return StreamingHttpResponse(
        _chunks(running, first, events, writer),
        content_type=writer.stream_type,
        headers={
            # Proxies that buffer would turn a stream into one late answer.
            "X-Accel-Buffering": "no",
            **writer.stream_headers,
            **queue_headers(answer.started),
        },
    )


def _lose_charset(error: ServiceError) -> None:
    # Ollama has begun its stream by then, which sets the type (contract 11, 1.0).
    error.headers.setdefault("Content-Type", JSON)


def _end_with_this_task(running: Generation) -> None:
    # Closing in the iterator alone is not enough: a client may leave before anything iterates,
    # and Django does not close the inner iterator of a response whose sending was cancelled.
    task = asyncio.current_task()
    if task is not None:
        task.add_done_callback(lambda _task: running.close())


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


async def _chunks(
    running: Generation, first: _Shown, events: AsyncIterator[Event], writer: AnswerWriter
) -> AsyncIterator[bytes]:
    try:
        yield _chunk(running, first, writer)
        async for event in events:
            if chunk := _chunk(running, event, writer):
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

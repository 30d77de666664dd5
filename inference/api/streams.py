"""Events of a generation → an HTTP answer: the one way, for every dialect.

The first event is awaited before the response object exists, so an early error keeps its status;
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
from msgspec import structs

from inference import generation
from inference.errors import EngineFailed
from inference.generation import Generation
from inference.messages import Finished, Token
from inference.requests import GenerationRequest
from models_app.permissions import Principal
from ollamasite.error_responses import to_service_error
from ollamasite.errors import ServiceError

logger = logging.getLogger(__name__)


class AnswerWriter(Protocol):
    """How a dialect writes the answer to one request; one object serves one answer.

    `total_ns` runs from the request's arrival to its end.
    """

    stream_type: ClassVar[str]
    stream_headers: ClassVar[Mapping[str, str]]

    def piece(self, text: str) -> bytes:
        """Return what is sent for a piece of text."""

    def end(self, finished: Finished, total_ns: int) -> bytes:
        """Return what is sent at the good end; `finished.text` may hold the last piece."""

    def failure(self, error: ServiceError) -> bytes:
        """Return the last words of a stream that fails after its first byte."""

    def whole(self, finished: Finished, total_ns: int) -> HttpResponse:
        """Return the answer that is not streamed; `finished.text` holds all of the text."""


async def respond(
    principal: Principal, request: GenerationRequest, writer: AnswerWriter, *, is_streamed: bool
) -> HttpResponseBase:
    """Generate for a principal and return the answer. Raises ServiceError before the first byte."""
    running = await generation.start(principal, request)
    _end_with_this_task(running)
    if not is_streamed:
        finished = await _collect(running)
        return writer.whole(finished, running.elapsed_ns)
    events = aiter(running)
    first = await _next_of(events)
    return StreamingHttpResponse(
        _chunks(running, first, events, writer),
        content_type=writer.stream_type,
        # Proxies that buffer would turn a stream into one late answer.
        headers={"X-Accel-Buffering": "no", **writer.stream_headers},
    )


def _end_with_this_task(running: Generation) -> None:
    # Closing in the iterator alone is not enough: a client may leave before anything iterates,
    # and Django does not close the inner iterator of a response whose sending was cancelled.
    task = asyncio.current_task()
    if task is not None:
        task.add_done_callback(lambda _task: running.close())


async def _collect(running: Generation) -> Finished:
    pieces: list[str] = []
    try:
        async for event in running:
            if isinstance(event, Finished):
                return structs.replace(event, text="".join([*pieces, event.text]))
            pieces.append(event.text)
    finally:
        running.close()
    raise EngineFailed


async def _next_of(events: AsyncIterator[Token | Finished]) -> Token | Finished:
    async for event in events:
        return event
    raise EngineFailed


async def _chunks(
    running: Generation,
    first: Token | Finished,
    events: AsyncIterator[Token | Finished],
    writer: AnswerWriter,
) -> AsyncIterator[bytes]:
    try:
        yield _chunk(running, first, writer)
        async for event in events:
            yield _chunk(running, event, writer)
    except Exception as error:  # noqa: BLE001 - behind the first byte no one else can answer
        yield writer.failure(to_service_error(error))
    finally:
        running.close()


def _chunk(running: Generation, event: Token | Finished, writer: AnswerWriter) -> bytes:
    if isinstance(event, Finished):
        return writer.end(event, running.elapsed_ns)
    return writer.piece(event.text)

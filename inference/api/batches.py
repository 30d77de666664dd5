"""Several generations → one HTTP answer: an array of prompts on `/v1/completions`.

They run at the same time and belong to the task that serves the request: when one fails, or the
client leaves, all are ended. Knows no wire shape: a dialect hands in a `BatchWriter`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import ClassVar, Final, Protocol

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from inference import generation
from inference.api.answers import Answer, queue_headers
from inference.api.streams import end_with_this_task, lose_charset, stream_response
from inference.errors import EngineFailed, LateRefusal
from inference.generation import Generation
from inference.messages import Event, Finished, Started
from inference.requests import Caller, GenerationRequest
from ollamasite.error_responses import to_service_error
from ollamasite.errors import ServiceError

_MOST_NEWS: Final = 64


class BatchWriter(Protocol):
    """How a dialect writes one answer to several prompts; they are numbered from 0."""

    stream_type: ClassVar[str]
    stream_headers: ClassVar[Mapping[str, str]]

    def event(self, number: int, event: Event) -> bytes:
        """Return what is sent for an event of a prompt, often nothing."""

    def end(self, ends: Sequence[Finished]) -> bytes:
        """Return what is sent when all prompts have been answered; `ends` in their order."""

    def failure(self, error: ServiceError) -> bytes:
        """Return the last words of a stream that fails after its first byte."""

    def whole(self, answers: Sequence[Answer], ends: Sequence[Finished]) -> HttpResponse:
        """Return the answer that is not streamed; both are in the order of the prompts."""


class _Batch:
    """Running generations and their events, each with the number of its prompt."""

    def __init__(self) -> None:
        self.started: Started | None = None  # the first that left the queue
        self._running: list[Generation] = []
        self._ends: dict[int, Finished] = {}
        # A short one: what is not read waits where it is counted.
        self._news: asyncio.Queue[tuple[int, Event] | Exception] = asyncio.Queue(_MOST_NEWS)
        self._pumps: list[asyncio.Task[None]] = []

    @property
    def ends(self) -> list[Finished]:
        """The ends that have come so far, in the order of the prompts."""
        return [self._ends[number] for number in sorted(self._ends)]

    async def start(self, caller: Caller, requests: Sequence[GenerationRequest]) -> None:
        """Submit all requests. Raises what `generation.start_all` does."""
        self._running.extend(await generation.start_all(caller, requests))

    async def __aiter__(self) -> AsyncIterator[tuple[int, Event]]:
        """Yield numbers and events until all have finished. Raises ServiceError for any of them."""
        events = self._events_of(0) if len(self._running) == 1 else self._merged()
        async for number, event in events:
            if isinstance(event, Finished):
                self._ends[number] = event
            elif isinstance(event, Started):
                self.started = self.started or event
            yield number, event
            if len(self._ends) == len(self._running):
                return
        raise EngineFailed

    def close(self) -> None:
        """End what has not ended. Safe to call at any time, more than once."""
        for running in self._running:
            running.close()
        for pump in self._pumps:
            pump.cancel()

    async def _events_of(self, number: int) -> AsyncIterator[tuple[int, Event]]:
        async for event in self._running[number]:
            yield number, event

    async def _merged(self) -> AsyncIterator[tuple[int, Event]]:
        for number in range(len(self._running)):
            self._pumps.append(asyncio.create_task(self._pump(number)))
        while True:
            news = await self._news.get()
            if isinstance(news, Exception):
                raise news
            yield news

    async def _pump(self, number: int) -> None:
        try:
            async for event in self._running[number]:
                await self._news.put((number, event))
                if isinstance(event, Finished):
                    return
        except Exception as error:  # noqa: BLE001 - whoever reads the others' events hears it
            await self._news.put(error)
            return
        await self._news.put(EngineFailed())


async def respond_all(
    caller: Caller,
    requests: Sequence[GenerationRequest],
    writer: BatchWriter,
    *,
    is_streamed: bool,
) -> HttpResponseBase:
    """Generate for a caller, once for each request, and return the one answer.

    Raises ServiceError before the first byte.
    """
    batch = _Batch()
    end_with_this_task(batch.close)
    try:
        await batch.start(caller, requests)
    except LateRefusal as error:
        if is_streamed:
            lose_charset(error)
        raise
    if not is_streamed:
        return await _whole(batch, len(requests), writer)
    chunks = _chunks(batch, writer)
    try:
        first = await anext(chunks)
    except ServiceError as error:
        batch.close()
        lose_charset(error)
        raise
    guarded = _guarded(batch, first, chunks, writer)
    return stream_response(guarded, writer, headers=queue_headers(batch.started))


async def _whole(batch: _Batch, count: int, writer: BatchWriter) -> HttpResponse:
    answers = [Answer() for _ in range(count)]
    try:
        async for number, event in batch:
            answers[number].add(event)
    finally:
        batch.close()
    response = writer.whole(answers, batch.ends)
    for name, value in queue_headers(batch.started).items():
        response.headers[name] = value
    return response


async def _chunks(batch: _Batch, writer: BatchWriter) -> AsyncIterator[bytes]:
    async for number, event in batch:
        if chunk := writer.event(number, event):
            yield chunk
    yield writer.end(batch.ends)


async def _guarded(
    batch: _Batch, first: bytes, chunks: AsyncIterator[bytes], writer: BatchWriter
) -> AsyncIterator[bytes]:
    try:
        yield first
        async for chunk in chunks:
            yield chunk
    except Exception as error:  # noqa: BLE001 - behind the first byte no one else can answer
        yield writer.failure(to_service_error(error))
    finally:
        batch.close()

"""Generate: check access and limits, have the request put together, stream the engine's events.

The only way from a dialect to the engine, so neither can be skipped. Async; the bridge to the
synchronous selectors is here. Knows no HTTP and no wire shape.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.conf import settings
from msgspec import structs

from inference import access, charging, recording
from inference.assembly import engine_message
from inference.charging import Share, Submittable
from inference.client import new_request_id
from inference.engine_stream import EngineStream
from inference.errors import EngineFailed, EngineUnavailable, PromptTooLong
from inference.fleet import engine_fleet
from inference.messages import (
    Counters,
    Event,
    Finished,
    LoadedModel,
    LoadedModels,
    NodeMetrics,
    Rendered,
)
from inference.placement import NodeSeen as NodeSeen
from inference.recording import Part
from inference.requests import Caller, ChatRequest, GenerationRequest
from inference.roster import current_fleet
from models_app.access_watch import Watch
from models_app.permissions import Verb
from registry import library
from registry.library import ResolvedModel


@dataclass(frozen=True, slots=True)
class Generation:
    """A running request: its model and its events.

    Iterate over it for Started, PromptScored, Token, ChoiceEnded and the one Finished, in the
    order of `inference.messages`; a failure is raised as a ServiceError. `close` ends it early;
    the owner calls it in every case.
    """

    model: ResolvedModel
    started_ns: int  # time.perf_counter_ns at arrival
    prepared_ns: int  # from arrival until the engine had the request
    stream: EngineStream
    share: Share
    access: Watch
    prompt_field: str  # what a request's prompt is called

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the events and the end."""
        async for event in self._heard():
            if isinstance(event, Finished):
                await self.share.settle_soon()
                # load_duration runs from the request's start until the model is ready.
                load_ns = event.usage.load_ns + self.prepared_ns
                yield structs.replace(event, usage=structs.replace(event.usage, load_ns=load_ns))
            else:
                yield event

    async def _heard(self) -> AsyncIterator[Event]:
        try:
            async for event in self.stream:
                yield event
        except PromptTooLong as error:
            error.param = self.prompt_field
            raise

    @property
    def elapsed_ns(self) -> int:
        """Nanoseconds since the request arrived."""
        return time.perf_counter_ns() - self.started_ns

    def close(self) -> None:
        """Cancel what has not ended. What was used is settled when the engine has told it."""
        self.access.close()
        self.stream.close()


async def start(caller: Caller, request: GenerationRequest) -> Generation:
    """Submit a request for a caller.

    Raises ModelNotFound, UnsupportedByModel, InvalidOption, BadRequest, EngineUnavailable,
    RateLimited, QuotaExceeded, LimitsUnavailable, LedgerUnavailable.
    """
    [running] = await start_all(caller, (request,))
    return running


async def start_all(caller: Caller, requests: Sequence[GenerationRequest]) -> list[Generation]:
    """Submit what is one call of a caller and asks one model. Raises as `start`.

    The call is charged as a whole. When it fails, all that was submitted is ended. When the
    caller's access ends, so does it, in AccessEnded.
    """
    started_ns = time.perf_counter_ns()
    model = await sync_to_async(library.resolve)(caller.principal, requests[0].model, Verb.USE)
    messages: list[Submittable] = [
        engine_message(new_request_id(), caller, model, request) for request in requests
    ]
    shares = await charging.reserve(caller, messages, model.full_name)
    messages = await _completed(caller, model, requests, messages, shares)
    kind = "chat" if isinstance(requests[0], ChatRequest) else "generate"
    parts = recording.begin(caller, model, kind, messages, shares)
    streams = await _submit_all(messages, parts)
    charging.end_when_exceeded(shares, [stream.fail for stream in streams])
    return [
        Generation(
            model=model,
            started_ns=started_ns,
            prepared_ns=time.perf_counter_ns() - started_ns,
            stream=stream,
            share=share,
            access=access.watch(caller.principal, model, stream.fail),
            prompt_field=request.prompt_field,
        )
        for request, stream, share in zip(requests, streams, shares, strict=True)
    ]


async def _completed(
    caller: Caller,
    model: ResolvedModel,
    requests: Sequence[GenerationRequest],
    messages: list[Submittable],
    shares: Sequence[Share],
) -> list[Submittable]:
    """Return a call's messages with what is fetched only for who has been let in."""
    if not any(request.complete for request in requests):
        return messages
    try:
        whole = [await request.complete() if request.complete else request for request in requests]
        named = zip(messages, whole, strict=True)
        return [engine_message(one.request_id, caller, model, request) for one, request in named]
    except BaseException:  # also where the client has left meanwhile
        shares[0].charge.give_back()
        raise


async def _submit_all(messages: Sequence[Submittable], parts: Sequence[Part]) -> list[EngineStream]:
    streams: list[EngineStream] = []
    try:
        for message, part in zip(messages, parts, strict=True):
            streams.append(await (await current_fleet()).submit(message, part.note, part.submitted))
    except BaseException as error:  # also where the client has left meanwhile
        for stream in streams:
            stream.close()
        for part in parts[len(streams) :]:
            part.give_up(error)
        raise
    return streams


async def count_tokens(caller: Caller, request: GenerationRequest) -> int:
    """Return how many tokens the prompt of a request has that only asks for their number.

    The request `renders_only` and `counts_tokens`. Raises as `start`, and EngineFailed.
    """
    running = await start(caller, request)
    count: int | None = None
    try:
        async for event in running:
            if isinstance(event, Rendered):
                count = event.prompt_tokens
    finally:
        running.close()
    if count is None:
        raise EngineFailed
    return count


async def engine_counters() -> Counters:
    """Return what the nodes have counted since their start. Raises EngineUnavailable."""
    return await (await current_fleet()).get_counters()


async def engine_metrics() -> tuple[NodeMetrics, ...]:
    """Return what each node that answers has counted and timed. Raises EngineUnavailable."""
    return tuple(await (await current_fleet()).get_metrics())


async def nodes_seen() -> list[NodeSeen]:
    """Return how every node stands, those that do not answer too."""
    return (await current_fleet()).seen()


async def engine_memories() -> list[LoadedModels]:
    """Return what is in memory, of each node that answers. Raises EngineUnavailable."""
    return await (await current_fleet()).get_memories()


async def loaded_models() -> tuple[LoadedModel, ...]:
    """Return what is in memory. Raises EngineUnavailable."""
    return await (await current_fleet()).list_loaded()


async def engine_is_ready() -> bool:
    """Whether a node answers."""
    try:
        async with asyncio.timeout(2):
            await loaded_models()
    except (EngineUnavailable, TimeoutError):
        return False
    return True


def end_all() -> None:
    """End every request of this process in an error, so that no client is left without an end."""
    engine_fleet(settings.ENGINE_SOCKET).close()


async def finish() -> None:
    """End what is still open of this event loop; what was cancelled just now may tell its end."""
    await engine_fleet(settings.ENGINE_SOCKET).finish()

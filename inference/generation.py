"""Generate: check access, have the request put together, stream the engine's events.

The only way from a dialect to the engine, so access cannot be skipped. Async; the bridge to the
synchronous selectors is here. Knows no HTTP and no wire shape.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.conf import settings
from msgspec import structs

from inference.assembly import default_priority, engine_message
from inference.client import EngineClient, EngineStream, engine_client, new_request_id
from inference.errors import EngineUnavailable
from inference.messages import Event, Finished, LoadedModel, Priority
from inference.requests import GenerationRequest
from models_app.permissions import Principal, Verb
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

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the events and the end."""
        async for event in self.stream:
            if isinstance(event, Finished):
                # load_duration runs from the request's start until the model is ready.
                load_ns = event.usage.load_ns + self.prepared_ns
                yield structs.replace(event, usage=structs.replace(event.usage, load_ns=load_ns))
            else:
                yield event

    @property
    def elapsed_ns(self) -> int:
        """Nanoseconds since the request arrived."""
        return time.perf_counter_ns() - self.started_ns

    def close(self) -> None:
        """Cancel what has not ended."""
        self.stream.close()


async def start(
    principal: Principal, request: GenerationRequest, *, priority: Priority | None = None
) -> Generation:
    """Submit a request for a principal, in the class of its credential where none is given.

    Raises ModelNotFound, UnsupportedByModel, InvalidOption, BadRequest, EngineUnavailable.
    """
    started_ns = time.perf_counter_ns()
    model = await sync_to_async(library.resolve)(principal, request.model, Verb.USE)
    chosen = default_priority(principal) if priority is None else priority
    message = engine_message(new_request_id(), principal, model, request, chosen)
    stream = await _client().submit(message)
    prepared_ns = time.perf_counter_ns() - started_ns
    return Generation(model=model, started_ns=started_ns, prepared_ns=prepared_ns, stream=stream)


async def loaded_models() -> tuple[LoadedModel, ...]:
    """Return what is in memory. Raises EngineUnavailable."""
    return await _client().list_loaded()


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
    _client().close()


def _client() -> EngineClient:
    return engine_client(settings.ENGINE_SOCKET)

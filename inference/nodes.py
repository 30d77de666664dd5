"""What a node does now, for those who look after the site; and a model brought in or sent away.

Models come in as for everybody who may use them, and go by the same right. Knows no HTTP and no
page.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from asgiref.sync import sync_to_async

from inference import generation, queue
from inference.errors import EngineUnavailable
from inference.messages import Counters, LoadedModel, Priority
from inference.queue import Queue
from inference.requests import Caller, CompletionRequest, KeepAlive
from models_app import audit
from models_app.permissions import Principal

_ANSWERS_WITHIN_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """What a node has told."""

    loaded: tuple[LoadedModel, ...]
    queue: Queue
    counters: Counters


async def look(principal: Principal) -> NodeState | None:
    """Return what the node does, as far as the caller may know; None: it does not answer."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            return NodeState(
                loaded=await generation.loaded_models(),
                queue=await queue.queue_of(principal),
                counters=await generation.engine_counters(),
            )
    except (EngineUnavailable, TimeoutError):
        return None


async def loaded_digests() -> frozenset[str] | None:
    """Return the manifests' digests of what is in memory; None: no node answers."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            return frozenset(model.digest for model in await generation.loaded_models())
    except (EngineUnavailable, TimeoutError):
        return None


async def load(principal: Principal, name: str) -> None:
    """Bring a model into memory, and wait until it is there. Raises as `generation.start`."""
    await _ask(principal, CompletionRequest(model=name))
    await sync_to_async(audit.record)("model.load", name, by=principal)


async def unload(principal: Principal, name: str) -> None:
    """Send a model out of memory when what runs has ended. Raises as `generation.start`."""
    await _ask(principal, CompletionRequest(model=name, keep_alive=KeepAlive(seconds=0)))
    await sync_to_async(audit.record)("model.unload", name, by=principal)


async def _ask(principal: Principal, request: CompletionRequest) -> None:
    running = await generation.start(
        Caller(principal=principal, priority=Priority.INTERACTIVE), request
    )
    try:
        async for _event in running:
            pass
    finally:
        running.close()

"""What a node does now, for those who look after the site; and a model brought in or sent away.

Models come in as for everybody who may use them, and go by the same right. Knows no HTTP and no
page.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from asgiref.sync import sync_to_async

from inference import embeddings, generation, queue
from inference.embeddings import EmbeddingRequest
from inference.errors import EngineUnavailable
from inference.messages import Counters, LoadedModel, LoadedModels, Priority
from inference.queue import Queue
from inference.requests import Caller, CompletionRequest, KeepAlive
from models_app import audit
from models_app.permissions import Principal, Verb
from ollamasite.error_responses import Dialect
from registry import library

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


async def memories() -> list[LoadedModels] | None:
    """Return what is in memory, node by node; None: no node answers."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            return await generation.engine_memories()
    except (EngineUnavailable, TimeoutError):
        return None


async def loaded() -> tuple[LoadedModel, ...] | None:
    """Return what is in memory; None: no node answers."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            return await generation.loaded_models()
    except (EngineUnavailable, TimeoutError):
        return None


async def loaded_digests() -> frozenset[str] | None:
    """Return the manifests' digests of what is in memory; None: no node answers."""
    models = await loaded()
    return None if models is None else frozenset(model.digest for model in models)


async def load(principal: Principal, name: str, *, keep_alive_s: float | None = None) -> None:
    """Bring a model of any kind into memory, and wait until it is there.

    `keep_alive_s`: how long it stays after its last use, infinite for ever; None leaves it to the
    node. Raises as `generation.start`.
    """
    keep_alive = None if keep_alive_s is None else KeepAlive(seconds=keep_alive_s)
    model = await sync_to_async(library.resolve)(principal, name, Verb.USE)
    if "completion" in model.capabilities:
        await _ask(principal, CompletionRequest(model=name, keep_alive=keep_alive))
    else:
        asked = EmbeddingRequest(model=name, keep_alive=keep_alive)
        await embeddings.embed(_caller(principal), asked)
    await sync_to_async(audit.record)("model.load", name, by=principal)


async def unload(principal: Principal, name: str) -> None:
    """Send a model out of memory when what runs has ended. Raises as `generation.start`."""
    await _ask(principal, CompletionRequest(model=name, keep_alive=KeepAlive(seconds=0)))
    await sync_to_async(audit.record)("model.unload", name, by=principal)


def _caller(principal: Principal) -> Caller:
    return Caller(principal=principal, priority=Priority.INTERACTIVE, dialect=Dialect.PAGE)


async def _ask(principal: Principal, request: CompletionRequest) -> None:
    running = await generation.start(_caller(principal), request)
    try:
        async for _event in running:
            pass
    finally:
        running.close()

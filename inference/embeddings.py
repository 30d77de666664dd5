"""Embed: check access and limits, have the inputs turned into vectors, collect them.

The only way from a dialect to the engine's vectors, so neither can be skipped. No capability is
asked for: models that generate have vectors too. Async; the bridge to the synchronous selectors is
here. Knows no HTTP and no wire shape.
"""

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from asgiref.sync import sync_to_async
from django.conf import settings
from msgspec import structs

from inference import access, charging, recording
from inference import options as option_table
from inference.assembly import credential_name, model_ref, runner_options
from inference.client import new_request_id
from inference.engine_stream import EngineStream
from inference.errors import EmbeddingModelNotFound, EngineFailed, PromptTooLong
from inference.messages import Embed, Embedded, Finished, Load, RunnerOptions, Unload
from inference.requests import Caller, KeepAlive
from inference.roster import current_fleet
from models_app.errors import ModelNotFound
from models_app.permissions import Principal, Verb
from ollamasite.errors import BadRequest
from ollamasite.request_context import current_request_id
from registry import library
from registry.library import ResolvedModel

Vectors = npt.NDArray[np.float32]

# The answer is put together in memory.
MAX_INPUTS: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Inputs to embed, texts or token ids. None: load or unload (contract 1.6).

    `dimensions` above zero cuts longer vectors and normalizes the rest again.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive: KeepAlive | None = None
    truncate: bool = True
    normalize: bool = True
    dimensions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """The vectors of a request's inputs, in order: shape (inputs, width)."""

    vectors: Vectors
    prompt_tokens: int = 0
    load_ns: int = 0  # from the request's arrival until the model was ready
    total_ns: int = 0


async def embed(caller: Caller, request: EmbeddingRequest) -> Embeddings:
    """Embed for a caller.

    Ends the request in the engine when the caller is cancelled. Raises EmbeddingModelNotFound,
    InvalidModelName, InvalidOption, BadRequest, EngineUnavailable, RateLimited, QuotaExceeded,
    LimitsUnavailable, LedgerUnavailable and what the engine fails with.
    """
    started_ns = time.perf_counter_ns()
    if len(request.inputs) > MAX_INPUTS:
        raise BadRequest(f"a request may have at most {MAX_INPUTS} inputs")
    model = await _resolve(caller.principal, request.model)
    message = _engine_message(caller, model, request)
    shares = await charging.reserve(caller, [message], model.full_name)
    [part] = recording.begin(caller, model, "embed", [message], shares)
    try:
        fleet = await current_fleet()
        stream = await fleet.submit(message, part.note, part.submitted)
    except BaseException as error:  # also where the client has left meanwhile
        part.give_up(error)
        raise
    charging.end_when_exceeded(shares, [stream.fail])
    prepared_ns = time.perf_counter_ns() - started_ns
    with closing(access.watch(caller.principal, model, stream.fail)):
        rows, finished = await _collect(stream)
    await shares[0].settle_soon()
    return Embeddings(
        vectors=_cut(_vectors(rows), request.dimensions),
        prompt_tokens=finished.usage.prompt_tokens,
        load_ns=finished.usage.load_ns + prepared_ns,
        total_ns=time.perf_counter_ns() - started_ns,
    )


async def _collect(stream: EngineStream) -> tuple[list[bytes], Finished]:
    """Return the vectors' bytes and the end. Raises what the engine fails with."""
    rows: list[bytes] = []
    try:
        async for event in stream:
            if isinstance(event, Embedded):
                rows.extend(event.vectors)
            elif isinstance(event, Finished):
                return rows, event
    except PromptTooLong as error:
        error.param = "input"
        raise
    finally:
        stream.close()
    raise EngineFailed


async def _resolve(principal: Principal, name: str) -> ResolvedModel:
    try:
        return await sync_to_async(library.resolve)(principal, name, Verb.USE)
    except ModelNotFound as error:
        if not name:
            raise
        raise EmbeddingModelNotFound(error.name) from error


def _engine_message(
    caller: Caller, model: ResolvedModel, request: EmbeddingRequest
) -> Embed | Load | Unload:
    merged = option_table.merge(model.parameters, request.options)
    common: dict[str, Any] = {
        "request_id": new_request_id(),
        "model": model_ref(model),
        "call_id": current_request_id(),
    }
    keep_alive = request.keep_alive
    if not request.inputs and keep_alive is not None and keep_alive.is_zero:
        return Unload(**common)
    common |= {
        "runner": _runner_options(model, request, merged),
        "user": caller.principal.username,
        "key_name": credential_name(caller.principal),
        "keep_alive_s": keep_alive.seconds if keep_alive else None,
    }
    if not request.inputs:
        return Load(**common)
    return Embed(
        **common,
        inputs=request.inputs,
        priority=caller.priority,
        truncate=request.truncate,
        normalize=request.normalize,
    )


def _runner_options(
    model: ResolvedModel, request: EmbeddingRequest, merged: dict[str, Any]
) -> RunnerOptions:
    if model.serving is not None:
        return runner_options(model, merged)
    options = option_table.runner_options(merged, default_num_ctx=settings.CONTEXT_LENGTH)
    asked = request.options.get("num_ctx")
    if asked is None:
        asked = model.parameters.get("num_ctx")
    # Inputs may be cut to less than the least window that answers (contract 8: num_ctx 3).
    if isinstance(asked, int | float) and asked < options.num_ctx:
        return structs.replace(options, num_ctx=int(max(1, asked)))
    return options


def _vectors(rows: list[bytes]) -> Vectors:
    if not rows:
        return np.empty((0, 0), dtype=np.float32)
    flat = np.frombuffer(b"".join(rows), dtype="<f4")
    return flat.astype(np.float32).reshape(len(rows), -1)


def _cut(vectors: Vectors, dimensions: int) -> Vectors:
    if not 0 < dimensions < vectors.shape[1]:
        return vectors
    cut = vectors[:, :dimensions].astype(np.float64)
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    scaled: Vectors = (cut / np.where(lengths == 0.0, 1.0, lengths)).astype(np.float32)
    return scaled

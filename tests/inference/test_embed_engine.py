"""Vectors all the way: node, runner process, llama.cpp, all-MiniLM-L6-v2 and a chat model."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.engine.config import EngineConfig
from inference.engine.server import serve
from inference.messages import (
    Embed,
    Embedded,
    Failed,
    FailureCode,
    Finished,
    ModelRef,
    RunnerOptions,
)
from tests.fakes.connection import WireConnection
from tests.gguf_files import write_tiny_model
from tests.minilm import reference_tokens, reference_vectors, write_minilm

pytestmark = [pytest.mark.slow, pytest.mark.beside]

SENTENCES = ("A man is eating food.", "A man is eating a piece of bread.", "why is the sky blue?")


def add_weights(config: EngineConfig, path: Path) -> ModelRef:
    """Put a file into the node's store."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(config.weights_path(digest))
    return ModelRef(name=f"{path.stem}:latest", digest="d" * 64, weights=digest)


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    return EngineConfig(socket_path=tmp_path / "e.sock", blobs_dir=tmp_path, drain_s=5.0, threads=1)


@pytest.fixture
async def wire(config: EngineConfig) -> AsyncIterator[WireConnection]:
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve(config, stopping))
    while not config.socket_path.exists():
        await asyncio.sleep(0.01)
    async with WireConnection(config.socket_path) as connection:
        await connection.greet()
        yield connection
    stopping.set()
    await serving


def embed(model: ModelRef, request_id: str = "r1", **changes: Any) -> Embed:
    fields: dict[str, Any] = {
        "inputs": SENTENCES,
        "runner": RunnerOptions(num_ctx=512),
        "user": "alice",
        **changes,
    }
    return Embed(request_id=request_id, model=model, **fields)


def vectors_of(wire: WireConnection, request_id: str = "r1") -> Any:
    rows: list[bytes] = []
    for event in wire.events:
        if isinstance(event, Embedded) and event.request_id == request_id:
            rows += event.vectors
    return np.stack([np.frombuffer(row, dtype="<f4") for row in rows])


async def test_minilm_answers_with_its_vectors(
    config: EngineConfig, wire: WireConnection, tmp_path: Path
) -> None:
    model = add_weights(config, write_minilm(tmp_path / "minilm"))

    wire.send(embed(model))
    end = await wire.end_of("r1")

    assert isinstance(end, Finished)
    assert end.usage.prompt_tokens == sum(len(reference_tokens(text)) for text in SENTENCES)
    assert (vectors_of(wire) * reference_vectors(SENTENCES)).sum(axis=1).min() >= 0.999


async def test_chat_model_embeds_as_well(
    config: EngineConfig, wire: WireConnection, tmp_path: Path
) -> None:
    model = add_weights(config, write_tiny_model(tmp_path / "tiny"))

    wire.send(embed(model, "r1"))
    wire.send(embed(model, "r2"))
    ends = [await wire.end_of("r1"), await wire.end_of("r2")]

    assert all(isinstance(end, Finished) for end in ends)
    assert np.linalg.norm(vectors_of(wire, "r1"), axis=1) == pytest.approx([1.0] * 3)
    assert vectors_of(wire, "r1") == pytest.approx(vectors_of(wire, "r2"), abs=1e-4)


async def test_input_that_may_not_be_cut_fails_in_the_contracts_words(
    config: EngineConfig, wire: WireConnection, tmp_path: Path
) -> None:
    model = add_weights(config, write_tiny_model(tmp_path / "tiny"))

    wire.send(embed(model, inputs=("word " * 2000,), truncate=False))
    end = await wire.end_of("r1")

    assert isinstance(end, Failed)
    assert (end.code, end.message) == (
        FailureCode.BAD_REQUEST,
        "the input length exceeds the context length",
    )

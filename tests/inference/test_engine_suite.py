"""What every node does, real or fake: the same tests run over both.

An `engine` fixture hands in an `EngineUnderTest`.
"""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from inference import frames
from inference.client import EngineClient
from inference.engine.config import EngineConfig
from inference.engine.server import serve
from inference.errors import EngineUnavailable
from inference.messages import (
    PROTOCOL_VERSION,
    Cancel,
    ChatMessage,
    ChatPrompt,
    DoneReason,
    Embed,
    Embedded,
    Failed,
    FailureCode,
    Finished,
    Generate,
    GetQueue,
    ListLoaded,
    Load,
    LoadedModel,
    LoadedModels,
    ModelRef,
    QueueState,
    RawPrompt,
    Rendered,
    RunnerOptions,
    Sampling,
    Started,
    Token,
    Unload,
    Withdraw,
    Withdrawn,
)
from ollamasite.errors import BodyTooLarge
from tests.fakes.connection import WireConnection
from tests.fakes.engine import MISSING_WEIGHTS, running_node
from tests.gguf_files import EOS_TOKEN, write_tiny_model

THINKING_TEMPLATE = (
    "{{ range .Messages }}{{ .Role }}: {{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "{{ .Content }}{{ if .ToolCalls }}<tool_call>{{ .ToolCalls }}</tool_call>{{ end }}\n{{ end }}"
)
TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}assistant: "


@dataclass(frozen=True, slots=True)
class EngineUnderTest:
    """A running node: where it listens and a model that it has."""

    socket_path: Path
    model: ModelRef


@pytest.fixture
async def fake_engine() -> AsyncIterator[EngineUnderTest]:
    async with running_node() as node:
        model = ModelRef(name="tiny:latest", digest="d" * 64, weights="a" * 64)
        yield EngineUnderTest(socket_path=node.socket_path, model=model)


@pytest.fixture
async def real_engine(tmp_path: Path) -> AsyncIterator[EngineUnderTest]:
    weights = write_tiny_model(tmp_path / "new")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    config = EngineConfig(
        socket_path=tmp_path / "e.sock", blobs_dir=tmp_path, drain_s=5.0, threads=1
    )
    weights.rename(config.weights_path(digest))
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve(config, stopping))
    while not config.socket_path.exists():
        await asyncio.sleep(0.01)
    model = ModelRef(name="tiny:latest", digest="d" * 64, weights=digest)
    yield EngineUnderTest(socket_path=config.socket_path, model=model)
    stopping.set()
    await serving


REAL = pytest.param("real_engine", marks=[pytest.mark.slow, pytest.mark.beside])


@pytest.fixture(params=["fake_engine", REAL])
def engine(request: pytest.FixtureRequest) -> EngineUnderTest:
    found: EngineUnderTest = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def wire(engine: EngineUnderTest) -> AsyncIterator[WireConnection]:
    async with WireConnection(engine.socket_path) as connection:
        await connection.greet()
        yield connection


def asked(engine: EngineUnderTest, request_id: str = "r1", **changes: Any) -> Generate:
    request = Generate(
        request_id=request_id,
        model=engine.model,
        runner=RunnerOptions(num_ctx=256),
        prompt=ChatPrompt(messages=(ChatMessage(role="user", content="Hi"),), template=TEMPLATE),
        sampling=Sampling(num_predict=4, seed=1, temperature=0.0),
        user="alice",
    )
    return structs.replace(request, **changes)


def endless(engine: EngineUnderTest, request_id: str = "r1") -> Generate:
    never = ((EOS_TOKEN, -1000.0),)
    sampling = Sampling(num_predict=100_000, seed=1, temperature=0.8, logit_bias=never)
    runner = RunnerOptions(num_ctx=256)
    return asked(engine, request_id, sampling=sampling, runner=runner)


async def loaded(wire: WireConnection) -> tuple[LoadedModel, ...]:
    wire.send(ListLoaded(request_id="list"))
    answer = await wire.receive()
    assert isinstance(answer, LoadedModels)
    assert answer.request_id == "list"
    return answer.models


async def test_node_tells_its_protocol_version(engine: EngineUnderTest) -> None:
    async with WireConnection(engine.socket_path) as connection:
        welcome = await connection.greet()

    assert welcome.protocol == PROTOCOL_VERSION
    assert welcome.node


async def test_client_of_another_protocol_is_told_the_version_and_left(
    engine: EngineUnderTest,
) -> None:
    async with WireConnection(engine.socket_path) as connection:
        welcome = await connection.greet(protocol=PROTOCOL_VERSION + 1)

        assert welcome.protocol == PROTOCOL_VERSION
        assert await connection.receive() is None


async def test_bytes_that_are_no_frame_end_the_connection_only(engine: EngineUnderTest) -> None:
    async with WireConnection(engine.socket_path) as broken:
        await broken.greet()
        broken.send_bytes(b"\xff" * 64)
        assert await broken.receive() is None

    async with WireConnection(engine.socket_path) as connection:
        assert (await connection.greet()).protocol == PROTOCOL_VERSION


async def test_request_ends_in_exactly_one_finished(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine))
    end = await wire.end_of("r1")
    await wire.settle()

    assert isinstance(end, Finished)
    assert wire.ends_of("r1") == [end]
    assert wire.events[-1] == end


async def test_request_counts_its_tokens(engine: EngineUnderTest, wire: WireConnection) -> None:
    wire.send(asked(engine))
    end = await wire.end_of("r1")

    assert isinstance(end, Finished)
    assert end.usage.prompt_tokens > 0
    assert end.usage.completion_tokens > 0


async def test_raw_prompt_is_answered(engine: EngineUnderTest, wire: WireConnection) -> None:
    wire.send(asked(engine, prompt=RawPrompt(text="Once upon a time")))

    assert isinstance(await wire.end_of("r1"), Finished)


async def test_request_that_is_only_rendered_gets_its_prompt_and_no_answer(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine, renders_only=True))
    end = await wire.end_of("r1")
    await wire.settle()

    assert isinstance(end, Finished)
    assert end.reason is DoneReason.STOP
    [shown, last] = wire.events
    assert isinstance(shown, Rendered)
    assert "user: Hi" in shown.text
    assert shown.image_count == 0
    assert last == end


async def test_tokens_of_a_prompt_are_counted_where_that_is_asked_for(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine, "plain", renders_only=True))
    wire.send(asked(engine, "counted", renders_only=True, counts_tokens=True, truncate=False))
    await wire.end_of("plain")
    await wire.end_of("counted")
    shown = {e.request_id: e.prompt_tokens for e in wire.events if isinstance(e, Rendered)}

    assert shown["plain"] == 0
    assert shown["counted"] > 0


async def test_a_forced_tool_is_called_and_nothing_else_is_said(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    parameters = {
        "type": "object",
        "properties": {"at": {"enum": ["door", "window"]}},
        "required": ["at"],
    }
    tools = tuple(
        {"type": "function", "function": {"name": name, "parameters": parameters}}
        for name in ("look", "jump")
    )
    messages = (ChatMessage(role="user", content="Hi"),)
    prompt = ChatPrompt(messages=messages, template=TEMPLATE, tools=tools)
    sampling = Sampling(num_predict=200, seed=1, temperature=0.0)
    fields: dict[str, Any] = {
        "prompt": prompt,
        "sampling": sampling,
        "forced_tools": ("jump",),
        "most_calls": 1,
    }
    wire.send(asked(engine, **fields))
    end = await wire.end_of("r1")
    tokens = [event for event in wire.events if isinstance(event, Token)]

    assert isinstance(end, Finished)
    assert end.reason is DoneReason.STOP
    assert [call.name for token in tokens for call in token.tool_calls] == ["jump"]
    assert not any(token.text or token.thinking for token in tokens)


async def test_request_with_tools_and_thinking_ends_in_exactly_one_finished(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    messages = (ChatMessage(role="user", content="Hi"),)
    prompt = ChatPrompt(messages=messages, template=THINKING_TEMPLATE, tools=(tool,), think=True)
    wire.send(asked(engine, prompt=prompt, splits_thinking=True, top_logprobs=0))
    end = await wire.end_of("r1")
    await wire.settle()

    assert isinstance(end, Finished)
    assert wire.ends_of("r1") == [end]
    assert end.usage.completion_tokens > 0


async def test_context_comes_where_it_is_wanted(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine, wants_context=True))
    end = await wire.end_of("r1")

    assert isinstance(end, Finished)
    assert end.context


async def test_context_stays_away_where_it_is_not_wanted(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine))
    end = await wire.end_of("r1")

    assert isinstance(end, Finished)
    assert end.context == ()


async def test_requests_of_one_connection_run_beside_each_other(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    names = [f"r{number}" for number in range(3)]
    for name in names:
        wire.send(asked(engine, name))

    ends = [await wire.end_of(name) for name in names]

    assert all(isinstance(end, Finished) for end in ends)


async def test_cancelled_request_ends_once_and_is_silent_after(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(endless(engine))
    await wire.wait_for_tokens_of("r1")
    wire.send(Cancel(request_id="r1"))
    end = await wire.end_of("r1")
    await wire.settle()

    assert isinstance(end, Failed)
    assert end.code is FailureCode.CANCELLED
    assert wire.ends_of("r1") == [end]
    assert wire.events[-1] == end


async def test_cancel_of_an_unknown_request_is_ignored(wire: WireConnection) -> None:
    wire.send(Cancel(request_id="nobody"))
    await wire.settle()

    assert wire.events == []


async def test_cancel_of_a_finished_request_is_ignored(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine))
    end = await wire.end_of("r1")
    wire.send(Cancel(request_id="r1"))
    await wire.settle()

    assert wire.ends_of("r1") == [end]


async def test_one_connection_cannot_cancel_the_request_of_another(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine, sampling=Sampling(num_predict=40, seed=1)))
    async with WireConnection(engine.socket_path) as stranger:
        await stranger.greet()
        stranger.send(Cancel(request_id="r1"))
        await stranger.settle()

    assert isinstance(await wire.end_of("r1"), Finished)


async def queue_of(wire: WireConnection) -> QueueState:
    wire.send(GetQueue(request_id="q1"))
    state = await wire.receive()
    assert isinstance(state, QueueState)
    return state


async def withdraw(wire: WireConnection, request_id: str) -> bool:
    wire.send(Withdraw(request_id="w1", withdrawn_id=request_id))
    answer = await wire.receive()
    assert isinstance(answer, Withdrawn)
    assert answer.request_id == "w1"
    return answer.was_there


async def test_running_request_is_told_until_it_ends(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(structs.replace(endless(engine), key_name="nightly (abc)"))
    await wire.wait_for_tokens_of("r1")
    state = await queue_of(wire)
    [running] = state.on_slots
    wire.send(Cancel(request_id="r1"))
    await wire.end_of("r1")

    assert (running.request_id, running.user, running.key_name) == ("r1", "alice", "nightly (abc)")
    assert (running.model, running.digest) == (engine.model.name, engine.model.digest)
    assert running.age_s > 0
    assert state.running == 1
    assert (await queue_of(wire)).on_slots == ()


async def test_request_is_withdrawn_over_another_connection_and_ends_once(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(endless(engine))
    await wire.wait_for_tokens_of("r1")
    async with WireConnection(engine.socket_path) as other:
        await other.greet()
        assert await withdraw(other, "r1")
        end = await wire.end_of("r1")
        await other.settle()
        assert other.events == []
    await wire.settle()

    assert isinstance(end, Failed)
    assert end.code is FailureCode.CANCELLED
    assert wire.ends_of("r1") == [end]
    assert wire.events[-1] == end


async def test_withdrawing_what_is_not_there_says_so(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine))
    end = await wire.end_of("r1")

    assert not await withdraw(wire, "nobody")
    assert not await withdraw(wire, "r1")
    assert wire.ends_of("r1") == [end]


async def test_memory_for_models_is_told(engine: EngineUnderTest, wire: WireConnection) -> None:
    wire.send(endless(engine))
    await wire.wait_for_tokens_of("r1")
    wire.send(ListLoaded(request_id="list"))
    answer = await wire.receive()

    assert isinstance(answer, LoadedModels)
    assert answer.memory_bytes is None or answer.memory_bytes > 0
    assert not any(model.is_loading for model in answer.models)


async def test_loaded_model_is_listed(engine: EngineUnderTest, wire: WireConnection) -> None:
    runner = RunnerOptions(num_ctx=256)
    wire.send(Load(request_id="r1", model=engine.model, runner=runner, keep_alive_s=60))
    end = await wire.end_of("r1")
    [model] = await loaded(wire)

    assert isinstance(end, Finished)
    assert end.reason is DoneReason.LOAD
    assert (model.name, model.digest) == (engine.model.name, engine.model.digest)
    assert model.context_length >= 256
    assert model.expires_in_s is not None
    assert 0 < model.expires_in_s <= 60


async def test_model_kept_for_ever_has_no_expiry(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    runner = RunnerOptions(num_ctx=256)
    wire.send(Load(request_id="r1", model=engine.model, runner=runner, keep_alive_s=math.inf))
    await wire.end_of("r1")
    [model] = await loaded(wire)

    assert model.expires_in_s is None


async def test_unloaded_model_is_not_listed(engine: EngineUnderTest, wire: WireConnection) -> None:
    wire.send(asked(engine))
    await wire.end_of("r1")
    wire.send(Unload(request_id="r2", model=engine.model))
    end = await wire.end_of("r2")

    assert isinstance(end, Finished)
    assert end.reason is DoneReason.UNLOAD
    assert await loaded(wire) == ()


async def test_unloading_what_is_not_loaded_finishes(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(Unload(request_id="r1", model=engine.model))

    assert isinstance(await wire.end_of("r1"), Finished)


async def test_missing_file_fails_the_request_and_not_the_node(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    missing = structs.replace(engine.model, digest="e" * 64, weights=MISSING_WEIGHTS)
    wire.send(asked(engine, "r1", model=missing))
    wire.send(asked(engine, "r2"))
    failed, finished = await wire.end_of("r1"), await wire.end_of("r2")

    assert isinstance(failed, Failed)
    assert failed.code is FailureCode.LOAD_FAILED
    assert failed.message
    assert isinstance(finished, Finished)


async def test_queue_of_an_idle_node_is_empty(wire: WireConnection) -> None:
    wire.send(GetQueue(request_id="q1"))
    state = await wire.receive()

    assert isinstance(state, QueueState)
    assert (state.request_id, state.entries, state.running) == ("q1", (), 0)


async def test_started_tells_that_a_request_did_not_wait(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(asked(engine, "r1"))
    await wire.end_of("r1")
    wire.send(asked(engine, "r2"))
    await wire.end_of("r2")
    [started] = [e for e in wire.events if isinstance(e, Started) and e.request_id == "r2"]

    assert started.queue_position == 0


async def test_inputs_become_vectors_in_their_order(
    engine: EngineUnderTest, wire: WireConnection
) -> None:
    wire.send(
        Embed(
            request_id="r1",
            model=engine.model,
            runner=RunnerOptions(num_ctx=256),
            inputs=("one", "two", "one"),
            user="alice",
        )
    )
    end = await wire.end_of("r1")
    runs = [event for event in wire.events if isinstance(event, Embedded)]
    vectors = [vector for run in sorted(runs, key=lambda run: run.first) for vector in run.vectors]

    assert isinstance(end, Finished)
    assert len(vectors) == 3
    assert vectors[0] == vectors[2] != vectors[1]


async def test_requests_of_a_lost_connection_make_room(engine: EngineUnderTest) -> None:
    async with WireConnection(engine.socket_path) as leaving:
        await leaving.greet()
        for number in range(4):
            leaving.send(endless(engine, f"r{number}"))
        await leaving.wait_for_tokens_of("r0")

    async with WireConnection(engine.socket_path) as connection:
        await connection.greet()
        connection.send(asked(engine, "next"))

        assert isinstance(await connection.end_of("next"), Finished)


async def test_client_streams_text_and_the_end(engine: EngineUnderTest) -> None:
    client = EngineClient(engine.socket_path)
    try:
        stream = await client.submit(asked(engine))
        events = [event async for event in stream]
    finally:
        client.close()

    assert isinstance(events[-1], Finished)
    assert sum(isinstance(event, Finished) for event in events) == 1
    assert any(isinstance(event, Token) for event in events) or events[-1].text


async def test_client_that_closes_a_stream_can_ask_again(engine: EngineUnderTest) -> None:
    client = EngineClient(engine.socket_path)
    try:
        stream = await client.submit(endless(engine))
        async for _ in stream:
            break
        stream.close()
        again = [event async for event in await client.submit(asked(engine, "r2"))]
    finally:
        client.close()

    assert isinstance(again[-1], Finished)


async def test_clients_requests_have_their_own_streams(engine: EngineUnderTest) -> None:
    client = EngineClient(engine.socket_path)

    async def end_of(name: str) -> Any:
        return [event async for event in await client.submit(asked(engine, name))][-1]

    try:
        ends = await asyncio.gather(*(end_of(f"r{number}") for number in range(3)))
    finally:
        client.close()

    assert [end.request_id for end in ends] == ["r0", "r1", "r2"]


async def test_request_that_is_too_large_to_be_sent_is_refused_and_forgotten(
    engine: EngineUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = EngineClient(engine.socket_path)
    try:
        await client.list_loaded()
        with monkeypatch.context() as small:
            small.setattr(frames, "MAX_FRAME_BYTES", 10)
            with pytest.raises(BodyTooLarge):
                await client.submit(asked(engine))
        again = [event async for event in await client.submit(asked(engine))]
    finally:
        client.close()

    assert isinstance(again[-1], Finished)


async def test_client_says_so_where_no_node_listens(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable):
        await EngineClient(tmp_path / "nobody.sock").list_loaded()

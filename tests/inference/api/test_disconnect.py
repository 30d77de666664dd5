"""A client that leaves ends its generation, wherever it stands (contract 2.6)."""

import asyncio
from typing import Any

import pytest

from inference.engine_stream import MOST_UNHEARD_BYTES
from inference.fleet import engine_fleet
from inference.messages import Cancel, Generate
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient

HELLO = [{"role": "user", "content": "Hello"}]
CALLS = [
    ("/api/generate", {"prompt": "x", "stream": True}),
    ("/api/generate", {"prompt": "x", "stream": False}),
    ("/api/chat", {"messages": HELLO, "stream": True}),
    ("/api/chat", {"messages": HELLO, "stream": False}),
    ("/v1/chat/completions", {"messages": HELLO, "stream": True}),
    ("/v1/chat/completions", {"messages": HELLO, "stream": False}),
]


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_leaving_before_the_first_event_cancels(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    node.default = Script(pieces=(), is_held=True)
    call = api.open("POST", path, data={"model": model, **body})
    request = await node.wait_for(Generate)
    await call.leave()

    assert (await node.wait_for(Cancel)).request_id == request.request_id


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_leaving_in_the_middle_cancels(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    node.default = Script(pieces=("first",), is_held=True)
    call = api.open("POST", path, data={"model": model, **body})
    request = await node.wait_for(Generate)
    if body["stream"]:
        await call.wait_for_text("first")
    await call.leave()

    assert (await node.wait_for(Cancel)).request_id == request.request_id


async def test_leaving_while_much_is_being_sent_cancels(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.default = Script(pieces=("word ",) * 10_000, pause_s=0.0001)
    call = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await call.wait_for_text("word")
    await call.leave()

    await node.wait_for(Cancel)


async def test_answer_that_came_to_its_end_cancels_nothing(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post("/api/generate", {"model": model, "prompt": "x"})
    await asyncio.sleep(0.05)

    assert node.got(Cancel) == []


async def test_failed_answer_cancels_nothing(
    node: FakeNode, model: str, api: AsgiClient, settings: Any
) -> None:
    node.scripts.append(Script(cuts_connection=True))
    await api.post("/api/generate", {"model": model, "prompt": "x"})
    await engine_fleet(settings.ENGINE_SOCKET).list_loaded()

    assert node.got(Cancel) == []


async def test_others_go_on_when_one_leaves(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(Script(pieces=("first",), is_held=True))
    node.scripts.append(Script(pieces=("a", "b", "c"), pause_s=0.05))
    leaving = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await leaving.wait_for_text("first")
    staying = api.open("POST", "/api/generate", data={"model": model, "prompt": "x"})
    await leaving.leave()

    assert (await staying.answer()).lines()[-1]["done"] is True


LARGE = "x" * 64 * 1024
MORE_THAN_WAITS = (LARGE,) * (2 * MOST_UNHEARD_BYTES // len(LARGE))


@pytest.mark.parametrize("prompt", ["x", ["x", "y"]])
async def test_who_does_not_read_is_told_that_it_was_ended(
    node: FakeNode, model: str, api: AsgiClient, prompt: Any
) -> None:
    node.default = Script(pieces=("first", *MORE_THAN_WAITS), is_held=True)
    data = {"model": model, "prompt": prompt, "stream": True}
    call = api.open("POST", "/v1/completions", data=data)
    await call.wait_for_text("first")
    call.stop_reading()
    await node.wait_for(Cancel, timeout_s=60)
    call.read_on()
    answer = await call.answer()

    assert "it was not read" in answer.text
    assert len(answer.body) < MOST_UNHEARD_BYTES + 80 * len(LARGE) * 2


async def test_slow_reader_hears_all(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.default = Script(pieces=("first", *(LARGE,) * 64))
    data = {"model": model, "prompt": ["x", "y"], "stream": True}
    call = api.open("POST", "/v1/completions", data=data)
    await call.wait_for_text("first")
    call.stop_reading()
    await asyncio.sleep(0.5)
    call.read_on()
    answer = await call.answer()

    assert answer.text.count(LARGE) == 2 * 64

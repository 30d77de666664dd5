"""What waits for whoever reads an answer: as much as there is a bound for, and then its end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inference.client import EngineClient, new_request_id
from inference.engine_stream import MOST_UNHEARD_BYTES, EngineStream
from inference.errors import ReaderTooSlow
from inference.messages import (
    Cancel,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
    Token,
    TokenLogprob,
    TopToken,
)
from tests.fakes.engine import FakeNode, Script, running_node

PIECE = "x" * 64 * 1024
UP_TO_BOUND = MOST_UNHEARD_BYTES // len(PIECE) - 2


class Asked:
    """A client of a fake node, and what was heard of its request."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.client = EngineClient(node.socket_path)
        self.heard: list[Event] = []

    async def ask(self, **script: Any) -> EngineStream:
        self.node.scripts.append(Script(**script))
        request = Generate(
            request_id=new_request_id(),
            model=ModelRef(name="m:latest", digest="d" * 64, weights="w" * 64),
            runner=RunnerOptions(num_ctx=512),
            prompt=RawPrompt(text="hi"),
            sampling=Sampling(),
        )
        return await self.client.submit(request, self.heard.append)

    async def end(self) -> Event:
        async with asyncio.timeout(60):
            while not self.heard or not isinstance(self.heard[-1], Finished | Failed):
                await asyncio.sleep(0.01)
        return self.heard[-1]


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    async with running_node() as node:
        asked = Asked(node)
        yield asked
        asked.client.close()
        await asyncio.sleep(0)


async def test_answer_that_nobody_reads_is_ended_at_the_bound(asked: Asked) -> None:
    stream = await asked.ask(pieces=(PIECE,) * (2 * UP_TO_BOUND), is_held=True)
    end = await asked.end()

    assert isinstance(end, Failed)
    assert end.code is FailureCode.CANCELLED
    assert len(asked.node.got(Cancel)) == 1
    with pytest.raises(ReaderTooSlow):
        await anext(aiter(stream))
    assert sum(isinstance(event, Finished | Failed) for event in asked.heard) == 1


async def test_its_alternatives_count_too(asked: Asked) -> None:
    top = tuple(TopToken(token=b"x", logprob=-1.0) for _ in range(20))
    logprobs = (TokenLogprob(token=b"x", logprob=-1.0, top=top),)
    piece = Token(request_id="", text="x", logprobs=logprobs)
    stream = await asked.ask(pieces=(piece,) * 4000, is_held=True)
    await asked.end()

    with pytest.raises(ReaderTooSlow):
        await anext(aiter(stream))


async def test_what_waits_below_the_bound_is_heard_to_its_end(asked: Asked) -> None:
    stream = await asked.ask(pieces=(PIECE,) * UP_TO_BOUND)
    await asked.end()

    texts = [event.text async for event in stream if isinstance(event, Token)]
    assert texts == [PIECE] * UP_TO_BOUND


async def test_reader_who_keeps_up_hears_far_more(asked: Asked) -> None:
    stream = await asked.ask(pieces=(PIECE,) * (3 * UP_TO_BOUND))
    texts = [event.text async for event in stream if isinstance(event, Token)]

    assert len(texts) == 3 * UP_TO_BOUND

"""A node that lies: whoever has taken one over gets no further than its own requests."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inference.client import EngineClient, new_request_id
from inference.engine_stream import EngineStream
from inference.errors import EngineUnavailable
from inference.frames import FrameDecoder, encode
from inference.messages import (
    PROTOCOL_VERSION,
    DoneReason,
    Event,
    Events,
    Failed,
    FailureCode,
    Finished,
    Generate,
    GetMetrics,
    Hello,
    Started,
    Token,
    ToNode,
    Usage,
    Welcome,
    Wire,
)
from tests.inference.test_fleet import request

# Answers a message with frames.
Behave = Callable[[Wire], list[bytes]]


def events(*told: Event) -> bytes:
    return encode(Events(events=told))


def raw(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return struct.pack(">I", len(body)) + body


class Liar:
    """A socket that says what the test wants; `clients` have come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.behave: Behave = lambda _message: []
        self.clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        decoder: FrameDecoder[Wire] = FrameDecoder(ToNode)
        try:
            while data := await reader.read(65536):
                for message in decoder.feed(data):
                    if isinstance(message, Hello):
                        writer.write(encode(Welcome(protocol=PROTOCOL_VERSION, node="liar")))
                    for frame in self.behave(message):
                        writer.write(frame)
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def liar(tmp_path: Path) -> AsyncIterator[Liar]:
    made = Liar(tmp_path / "liar.sock")
    server = await asyncio.start_unix_server(made.serve, path=made.path)
    yield made
    server.close()


async def heard_of(stream: EngineStream) -> list[Event]:
    async with asyncio.timeout(30):
        return [event async for event in stream]


async def test_what_is_nobodys_and_what_comes_behind_the_end_is_not_heard(liar: Liar) -> None:
    def behave(message: Wire) -> list[bytes]:
        if not isinstance(message, Generate):
            return []
        own, others = message.request_id, new_request_id()
        end = Finished(request_id=own, reason=DoneReason.STOP)
        return [
            events(Token(request_id=others, text="not mine")),
            events(Finished(request_id=others, reason=DoneReason.STOP)),
            events(Token(request_id=own, text="mine"), end, Token(request_id=own, text="more")),
            events(end, Failed(request_id=own, code=FailureCode.INTERNAL, message="again")),
        ]

    liar.behave = behave
    client = EngineClient(liar.path)
    told = await heard_of(await client.submit(request()))
    assert [type(event) for event in told] == [Token, Finished]
    # Nor by whoever asks on the same connection meanwhile or behind it.
    assert [type(event) for event in await heard_of(await client.submit(request()))] == [
        Token,
        Finished,
    ]
    assert client.connection is not None
    client.close()


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1},
        {"completion_tokens": -(10**12)},
        {"completion_tokens": 2**63},
        {"cached_tokens": 2**64 - 1},
        {"eval_ns": -1},
        {"compute_ns": 2**62},
        {"prompt_tokens": 1.5},
    ],
)
async def test_figures_that_no_request_has_are_not_written_down(
    liar: Liar, usage: dict[str, Any]
) -> None:
    """They would be a refund of somebody's limit, or a row that the ledger's sums cannot hold."""

    def behave(message: Wire) -> list[bytes]:
        if not isinstance(message, Generate):
            return []
        end = {"type": "Finished", "request_id": message.request_id, "reason": "stop"}
        return [raw({"type": "Events", "events": [end | {"usage": usage}]})]

    liar.behave = behave
    client = EngineClient(liar.path)
    heard: list[Event] = []
    with pytest.raises(EngineUnavailable):
        await heard_of(await client.submit(request(), heard.append))
    [failed] = heard
    assert isinstance(failed, Failed)
    assert (failed.code, failed.usage) == (FailureCode.CONNECTION_LOST, Usage())
    client.close()


@pytest.mark.parametrize("field", ["prompt_tokens", "cached_tokens", "queue_ns"])
async def test_neither_are_those_of_the_beginning(liar: Liar, field: str) -> None:
    def behave(message: Wire) -> list[bytes]:
        if not isinstance(message, Generate):
            return []
        begun = {"type": "Started", "request_id": message.request_id, "prompt_tokens": 1}
        return [raw({"type": "Events", "events": [begun | {field: -5}]})]

    liar.behave = behave
    client = EngineClient(liar.path)
    heard: list[Event] = []
    with pytest.raises(EngineUnavailable):
        await heard_of(await client.submit(request(), heard.append))
    assert not any(isinstance(event, Started) for event in heard)
    client.close()


async def test_histograms_of_another_shape_are_no_answer(liar: Liar) -> None:
    """One of them in a scrape would be an error in the place of everybody's figures."""
    short = [[1, 2, 3], 0.0]

    def behave(message: Wire) -> list[bytes]:
        if not isinstance(message, GetMetrics):
            return []
        spreads = ("first_token", "between_tokens", "queue", "load", "step")
        model = {"model": "m", "failures": {}, "stops": {}} | dict.fromkeys(spreads, short)
        told = {"type": "NodeMetrics", "request_id": message.request_id, "node": "liar"}
        return [raw(told | {"up_s": 1.0, "slots": 1, "classes": [], "models": [model]})]

    liar.behave = behave
    client = EngineClient(liar.path)
    with pytest.raises(EngineUnavailable):
        await client.get_metrics()
    client.close()


async def test_a_frame_without_measure_ends_the_connection_before_it_has_come(liar: Liar) -> None:
    liar.behave = lambda message: (
        [struct.pack(">I", 2**32 - 1)] if isinstance(message, Generate) else []
    )
    client = EngineClient(liar.path)
    with pytest.raises(EngineUnavailable):
        await heard_of(await client.submit(request()))
    client.close()

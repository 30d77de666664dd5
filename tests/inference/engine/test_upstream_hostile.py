"""What an engine elsewhere may not do to a request: each ends once, in a clear failure.

Beside `test_upstream_runner`, which has the simpler ones: answers that are no answers, addresses
that an engine would like to be asked, and heads and bodies without an end.
"""

import asyncio
import gzip
import json
from typing import Any

import pytest

from inference.engine.upstream import asking
from inference.messages import Embed, Failed, FailureCode, Finished, ModelRef, RunnerOptions
from tests.fakes.upstream import Asked, Behave, answers, event, fake_upstream, head, piece, says
from tests.inference.engine.test_upstream_runner import failure_of, running, sends, text_of, told

SHORT = {"first_s": 0.3, "connect_s": 0.3}


def writes(*parts: bytes, again: bytes = b"", pause_s: float = 0.01) -> Behave:
    """Return a server that writes bytes and nothing of HTTP besides; `again` for ever."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        for part in parts:
            writer.write(part)
        while again:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause_s)
        await writer.drain()

    return behave


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html><body>Sign in</body></html>"),
        ("application/json", json.dumps({"choices": [{"message": {"content": "x"}}]}).encode()),
        ("text/event-stream", b": nothing but comments\n\n"),
        ("text/event-stream", b""),
    ],
    ids=["a page", "an answer that is not streamed", "comments", "nothing"],
)
async def test_what_is_no_stream_of_events_is_said_to_be_none(kind: str, body: bytes) -> None:
    failed = await failure_of(writes(head(kind=kind), body))
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert "something else than a stream of events" in failed.message


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": {"0": {}}},
        {"choices": [{"index": "0"}]},
        {"choices": [{"index": 10**9}]},
        {"choices": [{"index": 0, "delta": "x"}]},
        {"choices": [{"index": 0, "delta": {"content": 7}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": {"name": "x"}}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"function": "x"}]}}]},
        {"choices": [{"index": 0, "finish_reason": 1}]},
        {"choices": [{"index": 0, "logprobs": [1]}]},
        {"choices": [], "usage": "9"},
        {"choices": [], "usage": {"prompt_tokens": -1}},
        {"choices": [], "usage": {"prompt_tokens": 1.5}},
    ],
    ids=json.dumps,
)
async def test_an_event_with_other_types_fails(chunk: Any) -> None:
    failed = await failure_of(sends(event(chunk)))
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert "cannot be read" in failed.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_address_is_asked_of_nobody(status: int) -> None:
    async with fake_upstream(says(piece("secret"))) as inside:
        location = f"location: http://127.0.0.1:{inside.port}/v1/chat/completions"
        failed = await failure_of(answers(status, {}, location))
        assert failed.code is FailureCode.UPSTREAM_FAILED
        assert "redirect" in failed.message
        assert not inside.asked


@pytest.mark.parametrize(
    "behave",
    [
        writes(b"HTTP/1.1 200 OK\r\nx: ", again=b"x"),
        writes(again=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        writes(b"HTTP/1.1 200 OK\r\n", again=b"x: y\r\n" * 1000),
        writes(b"SSH-2.0-OpenSSH_9.2\r\n"),
        writes(),
    ],
    ids=["a slow head", "hints for ever", "headers for ever", "another protocol", "nothing"],
)
async def test_a_head_that_never_comes_fails(behave: Behave) -> None:
    failed = await failure_of(behave, ref=SHORT)
    assert failed.code is FailureCode.UPSTREAM_UNREACHABLE
    assert "does not answer" in failed.message


async def test_what_blows_up_when_it_is_unpacked_fails() -> None:
    bomb = gzip.compress(b"data: " + b"x" * 20_000_000)
    failed = await failure_of(writes(head(200, "content-encoding: gzip"), bomb))
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert "too large" in failed.message


async def test_the_words_of_a_failure_are_read_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_ERROR_S", 0.5)
    endless = writes(head(500), again=b"x" * 10_000, pause_s=0.0)
    assert "status 500" in (await failure_of(endless)).message
    slow = writes(head(500), again=b"x")
    assert "status 500" in (await failure_of(slow)).message


async def test_what_comes_behind_the_end_is_not_read() -> None:
    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await says(piece("A"), {"choices": [{"index": 0, "finish_reason": "stop"}]})(asked, writer)
        while True:
            writer.write(event(piece("more")))
            await writer.drain()

    events, _, _ = await told(behave)
    assert text_of(events) == "A"
    assert [e for e in events if isinstance(e, Finished | Failed)] == [events[-1]]


@pytest.mark.parametrize("is_endless", [True, False])
async def test_vectors_without_an_end_fail(
    monkeypatch: pytest.MonkeyPatch, *, is_endless: bool
) -> None:
    monkeypatch.setattr(asking, "_MOST_ANSWER_BYTES", 100_000)
    begun = head(kind="application/json") + b'{"data":[{"index":0,"embedding":['
    more = b"1.0," * 1000 if is_endless else b" "
    async with (
        fake_upstream(writes(begun, again=more)) as upstream,
        running() as node,
    ):
        ref = upstream.ref(**({} if is_endless else SHORT))
        model = ModelRef(name="m", digest="d" * 64, weights="", upstream=ref)
        options = RunnerOptions(num_ctx=4096)
        node.send(Embed(request_id="e", model=model, runner=options, inputs=("a",)))
        [failed] = await node.events_until_end()
    assert isinstance(failed, Failed)
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert ("too large" if is_endless else "silent for too long") in failed.message

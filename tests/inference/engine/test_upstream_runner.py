"""The runner of a model that an engine elsewhere serves, against honest and hostile engines.

The engines are raw servers on 127.0.0.1; the runner is spoken to as the node does, over a socket.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from inference.engine.runner_messages import Charge, FromRunner, Opened, OpenUpstream, Step
from inference.engine.upstream import event_stream
from inference.engine.upstream_runner import serve
from inference.frames import FrameDecoder, encode
from inference.messages import (
    Cancel,
    ChatMessage,
    ChatPrompt,
    ChoiceEnded,
    DoneReason,
    Embed,
    Embedded,
    Event,
    Failed,
    FailureCode,
    Finished,
    Generate,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
    Started,
    Token,
    ToolCall,
    UpstreamRef,
    Wire,
)
from tests.fakes.upstream import (
    Asked,
    Behave,
    FakeUpstream,
    answers,
    end,
    event,
    fake_upstream,
    head,
    piece,
    says,
    usage,
)

PATIENCE_S = 60.0
KEY = "sk-very-secret-key"
HI = ChatPrompt(messages=(ChatMessage(role="user", content="Hi"),), template="")


class Node:
    """The node's end of a runner's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder: FrameDecoder[Wire] = FrameDecoder(FromRunner)
        self._waiting: list[Wire] = []
        self.charges: list[Charge] = []

    def send(self, message: Wire) -> None:
        self._writer.write(encode(message))

    async def frame(self) -> Wire:
        async with asyncio.timeout(PATIENCE_S):
            while not self._waiting:
                self._waiting += self._decoder.feed(await self._reader.read(65536))
        return self._waiting.pop(0)

    async def events_until_end(self) -> list[Event]:
        """Return what comes until a request has ended."""
        events: list[Event] = []
        while not (events and isinstance(events[-1], Finished | Failed)):
            step = await self.frame()
            assert isinstance(step, Step)
            events += step.events
            self.charges += step.charges
        return events


@asynccontextmanager
async def running() -> AsyncIterator[Node]:
    """Serve a runner on this event loop."""
    ours, theirs = socket.socketpair()
    task = asyncio.create_task(serve(theirs))
    node = Node(*await asyncio.open_unix_connection(sock=ours))
    node.send(OpenUpstream(context_length=4096))
    assert await node.frame() == Opened(size_bytes=0, size_vram_bytes=0, context_length=4096)
    try:
        yield node
    finally:
        node._writer.close()
        await task


def generate(upstream: UpstreamRef, prompt: Any = HI, **fields: Any) -> Generate:
    known: dict[str, Any] = {"request_id": "r1", "sampling": Sampling()}
    return Generate(
        model=ModelRef(name="m", digest="d" * 64, weights="", upstream=upstream),
        runner=RunnerOptions(num_ctx=4096),
        prompt=prompt,
        **{**known, **fields},
    )


async def told(
    behave: Behave, *, prompt: Any = HI, ref: dict[str, Any] | None = None, **fields: Any
) -> tuple[list[Event], FakeUpstream, Node]:
    """Return what a request brings."""
    async with fake_upstream(behave) as upstream, running() as node:
        node.send(generate(upstream.ref(**(ref or {})), prompt, **fields))
        return await node.events_until_end(), upstream, node


def text_of(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Token))


async def failure_of(behave: Behave, **kwargs: Any) -> Failed:
    events, _, _ = await told(behave, **kwargs)
    failed = events[-1]
    assert isinstance(failed, Failed), events
    assert [e for e in events if isinstance(e, Finished | Failed)] == [failed]
    return failed


# ---------------------------------------------------------------- honest engines


async def test_a_chat_is_streamed_with_the_engines_own_counts() -> None:
    behave = says(
        piece(role="assistant"),
        piece(reasoning_content="hm"),
        piece("Hel"),
        piece("lo"),
        end("length"),
        usage(9, 5, cached=4, reasoning=2),
    )
    events, upstream, node = await told(behave, ref={"key": KEY})
    started, *_, finished = events
    assert isinstance(started, Started)
    assert text_of(events) == "Hello"
    assert "".join(e.thinking for e in events if isinstance(e, Token)) == "hm"
    assert isinstance(finished, Finished)
    assert finished.reason is DoneReason.LENGTH
    counted = finished.usage
    assert (counted.prompt_tokens, counted.completion_tokens) == (9, 5)
    assert (counted.cached_tokens, counted.reasoning_tokens) == (4, 2)
    assert not counted.is_estimate
    assert sum(charge.completion_tokens for charge in node.charges) == 5
    assert sum(charge.prompt_tokens for charge in node.charges) == 9
    [asked] = upstream.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.json["messages"] == [{"role": "user", "content": "Hi"}]
    assert asked.json["model"] == "org/model"


async def test_usage_that_comes_with_each_piece_is_charged_as_it_comes() -> None:
    grown = [{**piece("x"), "usage": usage(7, n)["usage"]} for n in (1, 4)]
    events, _, node = await told(says(*grown, end(), usage(7, 6)))
    assert isinstance(events[0], Started)
    assert events[0].prompt_tokens == 7
    assert [c.completion_tokens for c in node.charges if c.completion_tokens] == [1, 3, 2]


async def test_an_engine_that_counts_nothing_has_its_pieces_counted_and_that_is_said() -> None:
    events, _, _ = await told(says(piece("a"), piece("b"), end()))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.usage.is_estimate
    assert finished.usage.completion_tokens == 2
    assert finished.usage.prompt_tokens > 0


async def test_calls_come_whole_whatever_pieces_they_come_in() -> None:
    def part(index: int, **function: str) -> dict[str, Any]:
        call = {"index": index, "function": function}
        if "name" in function:
            call["id"] = f"id{index}"
        return piece(tool_calls=[call])

    behave = says(
        part(0, name="weather", arguments=""),
        part(0, arguments='{"city":'),
        part(0, arguments='"Paris"}'),
        part(1, name="time", arguments="{}"),
        part(2, name="broken", arguments='{"a'),
        end("tool_calls"),
    )
    tools = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)
    prompt = ChatPrompt(messages=HI.messages, template="", tools=tools)
    events, upstream, _ = await told(behave, prompt=prompt, forced_tools=("weather",))
    calls = [call for e in events if isinstance(e, Token) for call in e.tool_calls]
    assert calls == [
        ToolCall(name="weather", arguments={"city": "Paris"}, id="id0", index=0),
        ToolCall(name="time", arguments={}, id="id1", index=1),
    ]
    assert text_of(events) == 'broken{"a'
    asked = upstream.asked[0].json
    assert asked["tools"] == list(tools)
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


async def test_several_choices_end_each_and_then_the_request() -> None:
    behave = says(piece("a"), piece("b", index=1), end(index=1), end("length"), usage(3, 2))
    events, upstream, _ = await told(behave, choices=2)
    ends = [(e.choice, e.reason) for e in events if isinstance(e, ChoiceEnded)]
    assert ends == [(1, DoneReason.STOP), (0, DoneReason.LENGTH)]
    assert isinstance(events[-1], Finished)
    assert upstream.asked[0].json["n"] == 2


async def test_a_raw_prompt_goes_to_the_completions_with_logprobs_of_either_shape() -> None:
    listed = {"tokens": ["b"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -0.5}]}
    full = {"content": [{"token": "?", "bytes": [195], "logprob": -1.0, "top_logprobs": []}]}
    behave = says(
        {"choices": [{"index": 0, "text": "b", "logprobs": listed}]},
        {"choices": [{"index": 0, "text": "é", "logprobs": full, "finish_reason": "stop"}]},
    )
    events, upstream, _ = await told(behave, prompt=RawPrompt(text="a"), top_logprobs=1)
    found = [one for e in events if isinstance(e, Token) for one in e.logprobs]
    assert [(one.token, one.logprob) for one in found] == [(b"b", -0.5), (b"\xc3", -1.0)]
    assert upstream.asked[0].path == "/v1/completions"
    assert upstream.asked[0].json["prompt"] == "a"


async def test_vectors_come_in_runs_normalized_and_counted() -> None:
    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        inputs = asked.json["input"]
        rows = [{"index": i, "embedding": [3.0, float(text)]} for i, text in enumerate(inputs)]
        body = {"data": rows[::-1], "usage": {"prompt_tokens": len(inputs)}}
        await answers(200, body)(asked, writer)

    async with fake_upstream(behave) as upstream, running() as node:
        model = ModelRef(name="m", digest="d" * 64, weights="", upstream=upstream.ref())
        inputs = tuple(str(number) for number in range(70))
        options = RunnerOptions(num_ctx=4096)
        node.send(Embed(request_id="e", model=model, runner=options, inputs=inputs))
        events = await node.events_until_end()
    rows = [row for e in events if isinstance(e, Embedded) for row in e.vectors]
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(70, 2)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
    assert np.allclose(vectors[:, 1] / vectors[:, 0], np.arange(70) / 3.0, rtol=1e-5)
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.prompt_tokens == 70
    assert [e.first for e in events if isinstance(e, Embedded)] == [0, 64]


# ---------------------------------------------------------------- leaving


async def test_a_cancelled_request_leaves_the_engine_at_once_and_ends_once() -> None:
    async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(head())
        while True:
            writer.write(event(piece("x")))
            await writer.drain()
            await asyncio.sleep(0.01)

    async with fake_upstream(endless) as upstream, running() as node:
        node.send(generate(upstream.ref()))
        step = await node.frame()
        assert isinstance(step, Step)
        node.send(Cancel(request_id="r1"))
        events = await node.events_until_end()
        assert isinstance(events[-1], Failed)
        assert events[-1].code is FailureCode.CANCELLED
        async with asyncio.timeout(PATIENCE_S):
            while not upstream.left:
                await asyncio.sleep(0.01)


async def test_a_request_cancelled_before_it_was_begun_ends_once() -> None:
    async with fake_upstream(says(piece("x"), end())) as upstream, running() as node:
        node.send(generate(upstream.ref()))
        node.send(Cancel(request_id="r1"))
        node.send(generate(upstream.ref(), request_id="r2"))
        first = await node.events_until_end()
        second = await node.events_until_end() if first[-1].request_id == "r1" else first
        assert isinstance(second[-1], Finished)


# ---------------------------------------------------------------- engines that refuse


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (400, {"error": {"message": "no such thing"}}, FailureCode.BAD_REQUEST, "no such thing"),
        (422, {"detail": "bad field"}, FailureCode.BAD_REQUEST, "bad field"),
        (501, {"error": {"message": "no images"}}, FailureCode.BAD_REQUEST, "no images"),
        (
            400,
            {"message": "This model's maximum context length is 10 tokens."},
            FailureCode.PROMPT_TOO_LONG,
            "maximum context length is 10",
        ),
        (401, {"error": f"wrong key {KEY}"}, FailureCode.UPSTREAM_FAILED, "refuses the key"),
        (404, {"error": "no model"}, FailureCode.UPSTREAM_FAILED, "does not know it: no model"),
        (500, {"error": f"oops {KEY}\n\x1b[31m"}, FailureCode.UPSTREAM_FAILED, "500: oops … [31m"),
        (302, {}, FailureCode.UPSTREAM_FAILED, "redirect"),
        (400, b"\xff" * 9, FailureCode.BAD_REQUEST, "refuses the request (400)"),
        (400, {"error": "x" * 9999}, FailureCode.BAD_REQUEST, "x" * 300),
    ],
)
async def test_a_refusal_is_told_in_its_own_short_words_without_the_key(
    status: int, body: Any, code: FailureCode, said: str
) -> None:
    redirected = "location: http://127.0.0.1:1/v1/chat/completions"
    failed = await failure_of(answers(status, body, redirected), ref={"key": KEY})
    assert failed.code is code
    assert said in failed.message
    assert KEY not in failed.message
    assert len(failed.message) < 400


def test_a_request_is_written_down_without_the_engines_key() -> None:
    """Wherever one is put into a message or a traceback."""
    ref = UpstreamRef(name="g", url="http://g/v1", kind="vllm", model="m", key=KEY)
    assert KEY not in repr(generate(ref))
    assert KEY not in f"{ref} {generate(ref).model}"


async def test_a_busy_engine_is_asked_again_and_then_given_up() -> None:
    tries = 0

    async def busy_once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await answers(503, {"error": "loading"}, "retry-after: 0")(asked, writer)
        else:
            await says(piece("ok"), end())(asked, writer)

    events, _, _ = await told(busy_once)
    assert text_of(events) == "ok"
    failed = await failure_of(answers(429, {"error": "slow down"}, "retry-after: 0"))
    assert failed.code is FailureCode.UPSTREAM_UNREACHABLE
    assert "slow down" in failed.message
    failed = await failure_of(answers(429, {}, "retry-after: 86400"))
    assert failed.code is FailureCode.UPSTREAM_UNREACHABLE


async def test_an_engine_that_is_not_there_fails_at_once() -> None:
    async with fake_upstream(says()) as upstream:
        ref = upstream.ref()
    async with running() as node:
        node.send(generate(ref))
        [failed] = await node.events_until_end()
    assert isinstance(failed, Failed)
    assert failed.code is FailureCode.UPSTREAM_UNREACHABLE
    assert str(upstream.port) not in failed.message


@pytest.mark.parametrize("url", ["http://169.254.169.254/v1", "http://[fe80::1]/v1"])
async def test_an_address_where_clouds_keep_secrets_is_never_asked(url: str) -> None:
    async with running() as node:
        node.send(generate(UpstreamRef(name="g", url=url, kind="vllm", model="m")))
        [failed] = await node.events_until_end()
    assert isinstance(failed, Failed)
    assert failed.code is FailureCode.UPSTREAM_FAILED


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ChatPrompt(messages=HI.messages, template="{{ x }}", is_models_template=False)},
        {"prompt": ChatPrompt(messages=HI.messages, template="", context=(1, 2))},
        {"prompt": RawPrompt(text="a", images=(b"x",))},
        {"renders_only": True},
        {"scores_prompt": True, "prompt": RawPrompt(text="a")},
    ],
)
async def test_what_no_engine_elsewhere_can_do_is_refused_without_asking(
    fields: dict[str, Any],
) -> None:
    events, upstream, _ = await told(says(piece("x"), end()), **fields)
    assert isinstance(events[-1], Failed)
    assert events[-1].code is FailureCode.BAD_REQUEST
    assert not upstream.asked


# ---------------------------------------------------------------- engines that misbehave


def sends(*parts: bytes, pause_s: float = 0.0, again: bool = False) -> Behave:
    """Return a server that sends bytes, perhaps for ever, and then hangs."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(head())
        while True:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
            if not again:
                break
        await asyncio.sleep(3600)

    return behave


async def test_a_line_without_an_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_EVENT_BYTES", 100_000)
    failed = await failure_of(sends(b"data: " + b"x" * 10_000, again=True))
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert "too large" in failed.message


async def test_an_event_of_endlessly_many_lines_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_EVENT_BYTES", 100_000)
    failed = await failure_of(sends(b"data: xxxxxxxxxxxxxxxxx\n" * 100, again=True))
    assert "too large" in failed.message


@pytest.mark.parametrize(
    "part",
    [b"\xff\xfe", b"{", b"[]", b'"x"', b"{" * 100_000, b'{"choices":[{"index":-1}]}'],
    ids=["no UTF-8", "no JSON", "a list", "a string", "deep", "a negative choice"],
)
async def test_a_piece_that_is_no_chunk_fails(part: bytes) -> None:
    failed = await failure_of(sends(b"data: " + part + b"\n\n"))
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert "cannot be read" in failed.message


async def test_counts_out_of_all_proportion_fail() -> None:
    failed = await failure_of(says(piece("x"), usage(10**12, 1)))
    assert failed.code is FailureCode.UPSTREAM_FAILED


async def test_a_choice_that_nobody_asked_for_fails() -> None:
    failed = await failure_of(says(piece("x", index=5)))
    assert "nobody has asked for" in failed.message


async def test_silence_before_the_first_piece_has_a_limit() -> None:
    failed = await failure_of(sends(b""), ref={"first_s": 0.2, "connect_s": 0.2})
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert "silent" in failed.message


async def test_comments_and_drops_of_a_piece_do_not_count_as_an_answer() -> None:
    first = event(piece("x"))
    failed = await failure_of(
        sends(first, *[b": still here\n\n", b"d"] * 2000, pause_s=0.01),
        ref={"silence_s": 0.3, "first_s": 5.0},
    )
    assert "silent" in failed.message


async def test_an_answer_has_an_end_however_much_comes() -> None:
    failed = await failure_of(
        sends(event(piece("x")), pause_s=0.01, again=True), ref={"total_s": 0.5}
    )
    assert failed.code is FailureCode.UPSTREAM_FAILED


async def test_an_answer_that_is_cut_off_fails() -> None:
    failed = await failure_of(says(piece("x"), done=False))
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert "before it was complete" in failed.message


async def test_an_error_amid_the_answer_is_told() -> None:
    failed = await failure_of(says(piece("x"), {"error": {"message": "out of memory"}}))
    assert failed.code is FailureCode.UPSTREAM_FAILED
    assert "out of memory" in failed.message


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"data":[]}',
        b'{"data":[{"index":0,"embedding":[]}]}',
        b'{"data":[{"index":7,"embedding":[1]}]}',
        b'{"data":[{"index":0,"embedding":["a"]}]}',
        json.dumps({"data": [{"index": 0, "embedding": [0.0] * 70_000}]}).encode(),
    ],
)
async def test_vectors_that_were_not_asked_for_fail(body: bytes) -> None:
    async with fake_upstream(answers(200, body)) as upstream, running() as node:
        model = ModelRef(name="m", digest="d" * 64, weights="", upstream=upstream.ref())
        options = RunnerOptions(num_ctx=4096)
        node.send(Embed(request_id="e", model=model, runner=options, inputs=("a",)))
        [failed] = await node.events_until_end()
    assert isinstance(failed, Failed)
    assert failed.code is FailureCode.UPSTREAM_FAILED

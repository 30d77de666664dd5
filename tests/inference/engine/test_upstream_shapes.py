"""The shapes in which engines stream their answers, a table of them: what comes of each.

Written after what vLLM, SGLang, LMDeploy, llama.cpp's server, TGI and OpenAI document and what
their users have reported; nothing is recorded of anybody. Where two engines differ, both are here.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.upstream.chunks import chunk_decoder
from inference.engine.upstream.event_stream import EventStream
from inference.engine.upstream.events import Reading
from inference.engine.upstream.failures import UpstreamError
from inference.messages import (
    ChatMessage,
    ChatPrompt,
    DoneReason,
    Event,
    Finished,
    Generate,
    ModelRef,
    RunnerOptions,
    Sampling,
    Started,
    Token,
    UpstreamRef,
)

PARIS = {"city": "Paris"}
ROME = {"city": "Rome"}


def delta(reason: str | None = None, **said: Any) -> dict[str, Any]:
    """Return a chunk with one choice."""
    return {"choices": [{"index": 0, "delta": said, "finish_reason": reason}]}


def call(index: Any = 0, name: Any = None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk with a part of a call."""
    function = {"name": name, "arguments": arguments}
    return delta(tool_calls=[{"index": index, "type": "function", "function": function, **fields}])


def counted(prompt: int, answer: int, **details: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, **details}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """An answer as an engine writes it, and what it means."""

    name: str
    chunks: list[Any]
    kind: str = "vllm"
    text: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    reason: DoneReason = DoneReason.STOP
    tokens: tuple[int, int] | None = None  # None: estimated
    cached: int = 0
    stop: str = ""


SHAPES = [
    Shape(
        name="a proxy that tells no counts where they should be",
        kind="openai",
        chunks=[
            delta(content="Hel"),
            delta("stop", content="lo"),
            {"choices": [], "usage": {"prompt_tokens": None, "completion_tokens": None}},
        ],
        text="Hello",
    ),
    Shape(
        name="a proxy that tells of the prompt alone",
        kind="openai",
        chunks=[delta("stop", content="Hello"), {"choices": [], "usage": {"prompt_tokens": 5}}],
        text="Hello",
    ),
    Shape(
        name="vLLM: counts with every piece, the last with the reason",
        chunks=[
            {**delta(role="assistant", content=""), "usage": counted(9, 0)},
            {**delta(content="Hel"), "usage": counted(9, 1)},
            {**delta("length", content="lo"), "usage": counted(9, 2)},
            {"choices": [], "usage": counted(9, 2, prompt_tokens_details=None)},
        ],
        text="Hello",
        reason=DoneReason.LENGTH,
        tokens=(9, 2),
    ),
    Shape(
        name="vLLM: thinking by its newer name",
        chunks=[delta(reasoning="hm", content=None), delta(content="A"), delta("stop")],
        thinking="hm",
        text="A",
    ),
    Shape(
        name="SGLang and older vLLM: thinking by its older name, and all else null",
        kind="sglang",
        chunks=[
            delta(role="assistant", content="", reasoning_content=None, tool_calls=None),
            delta(role=None, content=None, reasoning_content="hm", tool_calls=None),
            {**delta(content="A", reasoning_content=None), "usage": None},
            delta("stop", content=None, reasoning_content=None, tool_calls=None),
        ],
        thinking="hm",
        text="A",
    ),
    Shape(
        name="both names at once say it once",
        chunks=[delta(reasoning="hm", reasoning_content="hm"), delta("stop", content="A")],
        thinking="hm",
        text="A",
    ),
    Shape(
        name="two calls whose parts take turns",
        chunks=[
            call(0, "weather", "", id="a"),
            call(1, "weather", "", id="b"),
            call(0, None, '{"city": '),
            call(1, None, '{"city": "Ro'),
            call(0, None, '"Paris"}'),
            call(1, None, 'me"}'),
            delta("tool_calls"),
        ],
        calls=(("weather", PARIS), ("weather", ROME)),
    ),
    Shape(
        name="parts of two calls in one chunk each, the first without arguments",
        chunks=[
            delta(
                tool_calls=[
                    {"index": 0, "id": "a", "function": {"name": "now", "arguments": ""}},
                    {"index": 1, "id": "b", "function": {"name": "weather", "arguments": ""}},
                ]
            ),
            delta(
                tool_calls=[
                    {"index": 1, "function": {"arguments": '{"city":'}},
                    {"index": 0, "function": {"arguments": ""}},
                ]
            ),
            call(1, None, '"Rome"}'),
            delta("tool_calls"),
        ],
        calls=(("now", {}), ("weather", ROME)),
    ),
    Shape(
        name="a call that comes again to an index, and one that is over before the other begins",
        chunks=[
            call(0, "weather", '{"city": "Paris"}', id="a"),
            call(1, "weather", '{"city": ', id="b"),
            call(0, None, ""),
            call(1, None, '"Rome"}'),
            delta("tool_calls"),
        ],
        calls=(("weather", PARIS), ("weather", ROME)),
    ),
    Shape(
        name="vLLM: a stop string and a stop token",
        chunks=[
            delta(content="A"),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "x"}]},
        ],
        text="A",
        stop="x",
    ),
    Shape(
        name="SGLang: the token that has ended it",
        kind="sglang",
        chunks=[
            {"choices": [{"delta": {"content": "A"}, "finish_reason": "stop", "matched_stop": 2}]}
        ],
        text="A",
    ),
    Shape(
        name="OpenAI: cached tokens, thinking that is counted and not told, what nobody reads",
        kind="openai",
        chunks=[
            {**delta(role="assistant", content="", refusal=None), "service_tier": "default"},
            {**delta(content="A"), "usage": None, "obfuscation": "Zx9"},
            delta("stop"),
            {
                "choices": [],
                "usage": counted(
                    20,
                    7,
                    prompt_tokens_details={"cached_tokens": 16, "audio_tokens": 0},
                    completion_tokens_details={"reasoning_tokens": 5, "audio_tokens": 0},
                ),
            },
        ],
        text="A",
        tokens=(20, 7),
        cached=16,
    ),
    Shape(
        name="OpenAI: a refusal is what it says",
        kind="openai",
        chunks=[delta(content=None, refusal="No."), delta("content_filter")],
        text="No.",
    ),
    Shape(
        name="TGI: reasons of its own",
        kind="openai",
        chunks=[delta(content="A"), delta("eos_token", content="")],
        text="A",
    ),
    Shape(
        name="Azure and proxies: chunks without choices before and behind",
        kind="openai",
        chunks=[
            {"choices": [], "prompt_filter_results": []},
            delta(content="A"),
            delta("stop"),
            {"choices": None, "usage": counted(3, 1)},
        ],
        text="A",
        tokens=(3, 1),
    ),
    Shape(
        name="an answer of nothing",
        chunks=[delta("stop"), {"choices": [], "usage": counted(3, 1)}],
        tokens=(3, 1),
    ),
    Shape(
        name="llama.cpp: its counts on the way, an empty first piece",
        kind="llama.cpp",
        chunks=[
            delta(role="assistant", content=None),
            {**delta(content="A"), "timings": {"cache_n": 4, "prompt_n": 5, "predicted_n": 1}},
            delta("stop"),
            {"choices": [], "usage": counted(9, 2, prompt_tokens_details={"cached_tokens": 4})},
        ],
        text="A",
        tokens=(9, 2),
        cached=4,
    ),
    # ------------------------------------------------------------ calls
    Shape(
        name="OpenAI: a call in pieces, its id and name only in the first",
        kind="openai",
        chunks=[
            call(0, "weather", "", id="a"),
            call(0, None, '{"city"'),
            call(0, None, ':"Paris"}'),
            call(1, "weather", '{"city":"Rome"}', id="b"),
            delta("tool_calls"),
        ],
        calls=(("weather", PARIS), ("weather", ROME)),
    ),
    Shape(
        name="llama.cpp: the name with the beginning of the arguments",
        kind="llama.cpp",
        chunks=[
            delta(role="assistant", content=None),
            call(0, "weather", "{", id="a"),
            *(call(0, None, part) for part in ('"', "city", '":', ' "Paris"', "}")),
            delta("tool_calls"),
        ],
        calls=(("weather", PARIS),),
    ),
    Shape(
        name="vLLM: the last piece says id and name again",
        chunks=[
            call(0, "weather", '{"city":', id="a"),
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {
                            "tool_calls": [
                                {
                                    "index": 0,
                                    "id": "a",
                                    "function": {"name": "weather", "arguments": '"Paris"}'},
                                }
                            ]
                        },
                        "finish_reason": "tool_calls",
                    }
                ]
            },
        ],
        calls=(("weather", PARIS),),
    ),
    Shape(
        name="LMDeploy and older SGLang: every call has the same place and ids of their own",
        kind="sglang",
        chunks=[
            call(0, "weather", "", id="0"),
            call(0, None, '{"city":"Paris"}', id="0"),
            call(0, "time", "", id="1"),
            call(0, None, '{"city":"Rome"}', id="1"),
            delta("tool_calls"),
        ],
        calls=(("weather", PARIS), ("time", ROME)),
    ),
    Shape(
        name="SGLang: places that are null, ids that are empty",
        kind="sglang",
        chunks=[
            call(None, "weather", "", id="a"),
            call(None, None, '{"city":"Paris"}', id=""),
            delta("tool_calls", content=None),
        ],
        calls=(("weather", PARIS),),
    ),
    Shape(
        name="Gemini and proxies: whole calls without places and ids",
        kind="openai",
        chunks=[
            delta(
                tool_calls=[
                    {"id": "", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
                    {"id": "", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
                ]
            ),
            delta("stop"),
        ],
        calls=(("weather", PARIS), ("weather", ROME)),
    ),
    Shape(
        name="arguments that are an object, or nothing at all",
        kind="openai",
        chunks=[call(0, "weather", PARIS, id="a"), call(1, "now", id="b"), delta("tool_calls")],
        calls=(("weather", PARIS), ("now", {})),
    ),
    Shape(
        name="text and thinking before a call",
        chunks=[
            delta(reasoning="hm"),
            delta(content="I look. "),
            call(0, "weather", '{"city":"Paris"}', id="a"),
            delta("tool_calls", content=""),
        ],
        thinking="hm",
        text="I look. ",
        calls=(("weather", PARIS),),
    ),
]


def read(shape: Shape) -> list[Event]:
    upstream = UpstreamRef(name="gpu", url="http://gpu/v1", kind=shape.kind, model="m")
    request = Generate(
        request_id="r",
        model=ModelRef(name="m", digest="", weights="", upstream=upstream),
        runner=RunnerOptions(num_ctx=10),
        prompt=ChatPrompt(messages=(ChatMessage(role="user", content="Hi"),), template=""),
        sampling=Sampling(stop=("x",)),
    )
    reading = Reading(request, upstream, itertools.count().__next__)
    events: list[Event] = []
    charged = [0, 0]
    for step in (*shape.chunks, None):
        if step is None:
            new, charge = reading.finish()
        else:
            new, charge = reading.take(chunk_decoder.decode(json.dumps(step)))
        events += new
        if charge is not None:
            charged = [charged[0] + charge.prompt_tokens, charged[1] + charge.completion_tokens]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert charged == [finished.usage.prompt_tokens, finished.usage.completion_tokens]
    return events


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_an_answer_in_this_shape_is_understood(shape: Shape) -> None:
    started, *tokens, finished = read(shape)
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    said = [event for event in tokens if isinstance(event, Token)]
    assert len(said) == len(tokens)
    assert "".join(token.text for token in said) == shape.text
    assert "".join(token.thinking for token in said) == shape.thinking
    found = [called for token in said for called in token.tool_calls]
    assert tuple((called.name, called.arguments) for called in found) == shape.calls
    assert [called.index for called in found] == list(range(len(found)))
    assert (finished.reason, finished.stop_sequence) == (shape.reason, shape.stop)
    usage = finished.usage
    assert usage.is_estimate is (shape.tokens is None)
    if shape.tokens is not None:
        assert (usage.prompt_tokens, usage.completion_tokens) == shape.tokens
    assert usage.cached_tokens == shape.cached


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_engine_has_given_up_fails(reason: str) -> None:
    with pytest.raises(UpstreamError, match="gave its answer up"):
        read(Shape(name="", chunks=[delta(content="A"), delta(reason)]))


@given(st.data())
def test_calls_are_whole_in_whatever_order_their_parts_come(data: st.DataObject) -> None:
    called = [(f"f{index}", {"n": index, "text": "x" * index}) for index in range(4)]
    parts = [list(cut_up(data, json.dumps(arguments))) for _, arguments in called]
    order = data.draw(st.permutations([i for i, one in enumerate(parts) for _ in one]))
    begun = [call(index, name, "", id=name) for index, (name, _) in enumerate(called)]
    chunks = [*begun, *(call(index, None, parts[index].pop(0)) for index in order)]
    answer = read(Shape(name="", chunks=[*chunks, delta("tool_calls")]))

    tokens = [event for event in answer if isinstance(event, Token)]
    told = [(one.name, one.arguments) for token in tokens for one in token.tool_calls]
    assert told == called
    assert "".join(token.text for token in tokens) == ""


def cut_up(data: st.DataObject, text: str) -> Iterator[str]:
    """Cut a text at places that are drawn."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=4)))
    for start, end in itertools.pairwise([0, *cuts, len(text)]):
        yield text[start:end]


@pytest.mark.parametrize(
    "chunks",
    [
        [call(index, "f", '{"x": ') for index in range(129)],
        [call(index, "f", '{"x": "' + "y" * 1024 * 1024) for index in range(5)],
    ],
    ids=["too many", "too large together"],
)
def test_calls_that_do_not_end_are_bounded(chunks: list[Any]) -> None:
    with pytest.raises(UpstreamError, match="too large"):
        read(Shape(name="", chunks=chunks))


@pytest.mark.parametrize(
    ("logprobs", "found"),
    [
        # OpenAI and vLLM in chats, SGLang without bytes, llama.cpp with its own ids
        (
            {"content": [{"token": "é", "bytes": [195, 169], "logprob": -0.5, "top_logprobs": []}]},
            [("é", -0.5, [])],
        ),
        (
            {
                "content": [
                    {
                        "token": "A",
                        "bytes": None,
                        "logprob": -0.5,
                        "top_logprobs": [{"token": "A", "logprob": -0.5, "bytes": None}],
                    }
                ],
                "refusal": None,
            },
            [("A", -0.5, ["A"])],
        ),
        (
            {
                "content": [
                    {
                        "id": 49,
                        "token": "A",
                        "bytes": [65],
                        "logprob": -2.5,
                        "top_logprobs": [
                            {"id": 49, "token": "A", "bytes": [65], "logprob": -2.5},
                            {"id": 57, "token": "I", "bytes": [73], "logprob": -9999.0},
                        ],
                    }
                ]
            },
            [("A", -2.5, ["A", "I"])],
        ),
        # completions: lists beside each other, which may be null in places or left out
        (
            {
                "text_offset": [0, 1],
                "tokens": ["A", "b"],
                "token_logprobs": [None, -1],
                "top_logprobs": [None, {"b": -1.0, "c": -2.0}],
            },
            [("A", 0.0, []), ("b", -1.0, ["b", "c"])],
        ),
        ({"tokens": ["A"], "token_logprobs": [-1.5], "top_logprobs": None}, [("A", -1.5, [])]),
        ({"content": None, "refusal": None}, []),
        (None, []),
    ],
)
def test_log_probabilities_of_every_shape_are_read(
    logprobs: Any, found: list[tuple[str, float, list[str]]]
) -> None:
    upstream = UpstreamRef(name="gpu", url="http://gpu/v1", kind="vllm", model="m")
    request = Generate(
        request_id="r",
        model=ModelRef(name="m", digest="", weights="", upstream=upstream),
        runner=RunnerOptions(num_ctx=10),
        prompt=ChatPrompt(messages=(ChatMessage(role="user", content="Hi"),), template=""),
        sampling=Sampling(),
        top_logprobs=5,
    )
    reading = Reading(request, upstream, itertools.count().__next__)
    choice = {"index": 0, "delta": {"content": "A"}, "logprobs": logprobs}
    events, _ = reading.take(chunk_decoder.decode(json.dumps({"choices": [choice]})))
    told = [one for event in events if isinstance(event, Token) for one in event.logprobs]
    assert [
        (one.token.decode(), one.logprob, [top.token.decode() for top in one.top]) for one in told
    ] == found


def test_an_answer_that_is_not_counted_is_charged_by_its_pieces() -> None:
    unsaid = Shape(
        name="",
        kind="openai",
        chunks=[
            delta(content="Hel"),
            delta("stop", content="lo"),
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": None}},
        ],
    )
    *_, finished = read(unsaid)
    assert isinstance(finished, Finished)
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (5, 2)


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_byte_order_mark_costs_no_event(size: int) -> None:
    stream = EventStream()
    sent = b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbfb\n\n"
    found = [data for at in range(0, len(sent), size) for data in stream.feed(sent[at : at + size])]
    assert found == [b"a", b"\xef\xbb\xbfb"]

"""/v1/messages through the whole stack: messages, exact events, errors (contract 3.8)."""

import asyncio
import json
from typing import Any

import pytest

from inference.messages import (
    Cancel,
    ChatPrompt,
    DoneReason,
    FailureCode,
    Generate,
    Token,
    ToolCall,
    Usage,
)
from tests.conftest import MakeModel
from tests.contract.conftest import ABLE_TEMPLATE
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import Answer, AsgiClient
from tests.limited import SetLimits, redis_socket, redis_url, set_limits

__all__ = ["redis_socket", "redis_url", "set_limits"]

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
HELLO = [{"role": "user", "content": "Hello there you"}]
TOOL = {"name": "weather", "input_schema": {"type": "object"}}
CALL = ToolCall(id="call_a1b2c3d4", index=0, name="weather", arguments={"city": "Paris <&>"})
NOW = ToolCall(index=1, name="clock", arguments={})
USAGE = Usage(prompt_tokens=10, completion_tokens=3, cached_tokens=4, reasoning_tokens=1)
COSTS = {
    "input_tokens": 6,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 3,
    "output_tokens_details": {"thinking_tokens": 1},
}


def token(**said: Any) -> Token:
    return Token(request_id="", **said)


MIXED = Script(
    pieces=(
        token(thinking="Hm"),
        token(thinking=", yes.", text="I "),
        "look.",
        token(tool_calls=(CALL,)),
        token(text="And", tool_calls=(NOW,)),
    ),
    last_text=" done.",
    usage=USAGE,
)


@pytest.fixture
def able(transactional_db: None, make_model: MakeModel) -> str:
    return make_model("able:1b", template=ABLE_TEMPLATE)


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 50, "messages": HELLO, **fields}


async def whole_of(api: AsgiClient, model: str, **fields: Any) -> Any:
    answer = await api.post(MESSAGES, body(model, **fields))
    assert answer.status == 200, answer.text
    return answer.json()


def events_in(answer: Answer) -> list[Any]:
    """Return the data of the events, each of which says its type twice."""
    assert answer.body.endswith(b"\n\n")
    found = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


async def events_of(api: AsgiClient, model: str, **fields: Any) -> list[Any]:
    return events_in(await api.post(MESSAGES, body(model, stream=True, **fields)))


def steps_in(events: list[Any]) -> list[Any]:
    """Return what happened to the blocks: [index, type or delta]."""
    steps = []
    for event in events:
        if event["type"] == "content_block_start":
            steps.append((event["index"], event["content_block"]["type"]))
        if event["type"] == "content_block_delta":
            delta = {key: text for key, text in event["delta"].items() if key != "signature"}
            steps.append((event["index"], *delta.values()))
        if event["type"] == "content_block_stop":
            steps.append((event["index"], "stop"))
    return steps


# ---------------------------------------------------------------- whole messages


async def test_message_has_its_text_and_what_it_cost(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(usage=USAGE))
    message = await whole_of(api, model)

    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": COSTS | {"service_tier": "standard"},
    }


async def test_message_has_thinking_text_and_calls_in_this_order(
    node: FakeNode, able: str, api: AsgiClient
) -> None:
    node.scripts.append(MIXED)
    message = await whole_of(api, able, tools=[TOOL])
    thinking, text, first, second = message["content"]

    assert thinking.pop("signature")
    assert thinking == {"type": "thinking", "thinking": "Hm, yes."}
    assert text == {"type": "text", "text": "I look.And done."}
    assert first == {
        "type": "tool_use",
        "id": "call_a1b2c3d4",
        "name": "weather",
        "input": {"city": "Paris <&>"},
    }
    assert second["id"].startswith("toolu_")
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ({}, ("end_turn", None)),
        ({"reason": DoneReason.LENGTH}, ("max_tokens", None)),
        ({"stop_sequence": "END"}, ("stop_sequence", "END")),
        ({"stop_sequence": "<|im_end|>"}, ("end_turn", None)),  # the model's own
        ({"pieces": (token(tool_calls=(CALL,)),), "reason": DoneReason.LENGTH}, ("tool_use", None)),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_message_says_why_it_ended(
    node: FakeNode,
    model: str,
    api: AsgiClient,
    end: Any,
    told: Any,
    is_streamed: bool,
) -> None:
    node.scripts.append(Script(**end))
    if is_streamed:
        ended = (await events_of(api, model, stop_sequences=["END"]))[-2]["delta"]
    else:
        ended = await whole_of(api, model, stop_sequences=["END"])

    assert (ended["stop_reason"], ended["stop_sequence"]) == told


async def test_message_of_nothing_has_no_blocks(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=()))

    assert (await whole_of(api, model))["content"] == []


async def test_hidden_thinking_leaves_its_signature(
    node: FakeNode, able: str, api: AsgiClient
) -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    node.scripts.extend([MIXED, MIXED])
    whole = (await whole_of(api, able, thinking=thinking))["content"][0]
    events = await events_of(api, able, thinking=thinking)

    assert whole["thinking"] == ""
    assert whole["signature"]
    assert [event.get("delta", {}).get("type") for event in events[1:4]] == [
        None,
        "signature_delta",
        None,
    ]


# ---------------------------------------------------------------- what the engine is asked


async def test_engine_is_asked_for_what_the_message_says(
    node: FakeNode, able: str, api: AsgiClient
) -> None:
    choice = {"type": "any", "disable_parallel_tool_use": True}
    await whole_of(
        api, able, system="Be short.", tools=[TOOL], tool_choice=choice, stop_sequences=["END"]
    )
    [asked] = node.got(Generate)

    assert isinstance(asked.prompt, ChatPrompt)
    assert [message.role for message in asked.prompt.messages] == ["system", "user"]
    assert (asked.forced_tools, asked.most_calls) == (("weather",), 1)
    assert (asked.sampling.num_predict, asked.sampling.stop) == (50, ("END",))


@pytest.mark.parametrize("thinking", [{"type": "enabled", "budget_tokens": 1024}, {}])
async def test_model_that_cannot_think_is_not_refused(
    node: FakeNode, model: str, api: AsgiClient, thinking: Any
) -> None:
    node.scripts.append(Script())
    await whole_of(api, model, max_tokens=2000, thinking=thinking, output_config={"effort": "high"})
    [asked] = node.got(Generate)

    assert isinstance(asked.prompt, ChatPrompt)
    assert asked.prompt.think is None


async def test_model_that_can_think_gets_the_level(
    node: FakeNode, able: str, api: AsgiClient
) -> None:
    await whole_of(api, able, output_config={"effort": "low"})
    [asked] = node.got(Generate)

    assert isinstance(asked.prompt, ChatPrompt)
    assert asked.prompt.think == "low"


# ---------------------------------------------------------------- streams


async def test_stream_of_text_has_exactly_these_events(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(usage=USAGE))
    answer = await api.post(MESSAGES, body(model, stream=True))
    events = events_in(answer)

    assert answer.content_type == "text/event-stream"
    assert events[0]["message"].pop("id").startswith("msg_")
    assert events == [
        {
            "type": "message_start",
            "message": {
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 10,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 0,
                    "output_tokens_details": {"thinking_tokens": 0},
                    "service_tier": "standard",
                },
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hello"},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "."}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": COSTS,
        },
        {"type": "message_stop"},
    ]


async def test_blocks_open_and_close_where_the_kind_changes(
    node: FakeNode, able: str, api: AsgiClient
) -> None:
    node.scripts.append(MIXED)
    events = await events_of(api, able, tools=[TOOL])

    assert steps_in(events) == [
        (0, "thinking"),
        (0, "thinking_delta", "Hm"),
        (0, "thinking_delta", ", yes."),
        (0, "signature_delta"),
        (0, "stop"),
        (1, "text"),
        (1, "text_delta", "I "),
        (1, "text_delta", "look."),
        (1, "stop"),
        (2, "tool_use"),
        (2, "input_json_delta", '{"city":"Paris \\u003c\\u0026\\u003e"}'),
        (2, "stop"),
        (3, "text"),
        (3, "text_delta", "And"),
        (3, "stop"),
        (4, "tool_use"),
        (4, "input_json_delta", "{}"),
        (4, "stop"),
        (5, "text"),
        (5, "text_delta", " done."),
        (5, "stop"),
    ]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]


async def test_thinking_without_an_answer_is_closed(
    node: FakeNode, able: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=(token(thinking="Hm"),), reason=DoneReason.LENGTH))

    assert steps_in(await events_of(api, able))[-2:] == [(0, "signature_delta"), (0, "stop")]


async def test_late_failure_is_an_error_event_and_the_last(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(failure=FailureCode.RUNNER_CRASHED))
    events = await events_of(api, model)

    assert events[-1].pop("request_id").startswith("req_")
    assert events[-1] == {
        "type": "error",
        "error": {
            "type": "api_error",
            "message": "model runner has unexpectedly stopped, please try again",
        },
    }
    assert "message_stop" not in [event["type"] for event in events]


async def test_leaving_a_stream_ends_the_generation(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(is_held=True))
    call = api.open("POST", MESSAGES, data=body(model, stream=True))
    await call.wait_for_text("text_delta")
    await call.leave()

    await node.wait_for(Cancel)
    assert len(node.got(Cancel)) == 1


# ---------------------------------------------------------------- counting


async def test_tokens_of_a_prompt_are_counted(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.post(COUNT, {"model": model, "messages": HELLO})
    [asked] = node.got(Generate)

    assert (answer.status, answer.json()) == (200, {"input_tokens": 4})
    assert asked.renders_only
    assert asked.counts_tokens


# ---------------------------------------------------------------- errors


async def test_stranger_is_told_so_in_the_dialect(
    node: FakeNode, model: str, stranger: AsgiClient
) -> None:
    for path in (MESSAGES, COUNT):
        answer = await stranger.post(path, body(model))

        assert answer.status == 401
        assert answer.json()["type"] == "error"
        assert answer.json()["error"]["type"] == "authentication_error"


async def test_key_may_come_as_x_api_key(
    node: FakeNode, model: str, api: AsgiClient, stranger: AsgiClient
) -> None:
    key = api._headers["authorization"].removeprefix("Bearer ")
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}

    assert (await stranger.post(MESSAGES, body(model), headers=headers)).status == 200


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
async def test_missing_model_is_not_found(node: FakeNode, api: AsgiClient, path: str) -> None:
    answer = await api.post(path, body("nope"))

    assert answer.status == 404
    assert answer.json()["error"] == {
        "type": "not_found_error",
        "message": "model 'nope' not found",
    }


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "EOF"),
        (b"{", "unexpected EOF"),
        (b'{"model": "m", "max_tokens": "5"}', "max_tokens of type int"),
        (b'{"model": "m", "max_tokens": 5, "messages": []}', "messages: at least one"),
        (b'{"max_tokens": 5, "messages": [{"role": "user", "content": ""}]}', "model: field"),
        (b'{"model": "m", "max_tokens": 5, "container": "c"}', '"container" is not supported'),
    ],
)
async def test_bad_bodies_are_refused_in_the_dialect(
    node: FakeNode, api: AsgiClient, sent: bytes, told: str
) -> None:
    answer = await api.post(MESSAGES, body=sent)

    assert answer.status == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize("header", ["anthropic-workspace-id", "anthropic-user-profile-id"])
async def test_what_is_asked_for_by_header_and_not_here_is_refused(
    node: FakeNode, model: str, api: AsgiClient, header: str
) -> None:
    for path in (MESSAGES, COUNT):
        answer = await api.post(path, body(model), headers={header: "x"})

        assert answer.status == 400
        assert "is not supported by this server" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (FailureCode.QUEUE_FULL, (503, "overloaded_error")),
        (FailureCode.PROMPT_TOO_LONG, (400, "invalid_request_error")),
        (FailureCode.INTERNAL, (500, "api_error")),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_early_failures_keep_their_status(
    node: FakeNode,
    model: str,
    api: AsgiClient,
    code: FailureCode,
    told: Any,
    is_streamed: bool,
) -> None:
    node.scripts.append(Script(pieces=(), failure=code, failure_message="no"))
    answer = await api.post(MESSAGES, body(model, stream=is_streamed))

    assert (answer.status, answer.json()["error"]["type"]) == told


async def test_too_many_requests_are_told_in_the_dialect(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=1)
    await api.post(MESSAGES, body(model))
    answer = await api.post(MESSAGES, body(model))

    assert (answer.status, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", MESSAGES, 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
    ],
)
async def test_what_is_not_here_is_told_in_the_dialect(
    api: AsgiClient, method: str, path: str, status: int, kind: str
) -> None:
    answer = await api.request(method, path)

    assert answer.status == status
    assert answer.json()["error"]["type"] == kind


async def test_every_answer_has_its_request_id_under_both_names(
    node: FakeNode, model: str, api: AsgiClient, stranger: AsgiClient
) -> None:
    good = await api.post(MESSAGES, body(model))
    bad = await stranger.post(MESSAGES, body(model))

    for answer in (good, bad):
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert bad.json()["request_id"] == bad.headers["request-id"]


async def test_body_that_is_too_large_is_refused_in_the_dialect(
    api: AsgiClient, settings: Any
) -> None:
    settings.MAX_BODY_BYTES = 100
    answer = await api.post(MESSAGES, body=b" " * 101)

    assert answer.status == 413
    assert answer.json()["error"]["type"] == "request_too_large"
    assert answer.json()["request_id"] == answer.headers["request-id"]


async def test_two_answers_at_once_keep_their_blocks(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.default = Script(pause_s=0.005)
    one, other = await asyncio.gather(events_of(api, model), events_of(api, model))

    assert one[0]["message"]["id"] != other[0]["message"]["id"]
    assert steps_in(one) == steps_in(other)

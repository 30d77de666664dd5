"""Thinking and tool calls in the answers of every route that generates (contract 1.2, 1.3, 3.3)."""

import json
from typing import Any

import pytest

from inference.messages import DoneReason, Token, TokenLogprob, ToolCall
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient

HELLO = [{"role": "user", "content": "Hello"}]
OPENAI = "/v1/chat/completions"
LOGPROB = TokenLogprob(token=b"x", logprob=-1.0)
PARIS = ToolCall(id="call_a1b2c3d4", index=0, name="weather", arguments={"city": "Paris <&>"})
NOW = ToolCall(index=1, name="clock", arguments={})
PARIS_CALL = {
    "id": "call_a1b2c3d4",
    "function": {"index": 0, "name": "weather", "arguments": {"city": "Paris <&>"}},
}
NOW_CALL = {"function": {"index": 1, "name": "clock", "arguments": {}}}


def token(**said: Any) -> Token:
    return Token(request_id="", **said)


THOUGHTFUL = Script(pieces=(token(thinking="Hm"), token(thinking=", yes"), "Well", "."))
CALLING = Script(
    pieces=("I look.", token(tool_calls=(PARIS,), logprobs=(LOGPROB,)), token(tool_calls=(NOW,)))
)


async def lines_of(api: AsgiClient, path: str, model: str) -> list[Any]:
    body = {"model": model, "prompt": "Hello", "messages": HELLO}
    return (await api.post(path, body)).lines()


async def whole_of(api: AsgiClient, path: str, model: str) -> Any:
    body = {"model": model, "prompt": "Hello", "messages": HELLO, "stream": False}
    return (await api.post(path, body)).json()


async def deltas_of(api: AsgiClient, model: str) -> list[Any]:
    body = {"model": model, "messages": HELLO, "stream": True}
    events = (await api.post(OPENAI, body)).events()
    return [event["choices"][0]["delta"] for event in events[:-1]]


async def test_thinking_of_a_chat_comes_in_lines_of_its_own(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(THOUGHTFUL)
    lines = await lines_of(api, "/api/chat", model)

    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": "", "thinking": "Hm"},
        {"role": "assistant", "content": "", "thinking": ", yes"},
        {"role": "assistant", "content": "Well"},
        {"role": "assistant", "content": "."},
        {"role": "assistant", "content": ""},
    ]
    assert list(lines[0]["message"]) == ["role", "content", "thinking"]


async def test_thinking_of_a_completion_stands_behind_its_response(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(THOUGHTFUL)
    lines = await lines_of(api, "/api/generate", model)

    assert list(lines[0]) == ["model", "created_at", "response", "thinking", "done"]
    assert [line.get("thinking") for line in lines] == ["Hm", ", yes", None, None, None]
    assert [line["response"] for line in lines] == ["", "", "Well", ".", ""]


async def test_whole_chat_has_all_of_its_thinking(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(THOUGHTFUL)
    answer = await whole_of(api, "/api/chat", model)

    assert answer["message"] == {"role": "assistant", "content": "Well.", "thinking": "Hm, yes"}


async def test_whole_completion_has_all_of_its_thinking(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(THOUGHTFUL)
    answer = await whole_of(api, "/api/generate", model)

    assert list(answer)[:5] == ["model", "created_at", "response", "thinking", "done"]
    assert (answer["response"], answer["thinking"]) == ("Well.", "Hm, yes")


async def test_calls_come_whole_with_their_arguments_as_an_object(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(CALLING)
    text, first, second, final = await lines_of(api, "/api/chat", model)

    assert text["message"] == {"role": "assistant", "content": "I look."}
    assert first["message"] == {"role": "assistant", "content": "", "tool_calls": [PARIS_CALL]}
    assert second["message"] == {"role": "assistant", "content": "", "tool_calls": [NOW_CALL]}
    assert (first["done"], len(first["logprobs"])) == (False, 1)
    assert final["message"] == {"role": "assistant", "content": ""}
    assert (final["done"], final["done_reason"]) == (True, "stop")


async def test_keys_of_a_call_are_in_the_contracts_order(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(CALLING)
    _, line, _, _ = await lines_of(api, "/api/chat", model)
    [call] = line["message"]["tool_calls"]

    assert list(call) == ["id", "function"]
    assert list(call["function"]) == ["index", "name", "arguments"]


async def test_whole_chat_has_all_of_its_calls(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(CALLING)
    answer = await whole_of(api, "/api/chat", model)

    assert answer["message"] == {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [PARIS_CALL, NOW_CALL],
    }
    assert answer["done_reason"] == "stop"


async def test_a_piece_may_say_all_at_once(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.scripts.append(Script(pieces=(token(thinking="t", text="c", tool_calls=(NOW,)),)))
    line, _ = await lines_of(api, "/api/chat", model)

    assert list(line["message"]) == ["role", "content", "thinking", "tool_calls"]


async def test_arguments_keep_the_order_that_the_model_chose(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    call = ToolCall(name="f", arguments={"z": 1, "a": {"y": None, "b": [1.5, True]}})
    node.scripts.append(Script(pieces=(token(tool_calls=(call,)),)))
    answer = await api.post("/api/chat", {"model": model, "messages": HELLO, "stream": False})

    assert '"arguments":{"z":1,"a":{"y":null,"b":[1.5,true]}}' in answer.text


# ---------------------------------------------------------------- OpenAI's dialect


async def test_openai_calls_thinking_reasoning(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.default = THOUGHTFUL
    [choice] = (await whole_of(api, OPENAI, model))["choices"]

    assert choice["message"] == {
        "role": "assistant",
        "content": "Well.",
        "reasoning": "Hm, yes",
        "refusal": None,
    }
    assert await deltas_of(api, model) == [
        {"role": "assistant", "content": "", "reasoning": "Hm"},
        {"content": "", "reasoning": ", yes"},
        {"content": "Well"},
        {"content": "."},
        {},
    ]


async def test_openai_chunk_of_thinking_and_more_is_split(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("a", token(thinking="t", text="c"))))

    assert await deltas_of(api, model) == [
        {"role": "assistant", "content": "a"},
        {"reasoning": "t"},
        {"content": "c"},
        {},
    ]


async def test_openai_arguments_are_json_text(node: FakeNode, model: str, api: AsgiClient) -> None:
    node.default = CALLING
    [choice] = (await whole_of(api, OPENAI, model))["choices"]
    first, second = choice["message"]["tool_calls"]

    assert list(first) == ["id", "index", "type", "function"]
    assert first["function"]["name"] == "weather"
    assert json.loads(first["function"]["arguments"]) == {"city": "Paris <&>"}
    assert (second["index"], second["function"]["arguments"]) == (1, "{}")
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("reason", "shown"), [(DoneReason.STOP, "tool_calls"), (DoneReason.LENGTH, "length")]
)
async def test_openai_stream_ends_for_its_calls(
    node: FakeNode, model: str, api: AsgiClient, reason: DoneReason, shown: str
) -> None:
    node.scripts.append(Script(pieces=(token(tool_calls=(PARIS,)),), reason=reason))
    body = {"model": model, "messages": HELLO, "stream": True}
    call, finish, _ = (await api.post(OPENAI, body)).events()

    assert call["choices"][0]["delta"]["role"] == "assistant"
    assert call["choices"][0]["delta"]["tool_calls"][0]["id"] == "call_a1b2c3d4"
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": shown}]

"""The official JavaScript client of OpenAI (npm `openai`) against a really listening site."""

from collections.abc import Callable
from typing import Any

import pytest

from inference.messages import Cancel, ChatPrompt, FailureCode, Generate, Token, ToolCall
from tests.contract.conftest import RunningSite
from tests.contract.other_clients import openai_js_calls
from tests.fakes.engine import FAKE_WIDTH, Script

# They start Node.js, which `make test` installs.
pytestmark = [pytest.mark.slow, pytest.mark.beside]

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CALLS = (
    ToolCall(name="get_weather", arguments={"city": "Oslo"}, id="call_1", index=0),
    ToolCall(name="get_weather", arguments={"city": "Rome"}, id="call_2", index=1),
)
CHAT = "chat.completions.create"

# What is called with what, by the class and status of the error.
REFUSED: dict[tuple[str, int], list[tuple[str, Any]]] = {
    ("NotFoundError", 404): [
        (CHAT, {"model": "nope", "messages": HELLO}),
        (CHAT, {"model": "nope", "messages": HELLO, "stream": True}),
        ("completions.create", {"model": "nope", "prompt": "x"}),
        ("embeddings.create", {"model": "nope", "input": "x"}),
        ("models.retrieve", "nope"),
        ("responses.create", {"model": "nope", "input": "x"}),
        ("responses.retrieve", "resp_nope"),
    ],
    ("BadRequestError", 400): [
        (CHAT, {"model": "nope", "messages": []}),
        ("embeddings.create", {"model": "nope", "input": []}),
        ("responses.create", {"model": "nope", "input": 1}),
    ],
}

Js = Callable[..., dict[str, Any]]


@pytest.fixture
def js(site: RunningSite) -> Js:
    """Makes one call and returns its outcome."""

    def call(method: str, *args: Any, **how: Any) -> dict[str, Any]:
        key = how.pop("key", site.key)
        return openai_js_calls(site.url, key, [{"method": method, "args": args, **how}])[0]

    return call


def test_chat_returns_the_answer_and_a_request_id(js: Js, model: str) -> None:
    answer = js(CHAT, {"model": model, "messages": HELLO})

    [choice] = answer["value"]["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello.", "stop")
    assert answer["value"]["usage"]["total_tokens"] == 13
    assert answer["request_id"].startswith("req_")


def test_chat_streams_the_answer(js: Js, model: str) -> None:
    body = {"model": model, "messages": HELLO, "stream": True}
    parts = js(CHAT, {**body, "stream_options": {"include_usage": True}})["parts"]

    told = [choice for part in parts for choice in part["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in told) == "Hello."
    assert told[0]["delta"]["role"] == "assistant"
    assert told[-1]["finish_reason"] == "stop"
    assert len({part["id"] for part in parts}) == 1
    assert parts[-1]["choices"] == []
    assert parts[-1]["usage"]["completion_tokens"] == 3


def test_stream_helper_puts_the_answer_together(js: Js, model: str) -> None:
    body = {"model": model, "messages": HELLO}
    final = js("chat.completions.stream", body, helper="finalChatCompletion")["final"]

    assert final["choices"][0]["message"]["content"] == "Hello."
    assert final["choices"][0]["finish_reason"] == "stop"


def test_stream_helper_puts_tool_calls_together(js: Js, site: RunningSite, able_model: str) -> None:
    site.node.scripts.append(Script(pieces=(Token(request_id="", tool_calls=CALLS),)))
    body = {"model": able_model, "messages": HELLO, "tools": [TOOL]}
    final = js("chat.completions.stream", body, helper="finalChatCompletion")["final"]

    choice = final["choices"][0]
    calls = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["id"] for call in calls] == ["call_1", "call_2"]
    assert [call["function"]["arguments"] for call in calls] == [
        '{"city":"Oslo"}',
        '{"city":"Rome"}',
    ]


def test_tool_calls_come_whole(js: Js, site: RunningSite, able_model: str) -> None:
    site.node.scripts.append(Script(pieces=(Token(request_id="", tool_calls=CALLS[:1]),)))
    body = {"model": able_model, "messages": HELLO, "tools": [TOOL]}
    [choice] = js(CHAT, body)["value"]["choices"]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


def test_parse_returns_the_object(js: Js, site: RunningSite, model: str) -> None:
    schema = {"type": "object", "properties": {"number": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    site.node.scripts.append(Script(pieces=('{"number":', " 4}")))
    body = {"model": model, "messages": HELLO, "response_format": form}
    [choice] = js("chat.completions.parse", body)["value"]["choices"]

    assert choice["message"]["content"] == '{"number": 4}'
    assert '"number"' in site.wait_for(Generate).json_schema


def test_aborted_stream_cancels_the_generation(js: Js, site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=("a",), is_held=True))
    body = {"model": model, "messages": HELLO, "stream": True}
    parts = js(CHAT, body, abort_after=1)["parts"]

    assert parts[-1] == "aborted"
    site.wait_for(Cancel)


def test_completion_returns_the_text(js: Js, model: str) -> None:
    [choice] = js("completions.create", {"model": model, "prompt": "Hello"})["value"]["choices"]

    assert (choice["text"], choice["finish_reason"]) == ("Hello.", "stop")


def test_completion_streams_the_text(js: Js, model: str) -> None:
    body = {"model": model, "prompt": "Hello", "stream": True}
    parts = js("completions.create", body)["parts"]

    told = [choice for part in parts for choice in part["choices"]]
    assert "".join(choice["text"] for choice in told) == "Hello."
    assert told[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("more", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_embeddings_are_numbers(js: Js, model: str, more: dict[str, str]) -> None:
    # Where no format is asked for, the client asks for base64 and decodes it itself.
    found = js("embeddings.create", {"model": model, "input": ["a", "b"], **more})["value"]

    assert [len(entry["embedding"]) for entry in found["data"]] == [FAKE_WIDTH] * 2
    assert isinstance(found["data"][0]["embedding"][0], float)


def test_models_are_listed_and_retrieved(js: Js, model: str) -> None:
    [listed] = js("models.list")["value"]["data"]
    retrieved = js("models.retrieve", model)["value"]

    assert listed == retrieved
    assert (listed["id"], listed["owned_by"]) == (model, "library")


def test_model_with_slashes_is_retrieved(js: Js, model: str) -> None:
    # The client escapes what stands in a path.
    assert js("models.retrieve", f"library/{model}")["value"]["object"] == "model"


def test_response_returns_the_text(js: Js, model: str) -> None:
    answer = js("responses.create", {"model": model, "input": "Hello"})["value"]

    assert answer["output_text"] == "Hello."
    assert answer["status"] == "completed"


def test_response_is_kept_and_goes_on(js: Js, site: RunningSite, model: str) -> None:
    first = js("responses.create", {"model": model, "input": "Hello"})["value"]
    more = {"model": model, "input": "And?", "previous_response_id": first["id"]}
    second = js("responses.create", more)["value"]

    asked = site.node.got(Generate)[-1].prompt
    assert isinstance(asked, ChatPrompt)
    assert [message.content for message in asked.messages] == ["Hello", "Hello.", "And?"]
    assert js("responses.retrieve", second["id"])["value"]["id"] == second["id"]


def test_responses_stream_helper_puts_the_answer_together(js: Js, model: str) -> None:
    body = {"model": model, "input": "Hello"}
    made = js("responses.stream", body, helper="finalResponse")

    assert made["final"]["output_text"] == "Hello."
    assert made["parts"][-1]["type"] == "response.completed"


def test_errors_are_of_the_clients_own_classes(site: RunningSite, model: str) -> None:
    # In one process: each of them starts Node.js.
    refused = {name: [{"method": m, "args": [arg]} for m, arg in REFUSED[name]] for name in REFUSED}
    for (name, status), calls in refused.items():
        for outcome in openai_js_calls(site.url, site.key, calls):
            error = outcome["error"]
            assert (error["name"], error["is_own"], error["status"]) == (name, True, status)


def test_refused_field_is_named(js: Js, model: str) -> None:
    error = js(CHAT, {"model": model, "messages": HELLO, "audio": {"voice": "a"}})["error"]

    assert (error["name"], error["param"]) == ("BadRequestError", "audio")


def test_wrong_key_is_an_authentication_error(js: Js) -> None:
    error = js("models.list", key="nonsense")["error"]

    assert (error["name"], error["status"]) == ("AuthenticationError", 401)
    assert error["code"] == "invalid_api_key"


def test_busy_server_is_an_internal_server_error(js: Js, site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=(), failure=FailureCode.QUEUE_FULL))
    error = js(CHAT, {"model": model, "messages": HELLO})["error"]

    assert (error["name"], error["status"]) == ("InternalServerError", 503)


@pytest.mark.parametrize(
    ("method", "body"),
    [(CHAT, {"messages": HELLO}), ("completions.create", {"prompt": "Hello"})],
)
def test_late_failure_is_thrown(
    js: Js, site: RunningSite, model: str, method: str, body: dict[str, Any]
) -> None:
    site.node.scripts.append(
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )
    error = js(method, {"model": model, "stream": True, **body})["error"]

    assert (error["name"], error["is_own"]) == ("APIError", True)
    assert "gone" in error["message"]


def test_late_failure_of_a_response_is_thrown(js: Js, site: RunningSite, model: str) -> None:
    site.node.scripts.append(
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )
    outcome = js("responses.create", {"model": model, "input": "Hello", "stream": True})

    # The client throws for an event named error, and hands on one that says response.failed.
    assert "gone" in str(outcome)

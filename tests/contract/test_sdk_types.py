"""Every kind of reply under `/v1`, in all its forms, is what OpenAI's SDK says it is."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from asgiref.sync import sync_to_async
from msgspec import structs
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.model_deleted import ModelDeleted
from openai.types.responses import Response, ResponseItemList
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from pydantic import ValidationError

from inference.messages import (
    DoneReason,
    FailureCode,
    PromptScored,
    Token,
    TokenLogprob,
    ToolCall,
    TopToken,
)
from models_app.models import User
from tests.conftest import MakeModel
from tests.contract.conftest import ABLE_TEMPLATE
from tests.contract.sdk_types import checked, checked_chunks, checked_response_events
from tests.fakes.engine import USAGE, FakeNode, Script
from tests.fakes.http import AsgiClient

TOOL: Final = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FLAT_TOOL: Final = {"type": "function", "name": "f", "parameters": {"type": "object"}}
HELLO: Final = [{"role": "user", "content": "Hello"}]
LOGPROB: Final = TokenLogprob(token=b"Hi", logprob=-0.5, top=(TopToken(b"Hi", -0.5),))
CALLS: Final = (
    ToolCall(name="f", arguments={"x": 1}, id="call_1"),
    ToolCall(name="f", arguments={}, id="call_2", index=1),
)
ALL_USED: Final = structs.replace(USAGE, cached_tokens=4, reasoning_tokens=2)
# All that an answer can have: thinking, text with its log probabilities, calls.
RICH: Final = Script(
    pieces=(
        Token(request_id="", thinking="Hm"),
        Token(request_id="", text="Hi", logprobs=(LOGPROB,)),
        Token(request_id="", tool_calls=CALLS),
    ),
    usage=ALL_USED,
)
SCRIPTS: Final = {
    "plain": Script(),
    "rich": RICH,
    "cut": Script(reason=DoneReason.LENGTH, last_text="!"),
    "empty": Script(pieces=()),
    "two": Script(pieces=tuple(Token(request_id="", text=t, choice=i) for i, t in enumerate("ab"))),
}


@pytest.fixture
def able(transactional_db: None, make_model: MakeModel) -> str:
    """A model that thinks and calls tools."""
    return make_model("able:1b", template=ABLE_TEMPLATE)


def _chat(name: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"messages": HELLO, "n": 2 if name == "two" else 1}
    return asked | {"tools": [TOOL], "logprobs": True, "top_logprobs": 1}


def _completion(name: str) -> dict[str, Any]:
    return {"prompt": "Hello", "n": 2 if name == "two" else 1, "logprobs": 1}


def _response() -> dict[str, Any]:
    more = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    return {"input": "Hello", "tools": [FLAT_TOOL], "metadata": {"a": "b"}, **more}


STREAMED: Final = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_chat_completion(node: FakeNode, api: AsgiClient, able: str, name: str) -> None:
    node.scripts.append(SCRIPTS[name])
    answer = await api.post("/v1/chat/completions", {"model": able, **_chat(name)})
    found = checked(ChatCompletion, answer.body)

    assert found.usage is not None
    assert found.usage.prompt_tokens_details is not None
    assert found.usage.completion_tokens_details is not None
    if name == "rich":
        assert found.choices[0].finish_reason == "tool_calls"
        assert found.usage.prompt_tokens_details.cached_tokens == 4
        assert found.usage.completion_tokens_details.reasoning_tokens == 2


@pytest.mark.parametrize("name", SCRIPTS)
async def test_chat_completion_chunks(
    node: FakeNode, api: AsgiClient, able: str, name: str
) -> None:
    node.scripts.append(SCRIPTS[name])
    answer = await api.post("/v1/chat/completions", {"model": able, **_chat(name), **STREAMED})
    chunks = checked_chunks(ChatCompletionChunk, answer)

    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    for index in range(2 if name == "two" else 1):
        own = [c for chunk in chunks for c in chunk.choices if c.index == index]
        assert [choice.delta.role for choice in own if choice.delta.role] == ["assistant"]
        assert [choice.finish_reason is None for choice in own[:-1]] == [True] * (len(own) - 1)
        assert own[-1].finish_reason is not None


@pytest.mark.parametrize("name", ["plain", "cut", "two"])
async def test_completion(node: FakeNode, api: AsgiClient, able: str, name: str) -> None:
    node.scripts.append(SCRIPTS[name])
    answer = await api.post("/v1/completions", {"model": able, **_completion(name)})

    assert checked(Completion, answer.body).usage is not None


@pytest.mark.parametrize("name", ["plain", "cut", "two"])
async def test_completion_chunks(node: FakeNode, api: AsgiClient, able: str, name: str) -> None:
    node.scripts.append(SCRIPTS[name])
    answer = await api.post("/v1/completions", {"model": able, **_completion(name), **STREAMED})
    # The SDK has one type for the whole and for chunks, in which OpenAI's own API sends null here.
    filled = answer.body.replace(b'"finish_reason":null', b'"finish_reason":"stop"')
    chunks = checked_chunks(Completion, replace(answer, chunks=(filled,)))

    assert chunks[-1].usage is not None
    assert b'"finish_reason":null' in answer.body


async def test_completion_with_echo_and_logprobs(
    node: FakeNode, api: AsgiClient, able: str
) -> None:
    scored = PromptScored(request_id="", logprobs=(TokenLogprob(b"Hello", 0.0), LOGPROB))
    node.scripts.append(Script(pieces=(scored, "a")))
    body = {"model": able, "prompt": "HelloHi", "echo": True, "logprobs": 1}
    told = (await api.post("/v1/completions", body)).json()
    # The first token has none, for which OpenAI's own API sends null; the SDK's type has no null.
    logprobs = told["choices"][0]["logprobs"]
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    logprobs["token_logprobs"][0], logprobs["top_logprobs"][0] = 0.0, {}
    [choice] = checked(Completion, json.dumps(told).encode()).choices

    assert choice.text == "HelloHia"


@pytest.mark.parametrize("more", [{}, {"encoding_format": "float"}, {"dimensions": 2}])
async def test_embeddings(node: FakeNode, api: AsgiClient, able: str, more: dict[str, Any]) -> None:
    answer = await api.post("/v1/embeddings", {"model": able, "input": ["a", "b"], **more})

    assert len(checked(CreateEmbeddingResponse, answer.body).data) == 2


async def test_models(node: FakeNode, api: AsgiClient, able: str) -> None:
    listed = (await api.get("/v1/models")).json()
    one = await api.get(f"/v1/models/{able}")

    assert listed["object"] == "list"
    [found] = [checked(Model, json.dumps(entry).encode()) for entry in listed["data"]]
    assert checked(Model, one.body) == found


async def test_deleted_model(
    node: FakeNode, api: AsgiClient, alice: User, make_model: MakeModel
) -> None:
    name = await sync_to_async(make_model)("mine", alice)
    answer = await api.request("DELETE", f"/v1/models/{name}")

    assert checked(ModelDeleted, answer.body).deleted


@pytest.mark.parametrize("name", ["plain", "rich", "cut", "empty"])
async def test_response(node: FakeNode, api: AsgiClient, able: str, name: str) -> None:
    node.scripts.append(SCRIPTS[name])
    answer = await api.post("/v1/responses", {"model": able, **_response()})
    found = checked(Response, answer.body)

    assert found.usage is not None
    assert found.status == ("incomplete" if name == "cut" else "completed")


@pytest.mark.parametrize("name", ["plain", "rich", "cut", "empty"])
async def test_response_events(node: FakeNode, api: AsgiClient, able: str, name: str) -> None:
    node.scripts.append(SCRIPTS[name])
    answer = await api.post("/v1/responses", {"model": able, **_response(), "stream": True})
    events = checked_response_events(answer)

    _check_order(events)
    last = "response.incomplete" if name == "cut" else "response.completed"
    assert events[-1].type == last
    assert checked(Response, events[-1].response.model_dump_json().encode()).usage is not None


def _check_order(events: Sequence[Any]) -> None:
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    added = [event for event in events if event.type == "response.output_item.added"]
    done = [event for event in events if event.type == "response.output_item.done"]
    assert [event.output_index for event in added] == list(range(len(added)))
    assert [event.output_index for event in done] == list(range(len(added)))


async def test_events_of_a_response_that_fails(node: FakeNode, api: AsgiClient, able: str) -> None:
    failing = Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    node.scripts.append(failing)
    answer = await api.post("/v1/responses", {"model": able, **_response(), "stream": True})
    types = [event.type for event in checked_response_events(answer)]

    assert {"response.failed", "error"} & set(types[-2:])
    assert "response.completed" not in types


async def test_stored_response_and_its_items(node: FakeNode, api: AsgiClient, able: str) -> None:
    made = checked(Response, (await api.post("/v1/responses", {"model": able, **_response()})).body)
    kept = await api.get(f"/v1/responses/{made.id}")
    items = await api.get(f"/v1/responses/{made.id}/input_items")

    assert checked(Response, kept.body) == made
    assert len(checked(ResponseItemList, items.body).data) == 1


async def test_input_tokens(node: FakeNode, api: AsgiClient, able: str) -> None:
    answer = await api.post("/v1/responses/input_tokens", {"model": able, "input": "Hello"})

    assert checked(InputTokenCountResponse, answer.body).input_tokens > 0


def test_missing_field_is_found() -> None:
    with pytest.raises(ValidationError):
        checked(Model, b'{"id": "a", "object": "model", "created": 1}')


def test_wrong_type_is_found() -> None:
    with pytest.raises(ValidationError):
        checked(Model, b'{"id": "a", "object": "model", "created": "1", "owned_by": "a"}')

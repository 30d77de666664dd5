"""The official `openai` Python client's `responses` against a really listening site."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pydantic
import pytest
from openai.types.responses import (
    Response,
    ResponseStreamEvent,
)
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from openai.types.responses.response_item import ResponseItem

from inference.messages import (
    Cancel,
    DoneReason,
    FailureCode,
    Generate,
    Token,
    TokenLogprob,
    ToolCall,
    TopToken,
)
from models_app.keys import create_key
from models_app.models import User
from tests.contract.conftest import RunningSite
from tests.fakes.engine import Script

LIGHT: Any = {
    "type": "function",
    "name": "light",
    "description": "Switches the light",
    "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}},
    "strict": True,
}
CALL = ToolCall(name="light", arguments={"on": True}, id="call_1")
EVENT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseStreamEvent)
ITEM: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseItem)


class Weather(pydantic.BaseModel):
    """What a model is to answer."""

    city: str
    degrees: int


class Light(pydantic.BaseModel):
    """A function's parameters."""

    on: bool


@pytest.fixture
def client(site: RunningSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        yield client


@pytest.fixture
def bobs_client(site: RunningSite, bob: User) -> Iterator[openai.OpenAI]:
    key = create_key(bob, "client")[1]
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=key, max_retries=0) as client:
        yield client


def piece(**fields: Any) -> Token:
    return Token(request_id="", **fields)


def rich_script() -> Script:
    """Thinking, text with log probabilities, a call."""
    other = TopToken(token=b"I", logprob=-0.5)
    logprobs = (TokenLogprob(token=b"I", logprob=-0.5, top=(other,)),)
    return Script(
        pieces=(
            piece(thinking="Hm."),
            piece(text="I", logprobs=logprobs),
            piece(tool_calls=(CALL,)),
        )
    )


def raw(site: RunningSite, path: str, body: Any = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {site.key}"}
    method = "GET" if body is None else "POST"
    address = f"{site.url}/v1/{path}"
    answer = httpx2.request(method, address, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def test_text_comes_back(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input="Hello")

    assert answer.output_text == "Hello."
    assert answer.status == "completed"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13


def test_every_reply_satisfies_the_sdks_types(site: RunningSite, able_model: str) -> None:
    site.node.scripts.append(rich_script())
    asked = {
        "model": able_model,
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "input": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y"},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "light", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "on"},
        ],
        "tools": [LIGHT],
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    }
    made = raw(site, "responses", asked).json()
    Response.model_validate(made)
    Response.model_validate(raw(site, f"responses/{made['id']}").json())
    for item in raw(site, f"responses/{made['id']}/input_items").json()["data"]:
        ITEM.validate_python(item)
    count = raw(site, "responses/input_tokens", {"model": able_model, "input": "x"}).json()
    InputTokenCountResponse.model_validate(count)


def test_every_event_satisfies_the_sdks_types(site: RunningSite, able_model: str) -> None:
    site.node.scripts += [
        rich_script(),
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone"),
    ]
    body = {"model": able_model, "input": "x", "tools": [LIGHT], "stream": True}
    kinds = []
    for _ in range(2):
        for line in raw(site, "responses", body).text.splitlines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                assert EVENT.validate_python(event).type == event["type"]
                kinds.append(event["type"])

    assert {"response.completed", "response.failed", "error"} <= set(kinds)


def test_events_stream(client: openai.OpenAI, model: str) -> None:
    events = list(client.responses.create(model=model, input="x", stream=True))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")

    assert text == "Hello."
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"


def test_stream_helper_gathers_the_answer(
    site: RunningSite, client: openai.OpenAI, able_model: str
) -> None:
    site.node.scripts.append(rich_script())
    with client.responses.stream(model=able_model, input="x", tools=[LIGHT]) as stream:
        snapshots = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        answer = stream.get_final_response()

    assert snapshots == ["I"]
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]
    assert answer.output_text == "I"


def test_stream_helper_parses_the_text(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(Script(pieces=('{"city":"Rome",', '"degrees":30}')))
    with client.responses.stream(model=model, input="x", text_format=Weather) as stream:
        answer = stream.get_final_response()

    assert answer.output_parsed == Weather(city="Rome", degrees=30)


def test_text_is_parsed(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(Script(pieces=('{"city":"Rome","degrees":30}',)))
    answer = client.responses.parse(model=model, input="x", text_format=Weather)
    schema = json.loads(site.wait_for(Generate).json_schema)

    assert answer.output_parsed == Weather(city="Rome", degrees=30)
    assert schema["required"] == ["city", "degrees"]


def test_arguments_are_parsed(site: RunningSite, client: openai.OpenAI, able_model: str) -> None:
    site.node.scripts.append(Script(pieces=(piece(tool_calls=(CALL,)),)))
    tool: Any = openai.pydantic_function_tool(Light, name="light")["function"]
    tool["type"] = "function"
    answer = client.responses.parse(model=able_model, input="x", tools=[tool])
    [call] = answer.output

    assert call.type == "function_call"
    assert call.parsed_arguments == {"on": True}


def test_loop_of_functions_ends_in_text(
    site: RunningSite, client: openai.OpenAI, able_model: str
) -> None:
    site.node.scripts.append(Script(pieces=(piece(thinking="Hm."), piece(tool_calls=(CALL,)))))
    items: list[Any] = [{"role": "user", "content": "Light!"}]
    answer = client.responses.create(model=able_model, input=items, tools=[LIGHT], store=False)
    items += answer.output
    for item in answer.output:
        if item.type == "function_call":
            output = json.dumps(json.loads(item.arguments))
            items.append(
                {"type": "function_call_output", "call_id": item.call_id, "output": output}
            )
    last = client.responses.create(model=able_model, input=items, tools=[LIGHT], store=False)
    messages = site.node.got(Generate)[-1].prompt.messages  # type: ignore[union-attr]

    assert last.output_text == "Hello."
    assert [message.role for message in messages] == ["user", "assistant", "tool"]
    assert (messages[1].thinking, messages[2].tool_name) == ("Hm.", "light")


def test_conversation_goes_on_by_its_id(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    first = client.responses.create(model=model, input="One")
    second = client.responses.create(model=model, input="Two", previous_response_id=first.id)
    messages = site.node.got(Generate)[-1].prompt.messages  # type: ignore[union-attr]

    assert [message.content for message in messages] == ["One", "Hello.", "Two"]
    assert second.previous_response_id == first.id


def test_answer_can_be_fetched_and_deleted(client: openai.OpenAI, model: str) -> None:
    made = client.responses.create(model=model, input="One", metadata={"a": "b"})

    assert client.responses.retrieve(made.id) == made
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(made.id)


def test_input_items_come_page_by_page(client: openai.OpenAI, model: str) -> None:
    items: Any = [{"role": "user", "content": text} for text in "abcde"]
    made = client.responses.create(model=model, input=items)
    listed: Any = client.responses.input_items.list(made.id, limit=2, order="asc")
    texts = [item.content[0].text for item in listed]

    assert texts == list("abcde")


def test_listed_input_items_can_be_sent_again(client: openai.OpenAI, model: str) -> None:
    made = client.responses.create(model=model, input="One")
    listed = client.responses.input_items.list(made.id).data
    again: Any = listed

    assert client.responses.create(model=model, input=again).output_text == "Hello."


def test_input_tokens_are_counted(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(Script(rendered="one two three"))

    assert client.responses.input_tokens.count(model=model, input="x").input_tokens == 3


def test_synchronous_answer_cannot_be_cancelled(client: openai.OpenAI, model: str) -> None:
    made = client.responses.create(model=model, input="One")

    with pytest.raises(openai.BadRequestError, match="synchronous"):
        client.responses.cancel(made.id)


def test_answer_of_somebody_else_is_not_found(
    client: openai.OpenAI, bobs_client: openai.OpenAI, model: str
) -> None:
    made = client.responses.create(model=model, input="One")

    with pytest.raises(openai.NotFoundError):
        bobs_client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as caught:
        bobs_client.responses.create(model=model, input="x", previous_response_id=made.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def test_cut_answer_is_incomplete(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(Script(reason=DoneReason.LENGTH))
    answer = client.responses.create(model=model, input="x", max_output_tokens=5)

    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_refused_field_is_named(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError, match="background") as caught:
        client.responses.create(model=model, input="x", background=True)
    assert caught.value.param == "background"


def test_missing_model_is_a_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.responses.create(model="nope", input="x")


def test_late_failure_raises(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(
        Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")
    )
    kinds = []

    with pytest.raises(openai.APIError, match="gone"):
        kinds += [e.type for e in client.responses.create(model=model, input="x", stream=True)]


def test_stream_that_is_given_up_cancels(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(Script(pieces=("a",), is_held=True))
    stream = client.responses.create(model=model, input="x", stream=True)
    next(iter(stream))
    stream.close()

    site.wait_for(Cancel)


def test_asynchronous_client_works_the_same(site: RunningSite, model: str) -> None:
    async def talk() -> tuple[str, str, str]:
        async with openai.AsyncOpenAI(
            base_url=f"{site.url}/v1", api_key=site.key, max_retries=0
        ) as client:
            made = await client.responses.create(model=model, input="One")
            found = await client.responses.retrieve(made.id)
            async with client.responses.stream(
                model=model, input="Two", previous_response_id=made.id
            ) as stream:
                streamed = await stream.get_final_response()
            return made.output_text, found.output_text, streamed.output_text

    assert asyncio.run(talk()) == ("Hello.", "Hello.", "Hello.")

"""Chat completions through the official `openai` client: helpers, tools, parsing, raw answers."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Literal

import openai
import pydantic
import pytest
from openai import pydantic_function_tool
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.messages import (
    Cancel,
    DoneReason,
    FailureCode,
    Generate,
    Token,
    TokenLogprob,
    ToolCall,
    Usage,
)
from tests.contract.conftest import RunningSite
from tests.fakes.engine import Script

HELLO: Final[Any] = [{"role": "user", "content": "Hello"}]
TOOL: Final[Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
PARIS: Final = ToolCall(id="call_1", name="Weather", arguments={"city": "Paris", "unit": "C"})
OSLO: Final = ToolCall(id="call_2", name="Weather", arguments={"city": "Oslo", "unit": "F"})
FAILING: Final = Script(pieces=("a",), failure=FailureCode.RUNNER_CRASHED, failure_message="gone")


class Weather(pydantic.BaseModel):
    """The weather of a city."""

    city: str
    unit: Literal["C", "F"]


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def client(site: RunningSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0) as client:
        yield client


def async_client(site: RunningSite) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key=site.key, max_retries=0)


def calling(*calls: ToolCall, choice: int = 0) -> Token:
    return Token(request_id="", tool_calls=calls, choice=choice)


# ---------------------------------------------------------------- whole answers


def test_every_key_of_an_answer_is_one_of_the_sdk(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(Script(usage=Usage(prompt_tokens=5, reasoning_tokens=2)))
    answer = client.chat.completions.create(model=model, messages=HELLO)

    assert ChatCompletion.model_validate(answer.to_dict()).model_extra == {}
    assert answer.choices[0].message.refusal is None
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2


def test_tool_calls_are_understood(
    site: RunningSite, client: openai.OpenAI, able_model: str
) -> None:
    site.node.scripts.append(Script(pieces=(calling(PARIS, OSLO),)))
    answer = client.chat.completions.create(
        model=able_model, messages=HELLO, tools=[TOOL], tool_choice="required"
    )
    message = answer.choices[0].message

    assert answer.choices[0].finish_reason == "tool_calls"
    assert [call.id for call in message.tool_calls or []] == ["call_1", "call_2"]
    assert site.wait_for(Generate).forced_tools == ("weather",)


def test_tool_loop_goes_on_with_the_answer_of_the_tool(
    site: RunningSite, client: openai.OpenAI, able_model: str
) -> None:
    site.node.scripts.append(Script(pieces=(calling(PARIS),)))
    messages: list[Any] = [*HELLO]
    message = (
        client.chat.completions.create(model=able_model, messages=messages, tools=[TOOL])
        .choices[0]
        .message
    )
    messages += [message, {"role": "tool", "tool_call_id": "call_1", "content": "20"}]
    client.chat.completions.create(model=able_model, messages=messages, tools=[TOOL])
    prompt: Any = site.node.got(Generate)[1].prompt

    assert [turn.role for turn in prompt.messages] == ["user", "assistant", "tool"]
    assert prompt.messages[1].tool_calls == (PARIS,)
    assert prompt.messages[2].tool_name == "Weather"


def test_parse_returns_the_pydantic_object(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(Script(pieces=('{"name":"Ada",', '"age":36}')))
    answer = client.chat.completions.parse(model=model, messages=HELLO, response_format=Person)

    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    assert '"age"' in site.wait_for(Generate).json_schema


def test_parse_of_a_cut_answer_raises(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(Script(pieces=('{"name":',), reason=DoneReason.LENGTH))

    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=model, messages=HELLO, response_format=Person)


def test_parse_returns_the_arguments_of_tools(
    site: RunningSite, client: openai.OpenAI, able_model: str
) -> None:
    site.node.scripts.append(Script(pieces=(calling(PARIS),)))
    answer = client.chat.completions.parse(
        model=able_model, messages=HELLO, tools=[pydantic_function_tool(Weather)]
    )
    [call] = answer.choices[0].message.tool_calls or []
    [tool] = site.wait_for(Generate).prompt.tools

    assert call.function.parsed_arguments == Weather(city="Paris", unit="C")
    assert tool["function"]["parameters"]["additionalProperties"] is False


def test_raw_answer_has_its_headers(client: openai.OpenAI, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=HELLO)

    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.parse().choices[0].message.content == "Hello."


def test_extra_body_has_ollamas_own_fields(
    site: RunningSite, client: openai.OpenAI, able_model: str
) -> None:
    client.chat.completions.create(
        model=able_model,
        messages=HELLO,
        extra_body={"options": {"num_ctx": 1024, "top_k": 3}, "keep_alive": "1m", "think": False},
    )
    request = site.wait_for(Generate)

    assert (request.runner.num_ctx, request.sampling.top_k) == (1024, 3)
    assert (request.keep_alive_s, request.prompt.think) == (60, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("functions", [{"name": "f"}]),
        ("modalities", ["text", "audio"]),
        ("store", True),
        ("tool_choice", "required"),
        ("web_search_options", {}),
        ("n", 17),
        ("response_format", {"type": "grammar"}),
    ],
)
def test_refused_field_is_named(client: openai.OpenAI, model: str, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=HELLO, **{field: value})

    assert caught.value.param == field


# ---------------------------------------------------------------- streams


def test_every_key_of_a_chunk_is_one_of_the_sdk(client: openai.OpenAI, model: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )

    assert len(chunks) == 4
    assert all(ChatCompletionChunk.model_validate(c.to_dict()).model_extra == {} for c in chunks)


def test_stream_helper_tells_of_text(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=HELLO) as stream:
        events = list(stream)
        final = stream.get_final_completion()

    assert [event.delta for event in events if event.type == "content.delta"] == ["Hello", "."]
    assert [event.content for event in events if event.type == "content.done"] == ["Hello."]
    assert final.choices[0].finish_reason == "stop"


def test_stream_helper_parses(site: RunningSite, client: openai.OpenAI, model: str) -> None:
    site.node.scripts.append(Script(pieces=('{"name":"Ada",', '"age":36}')))
    with client.chat.completions.stream(
        model=model, messages=HELLO, response_format=Person
    ) as stream:
        final = stream.get_final_completion()

    assert final.choices[0].message.parsed == Person(name="Ada", age=36)


def test_stream_helper_tells_of_calls(
    site: RunningSite, client: openai.OpenAI, able_model: str
) -> None:
    site.node.scripts.append(Script(pieces=("Hm. ", calling(PARIS), calling(OSLO))))
    tools = [pydantic_function_tool(Weather)]
    with client.chat.completions.stream(model=able_model, messages=HELLO, tools=tools) as stream:
        done = [e for e in stream if e.type == "tool_calls.function.arguments.done"]

    assert [(event.index, event.parsed_arguments) for event in done] == [
        (0, Weather(city="Paris", unit="C")),
        (1, Weather(city="Oslo", unit="F")),
    ]


def test_stream_helper_takes_a_call_as_the_first_thing(
    site: RunningSite, client: openai.OpenAI, able_model: str
) -> None:
    site.node.scripts.append(Script(pieces=(calling(PARIS, OSLO),)))
    tools = [pydantic_function_tool(Weather)]
    with client.chat.completions.stream(model=able_model, messages=HELLO, tools=tools) as stream:
        [choice] = stream.get_final_completion().choices

    parsed = [call.function.parsed_arguments for call in choice.message.tool_calls or []]
    assert parsed == [Weather(city="Paris", unit="C"), Weather(city="Oslo", unit="F")]


def test_stream_helper_takes_choices_that_begin_out_of_order(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    pieces = tuple(Token(request_id="", text=text, choice=i) for i, text in ((2, "c"), (0, "a")))
    site.node.scripts.append(Script(pieces=pieces))
    with client.chat.completions.stream(model=model, messages=HELLO, n=3) as stream:
        final = stream.get_final_completion()

    assert [choice.message.content for choice in final.choices] == ["a", "", "c"]


def test_stream_helper_collects_log_probabilities(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    pieces = tuple(
        Token(request_id="", text=text, logprobs=(TokenLogprob(token=text.encode(), logprob=-1.0),))
        for text in "ab"
    )
    site.node.scripts.append(Script(pieces=pieces))
    with client.chat.completions.stream(model=model, messages=HELLO, logprobs=True) as stream:
        [choice] = stream.get_final_completion().choices

    assert choice.logprobs is not None
    assert [entry.token for entry in choice.logprobs.content or []] == ["a", "b"]


def test_raw_stream_has_its_headers_and_lines(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=model, messages=HELLO, stream=True
    ) as raw:
        lines = [line for line in raw.iter_lines() if line]

    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["content-type"] == "text/event-stream"
    assert lines[-1] == "data: [DONE]"


def test_failure_in_the_middle_raises_from_the_stream(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(FAILING)
    said: list[str | None] = []
    with pytest.raises(openai.APIError, match="gone"):
        for chunk in client.chat.completions.create(model=model, messages=HELLO, stream=True):
            said += [choice.delta.content for choice in chunk.choices]

    assert said == ["a"]


def test_failure_in_the_middle_raises_from_the_helper(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(FAILING)

    with (
        pytest.raises(openai.APIError, match="gone"),
        client.chat.completions.stream(model=model, messages=HELLO) as stream,
    ):
        stream.until_done()


def test_helper_that_is_left_early_cancels(
    site: RunningSite, client: openai.OpenAI, model: str
) -> None:
    site.node.scripts.append(Script(pieces=("a",), is_held=True))
    with client.chat.completions.stream(model=model, messages=HELLO) as stream:
        next(stream)

    site.wait_for(Cancel)


# ---------------------------------------------------------------- async


async def test_async_client_gets_the_text(site: RunningSite, model: str) -> None:
    async with async_client(site) as client:
        answer = await client.chat.completions.create(model=model, messages=HELLO)

    assert answer.choices[0].message.content == "Hello."


async def test_async_client_streams(site: RunningSite, model: str) -> None:
    async with async_client(site) as client:
        stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)
        deltas = [chunk.choices[0].delta.content async for chunk in stream]

    assert deltas == ["Hello", ".", None]


async def test_async_helper_parses(site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=('{"name":"Ada",', '"age":36}')))
    async with (
        async_client(site) as client,
        client.chat.completions.stream(
            model=model, messages=HELLO, response_format=Person
        ) as stream,
    ):
        final = await stream.get_final_completion()

    assert final.choices[0].message.parsed == Person(name="Ada", age=36)


async def test_async_failure_in_the_middle_raises(site: RunningSite, model: str) -> None:
    site.node.scripts.append(FAILING)
    async with async_client(site) as client:
        stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="gone"):
            _ = [chunk async for chunk in stream]


async def test_async_stream_that_is_closed_cancels(site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=("a",), is_held=True))
    async with async_client(site) as client:
        stream = await client.chat.completions.create(model=model, messages=HELLO, stream=True)
        await anext(stream)
        await stream.close()

    await asyncio.to_thread(site.wait_for, Cancel)


async def test_async_calls_at_the_same_time_are_all_answered(site: RunningSite, model: str) -> None:
    async with async_client(site) as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model=model, messages=HELLO) for _ in range(5))
        )

    assert len({answer.id for answer in answers}) == 5

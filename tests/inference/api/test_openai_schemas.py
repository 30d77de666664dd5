"""The body of /v1/chat/completions becomes an internal request (contract 3.1, 3.2, 2.7)."""

from typing import Any

import pytest

from inference.api.openai.chat_schemas import ChatCompletionBody
from inference.messages import ChatMessage, ToolCall
from inference.requests import ChatRequest, KeepAlive
from ollamasite.bodies import decode
from ollamasite.errors import ServiceError

HELLO = {"role": "user", "content": "Hello"}


def read(**body: Any) -> ChatRequest:
    whole = {"model": "m", "messages": [HELLO], **body}
    return decode(whole, ChatCompletionBody, "openai.ChatCompletionRequest").to_request()


def read_message(**message: Any) -> tuple[ChatMessage, ...]:
    return read(messages=[message]).messages


def refusal(**body: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        read(**body)
    return caught.value


def test_stream_is_off_by_default() -> None:
    assert decode({}, ChatCompletionBody, "openai.ChatCompletionRequest").stream is False


def test_temperature_and_top_p_are_one_when_absent() -> None:
    assert read().options == {"temperature": 1.0, "top_p": 1.0}


def test_sampling_fields_become_options() -> None:
    request = read(
        temperature=0,
        top_p=0.5,
        seed=7,
        stop=["a", "b"],
        max_tokens=5,
        frequency_penalty=0.1,
        presence_penalty=0.2,
    )

    assert request.options == {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["a", "b"],
        "num_predict": 5,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
    }


def test_max_completion_tokens_go_over_max_tokens() -> None:
    assert read(max_completion_tokens=3, max_tokens=9).options["num_predict"] == 3


@pytest.mark.parametrize(
    ("stop", "stops"), [("x", ["x"]), (["x", 3, None], ["x"]), (3, None), (None, None)]
)
def test_stop_is_a_text_or_a_list_of_texts(stop: Any, stops: Any) -> None:
    assert read(stop=stop).options.get("stop") == stops


def test_extra_options_stand_between_defaults_and_openais_fields() -> None:
    options = read(options={"temperature": 0.3, "num_ctx": 512, "seed": 1}, seed=2).options

    assert options == {"temperature": 0.3, "top_p": 1.0, "num_ctx": 512, "seed": 2}


def test_keep_alive_is_read_as_an_extra_field() -> None:
    assert read(keep_alive="1m").keep_alive == KeepAlive(seconds=60)


@pytest.mark.parametrize("body", [{"messages": []}, {"messages": None}])
def test_messages_must_be_there(body: dict[str, Any]) -> None:
    error = refusal(**body)

    assert (error.status, error.message) == (400, "[] is too short - 'messages'")


def test_model_must_be_there() -> None:
    assert refusal(model="").message == "model is required"


def test_developer_is_another_word_for_system() -> None:
    assert read_message(role="developer", content="x") == (ChatMessage(role="system", content="x"),)


def test_parts_of_text_are_joined_by_a_blank_line() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert read_message(role="user", content=parts) == (ChatMessage(role="user", content="a\n\nb"),)


def test_no_parts_are_no_message() -> None:
    assert read_message(role="user", content=[]) == ()


@pytest.mark.parametrize("message", [{"content": None}, {}])
def test_content_may_be_null_or_missing(message: dict[str, Any]) -> None:
    assert read_message(role="assistant", **message) == (ChatMessage(role="assistant"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "invalid message content type: float64"),
        (True, "invalid message content type: bool"),
        ({}, "invalid message content type: map[string]interface {}"),
        (["text"], "invalid message format"),
        ([{"type": "text"}], "invalid message format"),
        ([{"type": "video"}], "invalid message format"),
        ([{"type": "image_url"}], "invalid message format"),
        ([{"type": "image_url", "image_url": "ftp://x"}], "invalid image input"),
        ([{"type": "image_url", "image_url": "data:image/png;base64,?"}], "invalid image input"),
        (
            [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        ([{"type": "image_url", "image_url": "QUJD"}], "invalid image input"),
        ([{"type": "refusal"}], "invalid message format"),
        ([{"type": "input_audio"}], '"input_audio" is not supported by this server'),
        ([{"type": "file"}], '"file" is not supported by this server'),
    ],
)
def test_content_of_another_kind_is_refused(content: Any, message: str) -> None:
    error = refusal(messages=[{"role": "user", "content": content}])

    assert (error.status, error.message, error.param) == (400, message, "messages")


def test_earlier_calls_keep_their_id_and_arguments() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}

    assert read_message(role="assistant", content=None, tool_calls=[call]) == (
        ChatMessage(
            role="assistant",
            tool_calls=(ToolCall(id="call_1", name="f", arguments={"a": 1}),),
        ),
    )


@pytest.mark.parametrize("arguments", ["", "x", "[]", "3", "[" * 100_000])
def test_arguments_must_be_a_json_object(arguments: str) -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    error = refusal(messages=[{"role": "assistant", "tool_calls": [call]}])

    assert (error.status, error.message) == (400, "invalid tool call arguments")


def test_tool_message_is_named_after_the_call_it_answers() -> None:
    call = {"id": "call_1", "function": {"name": "f", "arguments": "{}"}}
    messages = read(
        messages=[
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "r"}]},
        ]
    ).messages

    assert messages[1] == ChatMessage(
        role="tool", content="r", tool_name="f", tool_call_id="call_1"
    )


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_becomes_thinking(field: str) -> None:
    [message] = read_message(role="assistant", content="x", **{field: "why"})

    assert message.thinking == "why"


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", "low"), ("low", "low"), ("xhigh", "max"), ("", None)],
)
def test_effort_becomes_think(effort: str, think: Any) -> None:
    assert read(reasoning_effort=effort).think == think
    assert read(reasoning={"effort": effort}).think == think


def test_unknown_effort_is_refused() -> None:
    assert refusal(reasoning_effort="huge").message.startswith('invalid reasoning value: "huge"')


def test_top_logprobs_have_a_range() -> None:
    assert refusal(top_logprobs=21).message == "top_logprobs must be between 0 and 20"


def test_alternatives_without_log_probabilities_are_refused() -> None:
    error = refusal(top_logprobs=2)

    assert (error.status, error.param) == (400, "top_logprobs")


@pytest.mark.parametrize("think", [True, False, "low"])
def test_think_goes_over_the_effort(think: Any) -> None:
    assert read(think=think, reasoning_effort="high").think == think


@pytest.mark.parametrize("count", [0, -1, 17, 10**18])
def test_number_of_choices_has_a_range(count: int) -> None:
    error = refusal(n=count)

    assert (error.status, error.message, error.param) == (400, "n must be between 1 and 16", "n")


@pytest.mark.parametrize(("count", "choices"), [(1, 1), (16, 16), (None, 1)])
def test_number_of_choices_is_passed_on(count: int | None, choices: int) -> None:
    assert read(n=count).choices == choices


@pytest.mark.parametrize(
    ("response_format", "schema"),
    [
        ({"type": "text"}, ""),
        ({}, ""),
        ({"type": "json_object"}, '{"type":"object"}'),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"b": 1, "a": 2}}},
            '{"b":1,"a":2}',
        ),
        ({"type": "text", "json_schema": {"schema": {}}}, ""),
    ],
)
def test_response_format_becomes_a_schema(response_format: Any, schema: str) -> None:
    assert read(response_format=response_format).json_schema == schema


@pytest.mark.parametrize(
    ("json_schema", "message"),
    [
        ({}, "response_format.json_schema.schema is required"),
        (None, "response_format.json_schema.schema is required"),
        ({"schema": None}, "response_format.json_schema.schema is required"),
        ({"schema": 3}, 'invalid format: "3"; expected "json" or a valid JSON Schema object'),
        (
            3,
            "json: cannot unmarshal number into Go struct field"
            " ChatCompletionRequest.response_format.json_schema of type openai.JsonSchema",
        ),
    ],
)
def test_schema_that_is_none_is_refused(json_schema: Any, message: str) -> None:
    error = refusal(response_format={"type": "json_schema", "json_schema": json_schema})

    assert (error.status, error.message) == (400, message)


def test_response_format_of_another_type_is_refused() -> None:
    error = refusal(response_format={"type": "grammar"})

    assert (error.status, error.param) == (400, "response_format")


@pytest.mark.parametrize("strict", [True, False, None])
def test_schema_is_enforced_whether_it_is_strict_or_not(strict: bool | None) -> None:
    json_schema = {"name": "x", "strict": strict, "schema": {"type": "object"}}
    request = read(response_format={"type": "json_schema", "json_schema": json_schema})

    assert request.json_schema == '{"type":"object"}'


@pytest.mark.parametrize(
    ("body", "count"),
    [({"logprobs": True, "top_logprobs": 2}, 2), ({"logprobs": True}, 0), ({}, None)],
)
def test_logprobs_are_passed_on(body: dict[str, Any], count: int | None) -> None:
    assert read(**body).top_logprobs == count


def test_logit_bias_becomes_pairs() -> None:
    assert read(logit_bias={"50256": -100, "7": 0.5, "007": 1}).logit_bias == (
        (50256, -100.0),
        (7, 1.0),
    )


@pytest.mark.parametrize("key", ["", "x", "-1", "1.5", " 1", "²", "٣", "2147483648", "9" * 400])
def test_logit_bias_needs_token_ids(key: str) -> None:
    error = refusal(logit_bias={key: 1})

    assert (error.status, error.message) == (400, "logit_bias must have token ids as its keys")


@pytest.mark.parametrize("value", [101, -100.5, True, "1", None, [], {}])
def test_logit_bias_has_a_range(value: Any) -> None:
    error = refusal(logit_bias={"1": value})

    assert (error.status, error.message) == (
        400,
        "logit_bias must have values between -100 and 100",
    )


def test_logit_bias_has_a_largest_size() -> None:
    error = refusal(logit_bias={str(token): 1 for token in range(1025)})

    assert error.message == "logit_bias must have at most 1024 entries"


@pytest.mark.parametrize(
    "url",
    [
        {"url": "data:image/png;base64,AAAA"},
        "data:image/jpeg;base64,AAAA",
        "data:image/webp;base64,AAAA",
        "data:image/gif;base64,AAAA",
        "data:;base64,AAAA",
    ],
)
def test_image_beside_text_is_a_message_of_its_own(url: Any) -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": url}]

    assert read_message(role="user", content=parts) == (
        ChatMessage(role="user", content="What is it?"),
        ChatMessage(role="user", images=(b"\0\0\0",)),
    )


def test_tool_message_with_an_image_stays_whole() -> None:
    image = {"type": "image_url", "image_url": "data:image/png;base64,AAAA"}
    parts = [{"type": "text", "text": "a"}, image]

    assert read_message(role="tool", tool_call_id="1", content=parts) == (
        ChatMessage(role="tool", content="a", images=(b"\0\0\0",), tool_call_id="1"),
    )


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1},
        {"n": None},
        {"response_format": {"type": "text"}},
        {"logit_bias": {}},
        {"stream_options": None},
        {"store": False, "metadata": {}, "parallel_tool_calls": True, "tool_choice": "none"},
    ],
)
def test_fields_that_ask_for_nothing_are_fine(body: dict[str, Any]) -> None:
    assert read(**body).messages == (ChatMessage(role="user", content="Hello"),)


def test_wrong_types_are_refused_in_gos_words() -> None:
    assert refusal(model=3).message == (
        "json: cannot unmarshal number into Go struct field ChatCompletionRequest.model"
        " of type string"
    )

"""Bodies of the native routes become internal requests, or refusals in Ollama's words."""

from typing import Any

import pytest

from inference.api.schemas import ChatBody, GenerateBody
from inference.messages import ChatMessage, ToolCall
from inference.requests import ChatRequest, CompletionRequest, KeepAlive
from models_app.errors import ModelNotFound
from ollamasite.bodies import decode
from ollamasite.errors import ServiceError

THINK_CHOICES = '"high", "medium", "low", "max", true, or false'


def generate(**body: Any) -> CompletionRequest:
    return decode({"model": "m", **body}, GenerateBody, "GenerateRequest").to_request()


def chat(**body: Any) -> ChatRequest:
    return decode({"model": "m", **body}, ChatBody, "ChatRequest").to_request()


def refusal(read: Any, **body: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        read(**body)
    return caught.value


def test_generate_takes_every_field() -> None:
    request = generate(
        prompt="p",
        system="s",
        template="t",
        context=[1, 2],
        raw=False,
        think=False,
        options={"seed": 1},
        keep_alive="5m",
        truncate=False,
        shift=True,
        suffix="x",
        images=["AAAA"],
        format="json",
        logprobs=True,
        top_logprobs=2,
    )

    assert request == CompletionRequest(
        model="m",
        prompt="p",
        system="s",
        template="t",
        context=(1, 2),
        think=False,
        options={"seed": 1},
        keep_alive=KeepAlive(seconds=300),
        truncate=False,
        shift=True,
        suffix="x",
        images=(b"\0\0\0",),
        json_schema='{"type":"object"}',
        top_logprobs=2,
    )


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": None}, {"system": "s"}])
def test_generate_without_a_prompt_is_a_load(body: dict[str, Any]) -> None:
    assert generate(**body).is_load


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": None}])
def test_chat_without_messages_is_a_load(body: dict[str, Any]) -> None:
    assert chat(**body).is_load


def test_name_is_an_older_word_for_model() -> None:
    body = decode({"name": "old", "prompt": "x"}, GenerateBody, "GenerateRequest")

    assert body.to_request().model == "old"


def test_keys_are_matched_whatever_their_case() -> None:
    body = decode({"MODEL": "m", "Prompt": "x", "Stream": False}, GenerateBody, "GenerateRequest")

    assert (body.model, body.prompt, body.stream) == ("m", "x", False)


@pytest.mark.parametrize("body", [{}, {"stream": None}])
def test_streaming_is_the_default(body: dict[str, Any]) -> None:
    assert decode(body, ChatBody, "ChatRequest").stream is True


def test_generate_without_a_model_is_not_found() -> None:
    error = refusal(generate, model="")

    assert isinstance(error, ModelNotFound)
    assert error.message == "model '' not found"


def test_chat_without_a_model_is_a_bad_request() -> None:
    error = refusal(chat, model="")

    assert (error.status, error.message) == (400, "model is required")


def test_role_is_lower_cased() -> None:
    assert chat(messages=[{"role": "USER"}]).messages == (ChatMessage(role="user"),)


def test_message_takes_every_field() -> None:
    message = {
        "role": "assistant",
        "content": "c",
        "thinking": "t",
        "images": [],
        "tool_calls": [{"id": "x", "function": {"index": 2, "name": "f", "arguments": {"a": 1}}}],
        "tool_name": "n",
        "tool_call_id": "i",
    }

    assert chat(messages=[message]).messages == (
        ChatMessage(
            role="assistant",
            content="c",
            thinking="t",
            tool_calls=(ToolCall(id="x", index=2, name="f", arguments={"a": 1}),),
            tool_name="n",
            tool_call_id="i",
        ),
    )


@pytest.mark.parametrize("arguments", ["{}", "x", 3, [], True])
def test_tool_arguments_must_be_an_object(arguments: Any) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    error = refusal(chat, messages=[{"role": "assistant", "tool_calls": [call]}])

    assert error.status == 400
    assert error.message == "Value looks like object, but can't find closing '}' symbol"


def test_tool_keeps_what_templates_know_in_gos_order() -> None:
    weather = {
        "function": {
            "parameters": {
                "additionalProperties": False,
                "properties": {
                    "zone": {"enum": ["a"], "type": "string", "minLength": 1},
                    "city": {"type": ["string", "null"], "description": "d"},
                    "both": {"anyOf": [{"type": "string"}, {"type": "number"}]},
                },
                "required": ["city"],
                "type": "object",
            },
            "strict": True,
            "name": "weather",
        },
        "type": "function",
    }
    [tool] = chat(tools=[weather]).tools

    assert str(tool) == str(
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {
                    "type": "object",
                    "required": ["city"],
                    "properties": {
                        "zone": {"type": "string", "enum": ["a"]},
                        "city": {"type": ["string", "null"], "description": "d"},
                        "both": {"anyOf": [{"type": "string"}, {"type": "number"}]},
                    },
                },
            },
        }
    )


@pytest.mark.parametrize("think", [None, True, False, "high", "medium", "low", "max"])
def test_think_is_a_switch_or_a_level(think: Any) -> None:
    assert generate(think=think).think == think


@pytest.mark.parametrize(
    ("think", "message"),
    [
        ("x", f'invalid think value: "x" (must be {THINK_CHOICES})'),
        ("", f'invalid think value: "" (must be {THINK_CHOICES})'),
        (1, f"think must be a boolean or string ({THINK_CHOICES})"),
        ({}, f"think must be a boolean or string ({THINK_CHOICES})"),
    ],
)
def test_other_think_values_are_refused(think: Any, message: str) -> None:
    error = refusal(chat, think=think)

    assert (error.status, error.message) == (400, message)


@pytest.mark.parametrize("read", [generate, chat])
@pytest.mark.parametrize("count", [-1, 21])
def test_top_logprobs_have_a_range(read: Any, count: int) -> None:
    error = refusal(read, top_logprobs=count)

    assert (error.status, error.message) == (400, "top_logprobs must be between 0 and 20")


def test_top_logprobs_are_checked_before_the_model() -> None:
    assert refusal(generate, model="", top_logprobs=21).status == 400


@pytest.mark.parametrize(
    ("text", "byte"),
    [
        ("data:image/png;base64,AAAA", 4),
        ("AA*A", 2),
        ("AAAAA", 4),
        ("AAAAAAA", 4),
        ("AAAA\nA", 5),
        ("ä", 0),
        ("AAAAä", 4),
        ("=", 0),
        ("A===", 1),
        ("AA=", 3),
        ("AA=A", 2),
        ("AA==AAAA", 4),
        ("AA=\n=\nA", 6),
        ("AAA=A", 4),
        ("AA-_", 2),
        ("AAAA AAAA", 4),
    ],
)
def test_images_that_are_no_base64_are_refused_in_gos_words(text: str, byte: int) -> None:
    error = refusal(generate, images=["AAAA", text])

    assert error.status == 400
    assert error.message == (
        "json: cannot unmarshal string into GenerateRequest.images.1 of type api.ImageData: "
        f"illegal base64 data at input byte {byte}"
    )


def test_images_of_a_message_are_named_as_go_names_them() -> None:
    error = refusal(chat, messages=[{"role": "user", "images": ["data:"]}])

    assert error.message.startswith("json: cannot unmarshal string into Alias.images.0 of type ")


@pytest.mark.parametrize("read", [generate, chat])
@pytest.mark.parametrize("is_wished", [True, False, None])
def test_only_the_prompt_may_be_asked_for(read: Any, is_wished: bool | None) -> None:
    assert read(_debug_render_only=is_wished).renders_only is bool(is_wished)


@pytest.mark.parametrize("read", [generate, chat])
def test_format_json_is_any_object(read: Any) -> None:
    assert read(format="json").json_schema == '{"type":"object"}'


@pytest.mark.parametrize("read", [generate, chat])
def test_schema_keeps_the_order_of_its_keys(read: Any) -> None:
    schema = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"const": "ä"}}}

    assert read(format=schema).json_schema == (
        '{"type":"object","properties":{"z":{"type":"string"},"a":{"const":"ä"}},'
        '"additionalProperties":false}'
    )


@pytest.mark.parametrize("read", [generate, chat])
@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
        ({"logprobs": False, "top_logprobs": 5}, None),
        ({}, None),
    ],
)
def test_alternatives_are_told_only_beside_logprobs(
    read: Any, body: dict[str, Any], count: int | None
) -> None:
    assert read(**body).top_logprobs == count


@pytest.mark.parametrize(("body", "shift"), [({}, None), ({"shift": False}, False)])
def test_shift_is_left_to_the_model_unless_it_is_given(body: Any, shift: bool | None) -> None:
    assert chat(**body).shift is shift


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("AAAA", b"\0\0\0"),
        ("AA\r\nAA", b"\0\0\0"),
        ("AA==", b"\0"),
        ("AA=\n=\n", b"\0"),
        ("AB==", b"\0"),
        ("AAA=", b"\0\0"),
        ("", b""),
        (None, b""),
    ],
)
def test_images_are_decoded(text: str | None, image: bytes) -> None:
    assert generate(images=[text]).images == (image,)


def test_images_stay_with_their_message() -> None:
    messages = [{"role": "user", "images": ["AAAA"]}, {"role": "user", "content": "x"}]

    assert [message.images for message in chat(messages=messages).messages] == [(b"\0\0\0",), ()]


@pytest.mark.parametrize(
    "body",
    [
        {"format": None},
        {"format": ""},
        {"images": []},
        {"suffix": ""},
        {"logprobs": False},
        {"top_logprobs": 5},
        {"shift": True},
        {"unknown": {"x": 1}},
    ],
)
def test_fields_that_ask_for_nothing_are_fine(body: dict[str, Any]) -> None:
    assert generate(prompt="x", **body).prompt == "x"


@pytest.mark.parametrize(
    ("read", "body", "message"),
    [
        (
            generate,
            {"prompt": 3},
            "json: cannot unmarshal number into Go struct field GenerateRequest.prompt"
            " of type string",
        ),
        (
            generate,
            {"options": []},
            "json: cannot unmarshal array into Go struct field GenerateRequest.options"
            " of type map[string]interface {}",
        ),
        (
            chat,
            {"messages": [{"content": []}]},
            "json: cannot unmarshal array into Go struct field Alias.content of type string",
        ),
        (
            chat,
            {"messages": {}},
            "json: cannot unmarshal object into Go struct field ChatRequest.messages"
            " of type []api.Message",
        ),
        (
            chat,
            {"messages": [{"role": True}]},
            "json: cannot unmarshal bool into Go struct field Alias.role of type string",
        ),
        (
            chat,
            {"messages": [{"tool_calls": [{"function": {"index": 1.5}}]}]},
            "json: cannot unmarshal number 1.5 into Go struct field"
            " Alias.tool_calls.function.index of type int",
        ),
        (
            chat,
            {"tools": "x"},
            "json: cannot unmarshal string into Go struct field ChatRequest.tools"
            " of type api.Tools",
        ),
        (
            generate,
            {"images": [3]},
            "json: cannot unmarshal number into Go struct field GenerateRequest.images"
            " of type api.ImageData",
        ),
        (
            generate,
            {"context": [1, "2"]},
            "json: cannot unmarshal string into Go struct field GenerateRequest.context"
            " of type int",
        ),
        (
            generate,
            {"top_logprobs": 2.0},
            "json: cannot unmarshal number 2.0 into Go struct field GenerateRequest.top_logprobs"
            " of type int",
        ),
        (
            generate,
            {"stream": "no"},
            "json: cannot unmarshal string into Go struct field GenerateRequest.stream"
            " of type bool",
        ),
    ],
)
def test_wrong_types_are_refused_in_gos_words(
    read: Any, body: dict[str, Any], message: str
) -> None:
    error = refusal(read, **body)

    assert (error.status, error.message) == (400, message)

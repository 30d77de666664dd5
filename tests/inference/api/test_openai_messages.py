"""What a message of /v1/chat/completions may have beside text (contract 3.2, 9.3)."""

import base64
from typing import Any

import pytest

from inference.api.openai.messages import Message, read_messages, web_images
from inference.messages import ChatMessage, ToolCall
from ollamasite.bodies import decode
from ollamasite.errors import ServiceError
from tests.vision_files import write_image

ADDRESS = "https://images.example/cat.png"


def messages_of(*messages: dict[str, Any]) -> list[Message]:
    return [decode(message, Message, "openai.Message") for message in messages]


def read(*messages: dict[str, Any], **kwargs: Any) -> tuple[ChatMessage, ...]:
    return read_messages(messages_of(*messages), **kwargs)


def refusal(*messages: dict[str, Any]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        read(*messages)
    return caught.value


def seen(url: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": url}]}


@pytest.fixture
def png() -> bytes:
    return write_image("PNG")


def test_refusal_of_the_model_is_what_it_said() -> None:
    assert read({"role": "assistant", "content": None, "refusal": "No."}) == (
        ChatMessage(role="assistant", content="No."),
    )


def test_content_goes_over_a_refusal() -> None:
    assert read({"role": "assistant", "content": "Yes.", "refusal": "No."})[0].content == "Yes."


def test_part_that_refuses_is_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]

    assert read({"role": "assistant", "content": parts})[0].content == "a\n\nb"


def test_call_of_a_function_is_a_call() -> None:
    call = {"name": "f", "arguments": '{"a":1}'}
    asked, answered = read(
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": "r"},
    )

    assert asked.tool_calls == (ToolCall(name="f", arguments={"a": 1}),)
    assert answered == ChatMessage(role="tool", content="r", tool_name="f")


def test_call_without_an_id_names_no_other_message() -> None:
    call = {"name": "f", "arguments": "{}"}
    _, other = read(
        {"role": "assistant", "function_call": call}, {"role": "user", "content": "Hello"}
    )

    assert other == ChatMessage(role="user", content="Hello")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "assistant", "audio": {"id": "x"}}, "audio"),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "c"}}],
            },
            "custom",
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "x"}},
            "invalid tool call arguments",
        ),
    ],
)
def test_what_a_model_here_cannot_have_said_is_refused(message: Any, words: str) -> None:
    error = refusal(message)

    assert (error.status, error.param) == (400, "messages")
    assert words in error.message


@pytest.mark.parametrize("in_object", [False, True])
def test_image_without_a_prefix_is_taken(png: bytes, in_object: bool) -> None:
    text = base64.b64encode(png).decode()

    assert read(seen({"url": text} if in_object else text))[0].images == (png,)


def test_details_of_a_part_change_nothing(png: bytes) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    part = {
        "type": "image_url",
        "image_url": {"url": url, "detail": "high"},
        "prompt_cache_breakpoint": {"mode": "explicit"},
    }

    assert read({"role": "user", "content": [part]}) == read(seen(url))


def test_addresses_of_images_are_found_in_order() -> None:
    other = "HTTP://images.example/dog.png"
    messages = messages_of(
        seen({"url": ADDRESS}),
        {"role": "user", "content": "https://no.image"},
        seen("data:image/png;base64,AAAA"),
        {"role": "user", "content": [3, {"type": "text", "text": "https://no.image"}]},
        seen(other),
        seen(3),
    )

    assert list(web_images(messages)) == [ADDRESS, other]


def test_image_that_was_fetched_is_taken(png: bytes) -> None:
    assert read(seen({"url": ADDRESS}), fetched={ADDRESS: png})[0].images == (png,)


def test_image_that_was_not_fetched_is_refused() -> None:
    assert "image URLs are not currently supported" in refusal(seen(ADDRESS)).message


def called_with(arguments: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [call]}


def test_half_a_surrogate_in_arguments_can_be_sent_on() -> None:
    [message] = read(called_with('{"a\\udc00": "\\ud800"}'))

    assert message.tool_calls[0].arguments == {"a\ufffd": "\ufffd"}


@pytest.mark.parametrize(
    "arguments", ['{"a":' * 300 + "1" + "}" * 300, '{"a": NaN}', '{"a": 1e999}', "{} {}", "[]", ""]
)
def test_arguments_that_no_body_could_have_are_refused(arguments: str) -> None:
    assert refusal(called_with(arguments)).message == "invalid tool call arguments"

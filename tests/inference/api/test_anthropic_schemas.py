"""The body of /v1/messages becomes an internal request (contract 3.8)."""

import base64
from typing import Any

import pytest

from inference.api.anthropic.schemas import NOTED, REFUSED, CountTokensBody, MessagesBody
from inference.api.openai.tools import MAX_TOOLS
from inference.messages import ChatMessage, ToolCall
from inference.requests import ChatRequest, KeepAlive
from ollamasite.bodies import decode
from ollamasite.errors import BadRequest, ServiceError

HELLO = {"role": "user", "content": "Hello"}
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PIXELS = b"not really an image"
IMAGE: dict[str, Any] = {
    "type": "image",
    "source": {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(PIXELS).decode(),
    },
}
# Fields of MessageCreateParams, MessageCountTokensParams and the beta's MessageCreateParams in
# anthropic 2.12, with the three that its older versions had; a value that asks for something.
SDK_FIELDS: dict[str, Any] = {
    "max_tokens": 5,
    "messages": [HELLO],
    "model": "m",
    "billing_policy": {"type": "x"},
    "cache_control": {"type": "ephemeral"},
    "compaction": {"type": "x"},
    "container": "container_1",
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "diagnostics": {"previous_message_id": "msg_1"},
    "fallback_credit_token": "x",
    "fallbacks": [{"model": "other"}],
    "inference_geo": "eu",
    "mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "x"}],
    "metadata": {"user_id": "u"},
    "output_config": {"effort": "low"},
    "output_format": {"type": "json_schema", "schema": SCHEMA},
    "service_tier": "auto",
    "speed": "standard",
    "stop_sequences": ["END"],
    "stream": True,
    "system": "Be short.",
    "temperature": 0.5,
    "thinking": {"type": "adaptive"},
    "thread": {"id": "x"},
    "tool_choice": {"type": "auto"},
    "tools": [WEATHER],
    "top_k": 5,
    "top_p": 0.5,
    "user_profile_id": "u",
    "workspace_id": "w",
}


def body_of(**fields: Any) -> MessagesBody:
    whole = {"model": "m", "max_tokens": 100, "messages": [HELLO], **fields}
    return decode(whole, MessagesBody, "anthropic.MessagesRequest")


def read(**fields: Any) -> ChatRequest:
    return body_of(**fields).to_request()


def read_message(role: str, content: Any) -> tuple[ChatMessage, ...]:
    return read(messages=[{"role": role, "content": content}]).messages


def refusal(**fields: Any) -> ServiceError:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def refusal_of_block(block: Any, role: str = "user") -> str:
    return refusal(messages=[{"role": role, "content": [block]}]).message


# ---------------------------------------------------------------- every field


@pytest.mark.parametrize("name", sorted(SDK_FIELDS))
def test_every_field_of_the_sdk_works_or_is_refused_by_name(name: str) -> None:
    asked = {name: SDK_FIELDS[name]}

    if name in REFUSED:
        assert refusal(**asked).message == f'"{name}" is not supported by this server'
    else:
        changed = read(**asked) != read()
        is_told = changed or name in NOTED | {"max_tokens", "messages", "model", "stream"}
        assert name in MessagesBody.__struct_fields__
        assert is_told or name == "tool_choice"


@pytest.mark.parametrize("name", sorted(SDK_FIELDS))
def test_null_counts_as_absent(name: str) -> None:
    if name in {"max_tokens", "messages", "model"}:
        assert refusal(**{name: None}).param == name
    else:
        assert read(**{name: None}) == read()


@pytest.mark.parametrize("value", [None, [], {}, ""])
def test_refused_field_without_content_is_no_wish(value: Any) -> None:
    assert read(mcp_servers=value) == read()


def test_unknown_fields_are_ignored() -> None:
    assert read(frobnicate=1) == read()


def test_refusal_names_its_field() -> None:
    assert refusal(container="c").param == "container"


# ---------------------------------------------------------------- how to answer


def test_sampling_fields_become_options_and_nothing_else_is_set() -> None:
    asked = read(max_tokens=7, temperature=0, top_p=0.5, top_k=3, stop_sequences=["a", "b"])

    assert asked.options == {
        "num_predict": 7,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "stop": ["a", "b"],
    }
    assert read().options == {"num_predict": 100}


def test_own_fields_go_over_the_extra_field_options() -> None:
    asked = read(options={"temperature": 2.0, "num_ctx": 64}, temperature=0.5, keep_alive="5m")

    assert asked.options == {"temperature": 0.5, "num_ctx": 64, "num_predict": 100}
    assert asked.keep_alive == KeepAlive(seconds=300)


@pytest.mark.parametrize("count", [0, -1, None])
def test_max_tokens_must_be_positive(count: Any) -> None:
    assert refusal(max_tokens=count).message == "max_tokens: is required and must be greater than 0"


def test_empty_stop_sequence_is_refused() -> None:
    assert refusal(stop_sequences=[""]).param == "stop_sequences"


@pytest.mark.parametrize(("name", "value"), [("service_tier", "priority"), ("speed", "fast")])
def test_unknown_choices_are_refused(name: str, value: str) -> None:
    error = refusal(**{name: value})

    assert error.param == name
    assert f'"{value}" is not supported' in error.message


@pytest.mark.parametrize(
    ("thinking", "effort", "expected"),
    [
        (None, None, None),
        (None, "xhigh", "high"),
        ({"type": "disabled"}, "high", False),
        ({"type": "adaptive"}, None, True),
        ({"type": "adaptive"}, "max", "max"),
        ({"type": "enabled", "budget_tokens": 1024}, None, "low"),
        ({"type": "enabled", "budget_tokens": 10_000}, None, "medium"),
        ({"type": "enabled", "budget_tokens": 20_000}, None, "high"),
        ({"type": "enabled", "budget_tokens": 20_000}, "low", "low"),
    ],
)
def test_thinking_and_effort_become_think(thinking: Any, effort: Any, expected: Any) -> None:
    asked = read(max_tokens=30_000, thinking=thinking, output_config={"effort": effort})

    assert asked.think == expected
    assert asked.thinks_if_able


@pytest.mark.parametrize(
    "thinking",
    [
        {"type": "enabled"},
        {"type": "enabled", "budget_tokens": 1023},
        {"type": "enabled", "budget_tokens": 3000},  # not less than max_tokens
        {"type": "between_tools"},
        {"type": "adaptive", "display": "loud"},
    ],
)
def test_impossible_thinking_is_refused(thinking: Any) -> None:
    assert refusal(max_tokens=3000, thinking=thinking).param == "thinking"


def test_unknown_effort_is_refused() -> None:
    assert "output_config.effort" in refusal(output_config={"effort": "lots"}).message


def test_output_format_becomes_a_schema_at_both_of_its_places() -> None:
    wish = {"type": "json_schema", "schema": SCHEMA}

    assert '"integer"' in read(output_config={"format": wish}).json_schema
    assert read(output_format=wish).json_schema == read(output_config={"format": wish}).json_schema


@pytest.mark.parametrize(
    "wish", [{"type": "xml"}, {"type": "json_schema"}, {"schema": SCHEMA}, {"type": "text"}]
)
def test_impossible_output_format_is_refused(wish: Any) -> None:
    assert refusal(output_config={"format": wish}).param == "output_config"


# ---------------------------------------------------------------- tools


def test_tools_become_functions() -> None:
    [tool] = read(tools=[WEATHER | {"cache_control": {"type": "ephemeral"}}]).tools

    assert tool == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }


@pytest.mark.parametrize(
    ("choice", "forced", "most"),
    [
        (None, (), None),
        ({"type": "auto"}, (), None),
        ({"type": "auto", "disable_parallel_tool_use": True}, (), 1),
        ({"type": "any"}, ("get_weather", "clock"), None),
        ({"type": "tool", "name": "clock", "disable_parallel_tool_use": True}, ("clock",), 1),
    ],
)
def test_tool_choice_says_what_must_be_called(choice: Any, forced: Any, most: Any) -> None:
    asked = read(tools=[WEATHER, CLOCK], tool_choice=choice)

    assert (asked.forced_tools, asked.most_calls) == (forced, most)
    assert len(asked.tools) == 2


def test_tool_choice_none_hides_the_tools() -> None:
    assert read(tools=[WEATHER], tool_choice={"type": "none"}).tools == ()


@pytest.mark.parametrize(
    "choice", [{"type": "tool", "name": "nope"}, {"type": "required"}, {"name": "clock"}]
)
def test_impossible_tool_choice_is_refused(choice: Any) -> None:
    if choice == {"name": "clock"}:  # without a type there is no choice
        assert read(tools=[CLOCK], tool_choice=choice).forced_tools == ()
    else:
        assert refusal(tools=[CLOCK], tool_choice=choice).param == "tool_choice"


def test_any_tool_needs_tools() -> None:
    assert refusal(tool_choice={"type": "any"}).param == "tool_choice"


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search_20250305", "name": "web_search"},
        CLOCK | {"name": ""},
        CLOCK | {"input_schema": "x"},
        CLOCK | {"input_schema": {"type": "object", "required": "city"}},
        CLOCK | {"defer_loading": True},
        CLOCK | {"allowed_callers": ["code_execution_20250825"]},
        CLOCK | {"input_examples": [{}]},
        "clock",
    ],
)
def test_tools_that_cannot_be_are_refused(tool: Any) -> None:
    assert refusal(tools=[tool]).status == 400


def test_too_many_tools_are_refused() -> None:
    many = [CLOCK | {"name": f"tool{number}"} for number in range(MAX_TOOLS + 1)]

    assert refusal(tools=many).param == "tools"


def test_two_tools_of_one_name_are_refused() -> None:
    assert refusal(tools=[CLOCK, CLOCK]).message == "tools: names must be unique"


# ---------------------------------------------------------------- messages


def test_system_text_comes_first() -> None:
    blocks = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]

    assert read(system="Be short.").messages[0] == ChatMessage(role="system", content="Be short.")
    assert read(system=blocks).messages[0].content == "One.\n\nTwo."
    assert [message.role for message in read(system="").messages] == ["user"]


def test_blocks_of_a_user_become_one_message() -> None:
    cached = {"type": "text", "text": "Look:", "cache_control": {"type": "ephemeral"}}

    [message] = read_message("user", [cached, IMAGE, {"type": "text", "text": "What is it?"}])

    assert message.content == "Look:\n\nWhat is it?"
    assert message.images == (PIXELS,)


def test_blocks_of_an_assistant_become_one_message() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "I look.", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}, "caller": None},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
    ]

    assert read_message("assistant", content) == (
        ChatMessage(
            role="assistant",
            content="I look.",
            thinking="Hm.",
            tool_calls=(
                ToolCall(id="toolu_1", index=0, name="f", arguments={"a": 1}),
                ToolCall(id="toolu_2", index=1, name="g", arguments={}),
            ),
        ),
    )


def test_results_of_tools_become_messages_before_what_else_is_said() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    results = [
        {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "a cat"}, IMAGE],
        },
        {"type": "tool_result", "tool_use_id": "toolu_9", "content": "no eye", "is_error": True},
        {"type": "tool_result", "tool_use_id": "toolu_1"},
        {"type": "text", "text": "And now?"},
    ]

    messages = read(
        messages=[
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": results},
        ]
    ).messages

    assert messages[1:] == (
        ChatMessage(
            role="tool",
            content="a cat",
            images=(PIXELS,),
            tool_name="look",
            tool_call_id="toolu_1",
        ),
        ChatMessage(role="tool", content="Error: no eye", tool_call_id="toolu_9"),
        ChatMessage(role="tool", tool_name="look", tool_call_id="toolu_1"),
        ChatMessage(role="user", content="And now?"),
    )


def test_results_alone_leave_no_empty_message() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}

    assert [message.role for message in read_message("user", [result])] == ["tool"]


def test_empty_content_is_an_empty_message() -> None:
    assert read_message("assistant", []) == (ChatMessage(role="assistant"),)


def test_system_message_may_stand_in_the_middle() -> None:
    asked = read(messages=[HELLO, {"role": "system", "content": "Now shout."}, HELLO])

    assert [message.role for message in asked.messages] == ["user", "system", "user"]


def test_image_urls_are_collected_and_read_from_what_was_fetched() -> None:
    def image(url: str) -> Any:
        return {"type": "image", "source": {"type": "url", "url": url}}

    result = {"type": "tool_result", "tool_use_id": "t", "content": [image("https://b.example/")]}
    body = body_of(messages=[{"role": "user", "content": [image("https://a.example/"), result]}])

    assert body.image_urls == ["https://a.example/", "https://b.example/"]
    messages = body.to_request({"https://a.example/": b"A", "https://b.example/": b"B"}).messages
    assert {image for message in messages for image in message.images} == {b"A", b"B"}


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([], "messages: at least one"),
        (["hello"], "messages.0: must be an object"),
        ([{"role": "tool", "content": "x"}], "messages.0.role"),
        ([{"role": ["user"], "content": "x"}], "messages.0.role"),
        ([HELLO, {"role": "user"}], "messages.1.content: field required"),
        ([{"role": "user", "content": 5}], "messages.0.content: must be"),
        ([{"role": "user", "content": ["x"]}], "messages.0.content.0: must be an object"),
    ],
)
def test_impossible_messages_are_refused_by_their_place(messages: Any, place: str) -> None:
    assert refusal(messages=messages).message.startswith(place)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"type": "document", "source": {}}, 'a block of type "document" is not supported'),
        ({"type": "search_result"}, 'a block of type "search_result"'),
        ({"type": "tool_use", "id": "a", "name": "f", "input": {}}, 'no block of type "tool_use"'),
        ({"type": "text"}, "content.0.text: must be a string"),
        ({"type": "text", "text": "x", "citations": [{"type": "char_location"}]}, "citations"),
        ({"type": "tool_result", "content": "x"}, "tool_use_id"),
        ({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "document"}]}, "content"),
        ({"type": "image"}, "content.0.source: must be an object"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, 'source of type "file"'),
        ({"type": "image", "source": IMAGE["source"] | {"media_type": "image/tiff"}}, "media_type"),
        ({"type": "image", "source": IMAGE["source"] | {"data": "%%"}}, "invalid base64"),
        (IMAGE | {"transformations": {"oversized_image": "error"}}, "transformations"),
    ],
)
def test_impossible_blocks_are_refused_in_words(block: Any, told: str) -> None:
    assert told in refusal_of_block(block)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": ""}, "content.0.id"),
        ({"name": None}, "content.0.name"),
        ({"input": "{}"}, "content.0.input: must be an object"),
        ({"caller": {"type": "code_execution_20250825", "tool_id": "x"}}, "content.0.caller"),
        ({"toolset_name": "browser"}, "content.0.toolset_name"),
    ],
)
def test_impossible_calls_are_refused_in_words(changes: Any, told: str) -> None:
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {}, **changes}

    assert told in refusal_of_block(block, "assistant")


# ---------------------------------------------------------------- counting


def test_counting_asks_for_the_prompt_alone() -> None:
    whole = {"model": "m", "messages": [HELLO], "system": "Be short.", "tools": [WEATHER]}
    asked = decode(whole, CountTokensBody, "anthropic.CountTokensRequest").to_request()

    assert asked.renders_only
    assert asked.counts_tokens
    assert not asked.truncate
    assert len(asked.messages) == 2
    assert len(asked.tools) == 1

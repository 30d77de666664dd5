"""Every field of the OpenAI SDK's chat request works, is noted or is refused by name.

The tables below are held against the SDK's own types: a field that a new SDK brings makes a test
fail until it is in one of them.
"""

from typing import Any, Final, get_args, get_type_hints

import pytest
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionContentPartParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionStreamOptionsParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
)
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from inference.api.openai.chat_schemas import ChatCompletionBody
from inference.api.openai.fields import StreamOptions
from inference.api.openai.messages import Message
from inference.requests import ChatRequest
from ollamasite.bodies import decode
from ollamasite.errors import ServiceError

TOOL: Final = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TOOLS: Final = {"tools": [TOOL]}

# Field → a value that makes another request of it, and what has to stand beside it.
WORKS: Final[dict[str, tuple[Any, dict[str, Any]]]] = {
    "messages": ([{"role": "user", "content": "Bye"}], {}),
    "model": ("other", {}),
    "frequency_penalty": (0.5, {}),
    "logit_bias": ({"7": -100}, {}),
    "logprobs": (True, {}),
    "max_completion_tokens": (3, {}),
    "max_tokens": (3, {}),
    "n": (2, {}),
    "parallel_tool_calls": (False, TOOLS),
    "presence_penalty": (0.5, {}),
    "reasoning_effort": ("low", {}),
    "response_format": ({"type": "json_object"}, {}),
    "seed": (7, {}),
    "stop": ("x", {}),
    "temperature": (0.5, {}),
    "tool_choice": ("required", TOOLS),
    "tools": ([TOOL], {}),
    "top_logprobs": (2, {"logprobs": True}),
    "top_p": (0.5, {}),
}
# Field → a value that is taken without effect on the request, and one that is refused.
NOTED: Final[dict[str, tuple[Any, Any]]] = {
    "metadata": ({"a": "b"}, {"a": 3}),
    "modalities": (["text"], ["text", "audio"]),
    "prediction": ({"type": "content", "content": "x"}, {"type": "text", "content": "x"}),
    "prompt_cache_key": ("x", 3),
    "prompt_cache_options": ({"mode": "explicit", "ttl": "30m"}, "30m"),
    "prompt_cache_retention": ("24h", "1y"),
    "safety_identifier": ("x", 3),
    "service_tier": ("auto", "flex"),
    "store": (False, True),
    "stream_options": ({"include_usage": True, "include_obfuscation": False}, 3),
    "user": ("x", 3),
    "verbosity": ("medium", "low"),
}
REFUSED: Final[dict[str, Any]] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "moderation": {"model": "m"},
    "web_search_options": {},
}
MESSAGES: Final = [
    ChatCompletionAssistantMessageParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
]


def read(**body: Any) -> ChatRequest:
    whole = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **body}
    return decode(whole, ChatCompletionBody, "openai.ChatCompletionRequest").to_request()


def refusal(**body: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        read(**body)
    return caught.value


def test_every_field_of_the_sdk_is_in_one_table() -> None:
    tables = [*WORKS, *NOTED, *REFUSED]

    assert sorted(tables) == sorted(CompletionCreateParamsBase.__annotations__)


@pytest.mark.parametrize("field", WORKS)
def test_field_that_works_makes_another_request(field: str) -> None:
    value, beside = WORKS[field]

    assert read(**beside, **{field: value}) != read(**beside)


@pytest.mark.parametrize("field", NOTED)
def test_field_that_is_noted_makes_the_same_request(field: str) -> None:
    assert read(**{field: NOTED[field][0]}) == read()


@pytest.mark.parametrize("field", NOTED)
def test_noted_field_of_another_kind_is_refused_by_name(field: str) -> None:
    error = refusal(**{field: NOTED[field][1]})

    assert error.status == 400
    assert field in error.message


@pytest.mark.parametrize("field", REFUSED)
def test_field_that_is_not_supported_is_refused_by_name(field: str) -> None:
    error = refusal(**{field: REFUSED[field]})

    assert (error.status, error.param) == (400, field)
    assert field in error.message


@pytest.mark.parametrize("field", [*WORKS, *NOTED, *REFUSED])
def test_null_is_the_same_as_absent(field: str) -> None:
    if field in {"messages", "model"}:
        assert refusal(**{field: None}).status == 400
    else:
        assert read(**{field: None}) == read()


@pytest.mark.parametrize(
    ("field", "instead"),
    [("functions", "tools"), ("function_call", "tool_choice"), ("store", "/v1/responses")],
)
def test_refusal_says_what_to_do_instead(field: str, instead: str) -> None:
    value = REFUSED.get(field, True)

    assert instead in refusal(**{field: value}).message


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_every_field_of_a_message_is_read(kind: Any) -> None:
    assert kind.__annotations__.keys() <= set(Message.__struct_fields__)


def test_every_stream_option_is_read() -> None:
    options = ChatCompletionStreamOptionsParam.__annotations__

    assert options.keys() == set(StreamOptions.__struct_fields__)


def test_parts_of_every_kind_are_known() -> None:
    kinds = {
        get_args(get_type_hints(part)["type"])[0]
        for part in get_args(ChatCompletionContentPartParam)
    }

    assert kinds == {"text", "image_url", "input_audio", "file"}

"""Fields of `/v1/responses`: each works, is only taken note of, or is refused by name."""

from typing import Any

import pytest
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response import Response
from openai.types.responses.response_create_params import (
    ResponseCreateParamsBase,
    ResponseCreateParamsStreaming,
)
from openai.types.responses.response_includable import ResponseIncludable
from openai.types.shared_params.reasoning import Reasoning

from inference.api.responses.schemas import InputTokensBody, ResponseBody
from inference.messages import ChatMessage
from inference.requests import ChatRequest
from ollamasite.bodies import decode
from ollamasite.errors import BadRequest, InvalidBody

HELLO = (ChatMessage(role="user", content="x"),)
LIGHT = {"type": "function", "name": "light", "parameters": {"type": "object"}}

WORKS = {
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "store",
    "stream",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
}
NOTED: dict[str, Any] = {
    "background": False,
    "image": {"context_compression": "disabled"},
    "max_tool_calls": 3,
    "metadata": {"a": "b"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "service_tier": "auto",
    "stream_options": {"include_obfuscation": True},
    "user": "u",
}
REFUSED: dict[str, Any] = {
    "access_programs": {"cyber": "standard"},
    "background_options": {"completion_window": "soonest"},
    "context_management": [{"type": "compaction"}],
    "conversation": "conv_1",
    "moderation": {"model": "m"},
    "prompt": {"id": "pmpt_1"},
}


def to_request(**fields: Any) -> ChatRequest:
    data = {"model": "m", "input": "x", **fields}
    body = decode(data, ResponseBody, "openai.ResponsesRequest")
    body.check()
    body.to_response("resp_1", 0, is_kept=True)
    return body.to_request(HELLO)


def refusal(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        to_request(**fields)
    return caught.value


def test_every_field_of_the_sdk_is_decided() -> None:
    fields = {
        *ResponseCreateParamsBase.__annotations__,
        *ResponseCreateParamsStreaming.__annotations__,
    }

    assert WORKS | NOTED.keys() | REFUSED.keys() == fields
    assert fields <= set(ResponseBody.__struct_fields__)


def test_every_field_of_counting_is_decided() -> None:
    assert InputTokenCountParams.__annotations__.keys() <= set(InputTokensBody.__struct_fields__)


def test_every_field_of_the_sdks_reasoning_is_known() -> None:
    body = ResponseBody()

    assert Reasoning.__annotations__.keys() == set(body.reasoning.__struct_fields__)


def test_everything_that_the_sdk_can_include_is_taken() -> None:
    names = list(ResponseIncludable.__args__)  # type: ignore[attr-defined]

    assert to_request(include=names).top_logprobs == 0


def test_answers_frame_is_what_the_sdk_expects() -> None:
    body = decode({"model": "m", "input": "x"}, ResponseBody, "openai.ResponsesRequest")
    frame = body.to_response("resp_1", 0, is_kept=True)

    assert set(frame.__struct_fields__) - Response.model_fields.keys() == {"store"}


@pytest.mark.parametrize("field", NOTED)
def test_noted_field_changes_nothing(field: str) -> None:
    assert to_request(**{field: NOTED[field]}) == to_request()


@pytest.mark.parametrize("field", REFUSED)
def test_refused_field_is_named(field: str) -> None:
    assert refusal(**{field: REFUSED[field]}).param == field


@pytest.mark.parametrize("field", sorted(WORKS | NOTED.keys() | REFUSED.keys()))
def test_null_is_as_if_it_were_absent(field: str) -> None:
    needed = {"model": "m", "input": "x"}
    if field in needed:
        assert refusal(**{field: None}).param == field
    else:
        assert to_request(**{field: None}) == to_request()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"image": {"context_compression": "enabled"}}, "image.context_compression"),
        ({"include": ["everything"]}, "include"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a" * 65: "b"}}, "metadata"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
        (
            {"prompt_cache_options": {"comparison_response_id": "resp_1"}},
            "prompt_cache_options.comparison_response_id",
        ),
        ({"prompt_cache_options": {"ttl": "1h"}}, "prompt_cache_options.ttl"),
        ({"prompt_cache_retention": "1h"}, "prompt_cache_retention"),
        ({"reasoning": {"context": "current_turn"}}, "reasoning.context"),
        ({"reasoning": {"effort": "some"}}, "reasoning.effort"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"reasoning": {"summary": "some"}}, "reasoning.summary"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "light"}}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "custom", "name": "c"}]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{**LIGHT, "defer_loading": True}]}, "tools.defer_loading"),
        ({"tools": [{**LIGHT, "async": True}]}, "tools.async"),
        ({"tools": [{**LIGHT, "allowed_callers": ["programmatic"]}]}, "tools.allowed_callers"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"truncation": "some"}, "truncation"),
    ],
)
def test_value_that_is_not_here_is_named(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"stream": "yes"}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": {}}, "tools"),
        ({"text": "plain"}, "text"),
        ({"metadata": []}, "metadata"),
        ({"include": "all"}, "include"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
    ],
)
def test_value_of_a_wrong_type_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidBody, match=rf"ResponsesRequest\.{field}"):
        to_request(**fields)


def test_absent_temperature_is_one_and_absent_top_p_is_the_models() -> None:
    assert to_request().options == {"temperature": 1.0}


def test_openais_own_fields_go_over_the_extra_options() -> None:
    asked = to_request(temperature=0.5, options={"temperature": 0.1, "top_k": 3})

    assert asked.options == {"temperature": 0.5, "top_k": 3}


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"effort": "minimal", "summary": "auto"}}, "low"),
        ({"reasoning": {"effort": "low"}, "think": True}, True),
    ],
)
def test_effort_says_how_much_to_think(fields: dict[str, Any], think: Any) -> None:
    assert to_request(**fields).think == think


def test_logprobs_are_wished_by_their_count_alone() -> None:
    assert to_request().top_logprobs is None
    assert to_request(top_logprobs=2).top_logprobs == 2


def test_json_object_is_any_object() -> None:
    assert to_request(text={"format": {"type": "json_object"}}).json_schema == '{"type":"object"}'


def test_tool_without_parameters_and_description_is_taken() -> None:
    [tool] = to_request(tools=[{"type": "function", "name": "f", "parameters": None}]).tools

    assert tool["function"]["name"] == "f"
    assert tool["function"]["parameters"]["properties"] == {}


def test_allowed_tools_are_the_only_ones_that_are_shown() -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "b"}],
    }
    tools = [{**LIGHT, "name": name} for name in "abc"]
    asked = to_request(tools=tools, tool_choice=allowed)

    assert [tool["function"]["name"] for tool in asked.tools] == ["b"]
    assert asked.forced_tools == ()

"""tools, tool_choice and parallel_tool_calls: what may and must be called (contract 3.1)."""

from typing import Any

import pytest

from inference.api.openai.chat_schemas import ChatCompletionBody
from inference.api.openai.tools import MAX_TOOLS
from inference.requests import ChatRequest
from ollamasite.bodies import decode
from ollamasite.errors import ServiceError

NAMED_A = {"type": "function", "function": {"name": "a"}}


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("a", type="object"), tool("b", type="object")]


def read(**body: Any) -> ChatRequest:
    hello = {"role": "user", "content": "Hello"}
    whole = {"model": "m", "messages": [hello], "tools": TOOLS, **body}
    return decode(whole, ChatCompletionBody, "openai.ChatCompletionRequest").to_request()


def refusal(**body: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        read(**body)
    return caught.value


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def names_of(request: ChatRequest) -> list[str]:
    return [tool["function"]["name"] for tool in request.tools]


@pytest.mark.parametrize("choice", [None, "auto"])
def test_model_is_free_by_default(choice: str | None) -> None:
    request = read(tool_choice=choice)

    assert names_of(request) == ["a", "b"]
    assert (request.forced_tools, request.most_calls) == ((), None)


def test_none_drops_the_tools() -> None:
    request = read(tool_choice="none", parallel_tool_calls=False)

    assert (request.tools, request.forced_tools, request.most_calls) == ((), (), None)


def test_required_forces_one_of_all() -> None:
    request = read(tool_choice="required")

    assert (request.forced_tools, request.most_calls) == (("a", "b"), None)


def test_named_tool_is_forced_and_called_once() -> None:
    request = read(tool_choice={"type": "function", "function": {"name": "b"}})

    assert names_of(request) == ["b"]
    assert (request.forced_tools, request.most_calls) == (("b",), 1)


def test_allowed_tools_are_all_that_the_model_sees() -> None:
    request = read(tool_choice=allowed("auto", "b"))

    assert names_of(request) == ["b"]
    assert request.forced_tools == ()


def test_allowed_tools_can_be_required() -> None:
    request = read(tool_choice=allowed("required", "b", "a", "b"))

    assert names_of(request) == ["a", "b"]
    assert request.forced_tools == ("b", "a")


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_calls_that_are_not_parallel_are_one(choice: str) -> None:
    assert read(tool_choice=choice, parallel_tool_calls=False).most_calls == 1


def test_parallel_calls_have_no_limit() -> None:
    assert read(parallel_tool_calls=True).most_calls is None


@pytest.mark.parametrize(
    "choice",
    [
        "any",
        3,
        [],
        {},
        {"type": "function"},
        {"type": "function", "function": {"name": 3}},
        {"type": "function", "function": {"name": "c"}},
        {"type": "custom", "custom": {"name": "a"}},
        allowed("auto"),
        allowed("auto", "c"),
        allowed("none", "a"),
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [3]}},
        {"type": "allowed_tools"},
    ],
)
def test_other_choices_are_refused(choice: Any) -> None:
    error = refusal(tool_choice=choice)

    assert (error.status, error.param) == (400, "tool_choice")


@pytest.mark.parametrize("choice", ["required", NAMED_A, allowed("auto", "a")])
def test_choice_needs_tools(choice: Any) -> None:
    assert refusal(tools=None, tool_choice=choice).param == "tool_choice"


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "custom", "custom": {"name": "x"}},
        {"type": "web_search"},
        {"type": "function"},
        {"type": "function", "function": {"name": ""}},
        tool("a", properties=[]),
    ],
)
def test_other_tools_are_refused(asked: dict[str, Any]) -> None:
    error = refusal(tools=[asked])

    assert (error.status, error.param) == (400, "tools")


@pytest.mark.parametrize(
    "asked",
    [3, {"function": 3}, {"function": {"name": 3}}, {"function": {"name": "a", "parameters": 3}}],
)
def test_tools_of_the_wrong_type_are_refused_in_gos_words(asked: Any) -> None:
    assert refusal(tools=[asked]).message.startswith("json: cannot unmarshal number into Go struct")


def test_tool_keeps_its_whole_schema_in_gos_order() -> None:
    number = {"minimum": 1, "type": "integer"}
    schema = {
        "additionalProperties": False,
        "properties": {"n": number, "other": {"$ref": "#/$defs/Other"}},
        "required": ["n"],
        "type": "object",
        "$defs": {"Other": {"type": "string"}},
    }
    function = {"strict": True, "parameters": schema, "description": "d", "name": "f"}
    [found] = read(tools=[{"type": "function", "function": function}]).tools

    assert found["function"] == {**function, "parameters": schema}
    assert list(found["function"]) == ["name", "description", "parameters", "strict"]
    assert list(found["function"]["parameters"]) == [
        "type",
        "$defs",
        "required",
        "properties",
        "additionalProperties",
    ]


def test_tool_without_parameters_has_empty_ones() -> None:
    [found] = read(tools=[{"type": "function", "function": {"name": "f"}}]).tools

    assert found == {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "", "properties": {}}},
    }


def test_too_many_tools_are_refused() -> None:
    many = [tool(f"tool{number}", type="object") for number in range(MAX_TOOLS + 1)]

    assert len(read(tools=many[:-1]).tools) == MAX_TOOLS
    assert refusal(tools=many).param == "tools"


def test_too_many_allowed_tools_are_refused() -> None:
    assert refusal(tool_choice=allowed("auto", *["a"] * (MAX_TOOLS + 1))).param == "tool_choice"

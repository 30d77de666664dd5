"""Forced calls: the schema that holds them, and what is read of their text."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.output.call_schema import (
    MOST_FORCED_CALLS,
    UnusableTools,
    calls_schema,
    strict_schema,
)
from inference.output.forced import ForcedCalls
from tests.inference.output.answers import TOOLS, tool

Described = tuple[str, dict[str, Any], int]
WORDS = st.sampled_from(["type", "properties", "required", "$ref", "items", "object", "#", "a"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)


def read(*pieces: str) -> list[Described]:
    forced = ForcedCalls(TOOLS)
    return [(c.name, c.arguments, c.index) for piece in pieces for c in forced.push(piece)]


def schema_of(*tools: Any, names: tuple[str, ...] = ("look",), most: int | None = 1) -> Any:
    return json.loads(calls_schema(tools, names, most))


def looking(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look", "parameters": parameters}}


def arguments_of(parameters: Any) -> Any:
    [call] = schema_of(looking(parameters))["anyOf"]
    return call["properties"]["arguments"]


ONE = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
TWO = '{"name": "say_hello", "arguments": {}}'
CALLS: list[Described] = [("add", {"a": 1, "b": 2}, 0), ("say_hello", {}, 1)]


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("text", [f"[{ONE}, {TWO}]", f"[\n  {ONE},\n  {TWO}\n]", f"[{ONE},{TWO}"])
def test_calls_of_an_array_are_read_however_it_is_cut(text: str, size: int) -> None:
    assert read(*(text[at : at + size] for at in range(0, len(text), size))) == CALLS


def test_a_call_comes_as_soon_as_it_is_complete() -> None:
    forced = ForcedCalls(TOOLS)
    assert forced.push("[" + ONE[:-1]) == ()
    assert [call.name for call in forced.push("}")] == ["add"]


def test_a_single_object_is_a_call() -> None:
    assert read(ONE) == CALLS[:1]


def test_a_call_that_is_cut_off_is_none() -> None:
    assert read(f"[{ONE}, " + TWO[:-1]) == CALLS[:1]


def test_what_stands_before_the_calls_is_passed_over() -> None:
    assert read("\ufffd", "[", ONE) == CALLS[:1]


def test_every_call_has_an_id_of_its_own() -> None:
    first, second = ForcedCalls(TOOLS).push(f"[{ONE},{TWO}]")
    assert first.id.startswith("call_")
    assert first.id != second.id


# ---------------------------------------------------------------- the schema


def test_only_one_call_is_an_object_of_its_own() -> None:
    assert "anyOf" in schema_of(looking({}))


@pytest.mark.parametrize(("asked", "most"), [(None, MOST_FORCED_CALLS), (2, 2), (10**9, 32)])
def test_several_calls_are_an_array(asked: int | None, most: int) -> None:
    schema = schema_of(looking({}), most=asked)
    assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 1, most)


def test_only_the_named_tools_are_in_it() -> None:
    schema = schema_of(tool("look"), tool("jump"), tool("run"), names=("run", "look"))
    assert [call["properties"]["name"]["const"] for call in schema["anyOf"]] == ["run", "look"]


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"type": "object"},
        {"type": "object", "properties": {}, "required": []},
        {"type": "", "properties": {}},  # Ollama's form of a tool without parameters
    ],
)
def test_a_tool_without_parameters_takes_the_empty_object(parameters: Any) -> None:
    arguments = arguments_of(parameters)
    assert (arguments["type"], arguments["additionalProperties"]) == ("object", False)
    assert not arguments.get("properties")


def test_a_tool_that_wants_any_object_says_so() -> None:
    assert arguments_of({"type": "object", "additionalProperties": True}) == {
        "type": "object",
        "additionalProperties": True,
    }


def test_arguments_are_always_an_object() -> None:
    assert arguments_of({"type": ["object", "null"], "title": "x"})["type"] == "object"


def test_arguments_that_the_tool_does_not_name_are_not_made_up() -> None:
    parameters = {"type": "object", "properties": {"a": {}}, "required": ["a"]}
    assert arguments_of(parameters)["additionalProperties"] is False


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"properties": {"a": {}}, "required": ["b"]},
        {"properties": {"a": {}}, "required": [{"a": "a"}]},
        {"properties": {"a": {}}, "anyOf": [{"required": ["b"]}]},
        {"properties": {}, "patternProperties": {"^a": {}}},
        {"$ref": "https://example.org/schema"},
    ],
)
def test_a_tool_that_leaves_room_for_other_arguments_keeps_it(parameters: dict[str, Any]) -> None:
    assert arguments_of(parameters) == parameters | {"type": "object"}


@pytest.mark.parametrize(("most", "front"), [(1, "#"), (None, "#/items")])
def test_references_hold_at_their_new_place(most: int | None, front: str) -> None:
    parameters = {"properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#"}}, "$id": "x"}
    schema = schema_of(tool("jump"), looking(parameters), names=("jump", "look"), most=most)
    [_, call] = schema["anyOf"] if most else schema["items"]["anyOf"]
    arguments = call["properties"]["arguments"]
    place = f"{front}/anyOf/1/properties/arguments"
    assert arguments["properties"] == {"a": {"$ref": f"{place}/$defs/A"}, "b": {"$ref": place}}
    assert "$id" not in arguments


def test_of_free_calls_only_those_of_strict_tools_have_a_schema() -> None:
    strict = {"function": {**tool("look", at={"type": "string"})["function"], "strict": True}}
    schema = json.loads(strict_schema([tool("jump", by={"type": "integer"}), strict]))
    jump, look = (call["properties"]["arguments"] for call in schema["anyOf"])
    assert jump == {"type": "object"}
    assert look["properties"] == {"at": {"type": "string"}}


def test_without_strict_tools_there_is_no_schema() -> None:
    assert strict_schema(TOOLS) == ""


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"type": "string"}, 'the parameters of the tool "look" are not of type "object"'),
        ([], 'the parameters of the tool "look" are no JSON schema'),
    ],
)
def test_parameters_that_no_call_can_have_are_refused(parameters: Any, words: str) -> None:
    with pytest.raises(UnusableTools, match=words):
        schema_of(looking(parameters))


@settings(max_examples=60, deadline=None)
@given(parameters=st.dictionaries(WORDS, ANYTHING))
def test_any_parameters_are_a_schema_or_refused_in_words(parameters: dict[str, Any]) -> None:
    kind = None
    with contextlib.suppress(UnusableTools):
        kind = arguments_of(parameters)["type"]
    assert kind in {None, "object"}


def test_parameters_without_end_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"properties": {"a": deep}}
    with pytest.raises(UnusableTools, match="nested too deeply"):
        schema_of(looking(deep))


def test_a_tool_that_is_not_there_cannot_be_forced() -> None:
    with pytest.raises(UnusableTools, match='there is no tool "jump"'):
        schema_of(tool("look"), names=("jump",))

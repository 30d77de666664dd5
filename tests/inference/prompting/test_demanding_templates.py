"""Jinja templates that take for granted what a chat or its tools need not have."""

from typing import Any

import pytest

from inference.messages import ChatMessage, ToolCall
from inference.prompting.errors import TemplateError, TemplateLimitError, TemplateRunError
from inference.prompting.jinja import render_chat
from inference.prompting.sandbox import render
from inference.prompting.tool_shapes import completed
from tests.timing import takes_at_most

DESCRIBED = "{% for t in tools %}{{ t.function.name + ': ' + t.function.description }}.{% endfor %}"
# The type of a parameter as code, taken apart again and again until a known one is left.
TYPED = """{%- macro name(schema) -%}
{%- set known = {'string': 'str', 'integer': 'int'} -%}
{%- if known[schema.type] is defined -%}{{ known[schema.type] }}
{%- elif schema.type == 'array' -%}{{ 'list of ' + name(schema['items']) }}
{%- elif schema.type == 'object' -%}{{ 'map of ' + name(schema.additionalProperties) }}
{%- else -%}{% for each in schema.type %}{{ name({'type': each}) }}{% endfor %}
{%- endif -%}
{%- endmacro -%}
{%- for t in tools -%}
{%- for key, schema in t.function.parameters.properties|items -%}
{{ key }}: {{ name(schema) }};
{%- endfor -%}
{%- endfor -%}"""
NINE = """{%- for m in messages -%}
{%- for c in m.tool_calls or [] -%}
{%- if c.id|length != 9 -%}{{ raise_exception('an id has nine letters') }}{%- endif -%}
{{ c.function.name }}={{ c.id }};
{%- endfor -%}
{%- if m.role == 'tool' -%}
{%- if m.tool_call_id is not defined or m.tool_call_id|length != 9 -%}
{{ raise_exception('an id has nine letters') }}
{%- endif -%}
{{ m.content }}={{ m.tool_call_id }};
{%- endif -%}
{%- endfor -%}"""
ALTERNATING = """{%- for m in messages -%}
{%- if m.role != ['user', 'assistant'][loop.index0 % 2] -%}
{{ raise_exception('roles must alternate') }}
{%- endif -%}
[{{ m.content }}]
{%- endfor -%}"""


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


def taking(**schema: Any) -> dict[str, Any]:
    return tool(parameters={"type": "object", "properties": {"a": schema}})


def asked() -> list[ChatMessage]:
    return [ChatMessage(role="user", content="Hi")]


def called(call_id: str = "call_abcd1234", result_id: str = "") -> list[ChatMessage]:
    call = ToolCall(name="f", arguments={"x": 1}, id=call_id)
    return [
        *asked(),
        ChatMessage(role="assistant", tool_calls=(call,)),
        ChatMessage(role="tool", content="12", tool_call_id=result_id),
    ]


# ---------------------------------------------------------------- tools


def test_a_tool_without_a_description_has_an_empty_one_where_a_template_needs_it() -> None:
    assert render_chat(DESCRIBED, asked(), tools=[tool()]) == "f: ."


def test_a_description_is_not_made_up_where_a_template_can_do_without() -> None:
    template = "{{ tools[0].function.description is defined }}"
    assert render_chat(template, asked(), tools=[tool()]) == "False"


def test_no_tools_are_an_empty_list_where_a_template_goes_through_them() -> None:
    assert render_chat("{% for t in tools %}{{ t }}{% endfor %}.", asked()) == "."


def test_functions_are_a_text_where_a_template_asks_for_them() -> None:
    text = render_chat("{{ 'I have ' + functions }}", asked(), tools=[tool()])
    assert text == 'I have [\n    {\n        "name": "f"\n    }\n]'


def test_a_template_may_ask_for_the_date() -> None:
    assert len(render_chat("{{ '' + datetime }}", asked())) == len("2000-01-01")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "int"),
        ({"type": ["string", "null"]}, "str"),
        ({"type": ["null", "integer"]}, "int"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "int"),
        ({"type": "array", "items": {"type": ["integer", "null"]}}, "list of int"),
        ({"type": "object"}, "map of str"),
        ({"enum": ["x", "y"]}, "str"),
        ({"type": "array"}, "list of str"),
        ({"type": []}, "str"),
        ({"anyOf": "x", "type": "object", "additionalProperties": False}, "map of str"),
    ],
)
def test_a_parameter_has_one_type_where_a_template_cannot_read_more(
    schema: dict[str, Any], text: str
) -> None:
    expected = f"a: {text};"
    shown = render_chat(TYPED, asked(), tools=completed([taking(**schema)]))
    assert shown == expected


def test_types_that_lead_a_template_in_circles_are_made_simple() -> None:
    shown = render_chat(TYPED, asked(), tools=[taking(type=["string", "null"])])
    assert shown == "a: str;"


def test_a_template_that_goes_in_circles_by_itself_is_refused() -> None:
    template = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"
    with takes_at_most(2), pytest.raises(TemplateLimitError):
        render_chat(template, asked(), tools=[tool()])


@pytest.mark.parametrize(
    "strange",
    [
        {"function": None},
        {"function": {"parameters": "x"}},
        {"function": {"parameters": {"properties": [1]}}},
        {"function": {"parameters": {"properties": {"a": 3}}}},
        {},
    ],
)
def test_strange_tools_are_completed_as_far_as_they_can_be(strange: dict[str, Any]) -> None:
    assert len(completed([strange])) == 1


def test_a_template_that_fails_in_every_shape_ends_soon() -> None:
    template = "{% for i in range(50000) %}{% set x = i * i %}{% endfor %}{{ raise_exception('') }}"
    with takes_at_most(4), pytest.raises(TemplateError):
        render_chat(template, called(), tools=[tool()])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ x.missing | tojson }}", "null"),
        ("{{ {'a': x.missing} | tojson }}", '{"a": null}'),
        ("{{ [x] | map(attribute='y') | tojson }}", "[1]"),
        ("{{ [x] | selectattr('y') | tojson }}", '[{"y": 1}]'),
        ("{{ x.keys() | tojson }}{{ x.values() | tojson }}", '["y"][1]'),
    ],
)
def test_json_is_made_of_what_has_none(source: str, text: str) -> None:
    assert render(source, {"x": {"y": 1}}) == text


def test_what_is_no_data_has_no_json() -> None:
    with pytest.raises(TemplateRunError):
        render("{{ namespace() | tojson }}", {})


# ---------------------------------------------------------------- calls and results


def test_ids_become_short_where_a_template_insists() -> None:
    call, result = render_chat(NINE, called(result_id="call_abcd1234")).rstrip(";").split(";")
    assert call.removeprefix("f=") == result.removeprefix("12=")


def test_short_ids_stay() -> None:
    assert render_chat(NINE, called("abcde1234", "abcde1234")) == "f=abcde1234;12=abcde1234;"


def test_a_result_without_an_id_answers_the_call_before_it() -> None:
    template = "{% for m in messages %}{{ m.tool_call_id }}/{{ m.name }};{% endfor %}"
    assert render_chat(template, called()) == "/;/;call_abcd1234/f;"


def test_results_find_their_calls_by_name() -> None:
    calls = tuple(ToolCall(name=name, arguments={}, id=f"id-{name}") for name in "ab")
    results = [ChatMessage(role="tool", content=name, tool_name=name) for name in "ba"]
    template = "{% for m in messages %}{{ m.tool_call_id }};{% endfor %}"
    messages = [*asked(), ChatMessage(role="assistant", tool_calls=calls), *results]
    assert render_chat(template, messages) == ";;id-b;id-a;"


def test_a_result_of_no_call_keeps_to_itself() -> None:
    messages = [ChatMessage(role="tool", content="1"), *called(result_id="other")]
    template = "{% for m in messages %}{{ m.name }};{% endfor %}"
    assert render_chat(template, messages) == ";;;;"


def test_calls_are_told_in_words_to_a_template_that_knows_none() -> None:
    messages = [ChatMessage(role="system", content="S"), *called(), *asked()]
    text = render_chat(ALTERNATING, messages)
    assert text == '[S\n\nHi][{"name": "f", "arguments": {"x": 1}}][12\n\nHi]'

"""Tool calls in every format that is known, wherever their text is cut."""

import json
from pathlib import Path
from typing import Any

import pytest

from inference.output import known
from inference.output.known import by_parser_name
from inference.output.parser import OutputParser
from inference.output.syntax import CallSyntax, OutputFormat, output_format
from tests.inference.output.answers import TOOLS, Answer, parse, parse_all_ways
from tests.timing import takes_at_most

PARIS = ("get_weather", {"city": "Paris"})
ADD = ("add", {"a": 1, "b": 2.5})
HELLO: tuple[str, dict[str, Any]] = ("say_hello", {})


def form(syntax: CallSyntax) -> OutputFormat:
    return output_format(None, syntax)


def said(syntax: CallSyntax, text: str) -> Answer:
    return parse_all_ways(form(syntax), text)


DATA = json.loads((Path(__file__).parent / "data" / "calls.json").read_text())
ONE_CALL = [(getattr(known, row["syntax"]), row["text"]) for row in DATA["one"]]
SEVERAL = [(getattr(known, row["syntax"]), row["text"]) for row in DATA["several"]]


@pytest.mark.parametrize(("syntax", "text"), ONE_CALL)
def test_a_call_is_found_however_its_text_is_cut(syntax: CallSyntax, text: str) -> None:
    assert said(syntax, text) == Answer(calls=(PARIS,))


MARKED = [each for each in ONE_CALL if not each[1].lstrip().startswith(("{", "["))] + [
    each for each in ONE_CALL if each[0] is known.MISTRAL
]


@pytest.mark.parametrize(("syntax", "text"), MARKED)
def test_text_before_a_call_is_content(syntax: CallSyntax, text: str) -> None:
    answer = said(syntax, "I will look. " + text.strip())
    assert answer == Answer(content="I will look. ", calls=(PARIS,))


@pytest.mark.parametrize(("syntax", "text"), ONE_CALL)
def test_text_after_a_call_is_content(syntax: CallSyntax, text: str) -> None:
    assert said(syntax, text + "\nThat is all.") == Answer(content="That is all.", calls=(PARIS,))


@pytest.mark.parametrize(("syntax", "text"), ONE_CALL)
def test_a_call_of_an_unknown_tool_is_content_as_it_stands(syntax: CallSyntax, text: str) -> None:
    text = text.replace("get_weather", "get_whether")
    assert said(syntax, text) == Answer(content=text)


@pytest.mark.parametrize(("syntax", "text"), ONE_CALL)
def test_without_tools_all_is_content(syntax: CallSyntax, text: str) -> None:
    assert parse(form(syntax), text, tools=()) == Answer(content=text)


@pytest.mark.parametrize(("syntax", "text"), ONE_CALL)
def test_whatever_is_missing_at_the_end_nothing_is_lost(syntax: CallSyntax, text: str) -> None:
    for end in range(len(text)):
        answer = parse(form(syntax), [text[:end]])
        assert answer.content == text[:end] or [name for name, _ in answer.calls] == ["get_weather"]
        assert not (answer.content.strip() and answer.calls)


@pytest.mark.parametrize(("syntax", "text"), SEVERAL)
def test_several_calls_come_in_their_order(syntax: CallSyntax, text: str) -> None:
    assert said(syntax, text) == Answer(calls=(HELLO, ADD))


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('[{"name":"nobody"}, {"name":"say_hello"}]', '[{"name":"nobody"}', (HELLO,)),
        ('[{"name":"say_hello"}, {"name":"nobody"}]', ', {"name":"nobody"}]', (HELLO,)),
        ('{"name":"say_hello"}, and more', ", and more", (HELLO,)),
        ('{"city": "Paris", "name": "get_weather"}', None, ()),
        ('{"name": "get_weather", "city": "Paris"}', None, ()),
        ('{"name": "get_weather", "arguments": ["Paris"]}', None, ()),
        ('{"name": "get_weather", "arguments": "Paris"}', None, ()),
        ('{"name": 5, "arguments": {}}', None, ()),
        ('{"arguments": {"say_hello": {}}}', None, ()),
        ('{"name": "get_weather", "arguments": {"a": NaN}}', None, ()),
        ('{"name": "get_weather", "arguments": {"a": 1e999}}', None, ()),
        ('{"name": "get_weather", "arguments": {"a": "\\ud800"}}', None, ()),
        ("{ int main() { return 0; } }", None, ()),
        ("[1, 2, 3]", None, ()),
        ("[]", None, ()),
        ("{}", None, ()),
        ('{"name": "get_weather"]}', None, ()),
        ("{" * 70, None, ()),
        ('{"name":' + "[" * 70, None, ()),
        ('Say {"name": "say_hello"}', None, ()),
        ("   ", None, ()),
        ("", None, ()),
    ],
)
def test_json_that_is_no_call_is_content(
    text: str, content: str | None, calls: tuple[Any, ...]
) -> None:
    assert said(known.BARE, text) == Answer(text if content is None else content, "", calls)


@pytest.mark.parametrize(
    "value",
    [
        "a } b",
        'a "quoted" {',
        "back\\slash\\",
        "[x]",
        "</tool_call>",
        "get_weather",
        "line\nend",
        "é€😀",
    ],
)
def test_a_string_may_hold_anything(value: str) -> None:
    text = json.dumps({"name": "add", "arguments": {"x": value}}, ensure_ascii=False)
    answer = said(known.HERMES, f"<tool_call>{text}</tool_call>")
    assert answer == Answer(calls=(("add", {"x": value}),))


def test_a_name_in_an_argument_is_no_call_of_it() -> None:
    text = '{"name": "other", "arguments": {"x": "say_hello", "y": {"name": "add"}}}'
    assert said(known.BARE, text) == Answer(content=text)


def test_a_name_may_begin_like_another() -> None:
    tools = [*TOOLS, {"type": "function", "function": {"name": "add_all"}}]
    answer = parse_all_ways(form(known.BARE), '{"name": "add_all"}', tools=tools)
    assert answer.calls == (("add_all", {}),)


def test_arguments_keep_their_order() -> None:
    answer = said(known.BARE, '{"name": "add", "arguments": {"z": 1, "a": 2, "m": 3}}')
    assert [list(arguments) for _, arguments in answer.calls] == [["z", "a", "m"]]


@pytest.mark.parametrize("arguments", ["null", '""', "{}", '"{}"'])
def test_arguments_may_be_nothing(arguments: str) -> None:
    answer = said(known.BARE, f'{{"name": "say_hello", "arguments": {arguments}}}')
    assert answer == Answer(calls=(HELLO,))


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('<tool_call>{"name": "get_weather", "arguments": {"city": "Par', {"city": "Par"}),
        ('<tool_call>{"name": "get_weather", "arguments": {"city": "P\\', {"city": "P"}),
        ('<tool_call>{"name": "get_weather", "arguments": {"days": 3,', {"days": 3}),
        ('<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}', {"city": "Paris"}),
        ('<tool_call>{"name": "get_weather", "arguments": {"hours": [1, 2', {"hours": [1, 2]}),
        ("<tool_call><function=get_weather><parameter=days>3</parameter>", {"days": 3}),
    ],
)
def test_a_call_that_was_cut_off_is_repaired(text: str, arguments: dict[str, Any]) -> None:
    assert said(known.HERMES, text) == Answer(calls=(("get_weather", arguments),))


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "get_wea',
        '<tool_call>{"name": "nobody", "arguments": {"city": "Par',
        '<tool_call>{"name": "get_weather", "arguments": {"city"',
        '<tool_call>{"name": "get_weather", "arguments": {"city": tr',
        "<tool_call><function=get_weather><parameter=city>Par",
        "<tool_call>",
        "<tool_ca",
    ],
)
def test_what_cannot_be_repaired_is_content(text: str) -> None:
    assert said(known.HERMES, text) == Answer(content=text)


def test_a_closing_tag_that_was_cut_off_is_not_shown() -> None:
    assert said(known.HERMES, '<tool_call>{"name": "say_hello"}</tool_') == Answer(calls=(HELLO,))


@pytest.mark.parametrize(
    "text",
    [
        "a < b and <tool",
        "<tool_box>",
        "x <tool_call> is a tag",
        "[TOOL",
        "<function",
        "<functional>",
    ],
)
def test_what_only_looks_like_a_mark_is_content(text: str) -> None:
    assert said(known.HERMES, text) == Answer(content=text)


def test_content_is_shown_at_once_except_the_beginning_of_a_mark() -> None:
    parser = OutputParser(form(known.HERMES), tools=TOOLS, splits_thinking=False, prompt_end="")
    shown = [parser.push(piece).content for piece in ["Hel", "lo <", "tool", "_box> ", "<b"]]
    assert shown == ["Hel", "lo ", "", "<tool_box> ", "<b"]


def test_a_call_is_given_as_soon_as_its_json_is_complete() -> None:
    parser = OutputParser(form(known.HERMES), tools=TOOLS, splits_thinking=False, prompt_end="")
    assert not parser.push('<tool_call>{"name": "say_hello", "arguments": {}').calls
    assert [call.name for call in parser.push("}").calls] == ["say_hello"]


def test_ids_are_made_of_eight_letters_or_digits_and_differ() -> None:
    parser = OutputParser(form(known.BARE), tools=TOOLS, splits_thinking=False, prompt_end="")
    calls = parser.push('[{"name": "say_hello"},{"name": "say_hello"}]').calls
    ids = [call.id for call in calls]
    assert len(set(ids)) == 2
    assert all(len(each) == 13 and each.startswith("call_") and each[5:].isalnum() for each in ids)


XML = """<tool_call>
<function=get_weather>
<parameter={key}>
{text}
</parameter>
</function>
</tool_call>"""


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("city", "5", "5"),
        ("city", "  two\n\nlines ", "  two\n\nlines "),
        ("city", "a < b </function> <parameter=x>", "a < b </function> <parameter=x>"),
        ("days", "5", 5),
        ("days", "five", "five"),
        ("days", "99999999999999999999999", 1e23),
        ("exact", "True", True),
        ("exact", "maybe", "maybe"),
        ("share", "0.5", 0.5),
        ("share", "5", 5),
        ("share", "null", None),
        ("share", "nan", "nan"),
        ("where", '{"x": [1]}', {"x": [1]}),
        ("where", "[1]", "[1]"),
        ("hours", "[1, 2]", [1, 2]),
        ("hours", "noon", "noon"),
        ("unknown", "5", "5"),
    ],
)
def test_tagged_texts_become_what_the_tool_asks_for(key: str, text: str, value: object) -> None:
    answer = said(known.HERMES, XML.format(key=key, text=text))
    assert answer == Answer(calls=(("get_weather", {key: value}),))


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call><function=get_weather>Paris</function></tool_call>",
        "<tool_call><function=get_weather><parameter=city>Paris</parameter>, please</function>",
        "<tool_call>get_weather<arg_key>city</arg_key>: Paris</tool_call>",
        "<tool_call>" + "x" * 400,
    ],
)
def test_broken_tags_are_content(text: str) -> None:
    assert said(known.HERMES, text) == Answer(content=text)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("get_weather(city='a) \\' b', days=3)", {"city": "a) ' b", "days": 3}),
        (
            "get_weather(where={'x': (1, [2])}, exact=true)",
            {"where": {"x": [1, [2]]}, "exact": True},
        ),
        ("get_weather(city='\\d')", {"city": "\\d"}),
        ("get_weather(share=null, days=-1)", {"share": None, "days": -1}),
    ],
)
def test_python_calls_hold_literals(text: str, arguments: dict[str, Any]) -> None:
    answer = said(known.OLMO, f"<function_calls>{text}</function_calls>")
    assert answer == Answer(calls=(("get_weather", arguments),))


@pytest.mark.parametrize(
    "text",
    [
        "get_weather('Paris')",
        "get_weather(city=open('x'))",
        "get_weather(**{'city': 1})",
        "get_weather(city=b'x')",
        "get_weather(city=1j)",
        "get_weather(city=",
        "get_weather(days=1e999)",
        "get_weather",
    ],
)
def test_other_python_is_content(text: str) -> None:
    text = f"<function_calls>{text}"
    assert said(known.OLMO, text) == Answer(content=text)


def test_bare_keys_and_other_quotes_become_json() -> None:
    call = 'call:get_weather{city:<|"|>a "b" {\\ c:<|"|>,where:{x:[1,2],y:true}}'
    text = f"<|tool_call>{call}<tool_call|>"
    arguments = {"city": 'a "b" {\\ c:', "where": {"x": [1, 2], "y": True}}
    assert said(known.GEMMA, text) == Answer(calls=(("get_weather", arguments),))


@pytest.mark.parametrize("name", ["qwen3-coder", "qwen3-vl-thinking", "glm-4.7", "deepseek3"])
def test_a_parsers_name_stands_for_its_family(name: str) -> None:
    found = by_parser_name(name)
    assert found is not None
    assert found.thinking == known.THINK


def test_a_long_call_is_read_in_one_pass() -> None:
    text = '<tool_call>{"name": "add", "arguments": {"x": "' + "word " * 30_000 + '"}}'
    pieces = [text[at : at + 5] for at in range(0, len(text), 5)]
    with takes_at_most(1.3):  # three times as long; looking at the whole text at every piece: 15
        assert parse(form(known.HERMES), pieces).calls


def test_plain_content_costs_next_to_nothing() -> None:
    parser = OutputParser(form(known.HERMES), tools=TOOLS, splits_thinking=True, prompt_end="")
    parser.push("So: ")
    with takes_at_most(0.4):  # 20 µs a piece
        for _ in range(20_000):
            parser.push(" word")


def test_a_tool_that_is_none_is_left_out() -> None:
    tools: list[Any] = [
        {},
        {"function": "x"},
        {"function": {"name": 5}},
        {"function": {"name": ""}},
    ]
    text = '{"name": "x"}'
    assert parse(form(known.BARE), text, tools=tools) == Answer(content=text)

"""Whatever a model says: cutting changes nothing, and no text is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.output import known
from inference.output.syntax import OutputFormat, output_format
from tests.inference.output.answers import cut, parse
from tests.timing import takes_at_most

FORMS = (known.HARMONY, *(output_format(known.THINK, syntax) for syntax in known.SYNTAXES))


def fragments(form: OutputFormat) -> st.SearchStrategy[str]:
    """Return texts made of the format's own marks, pieces of calls and other text."""
    marks = sorted({*form.calls.texts(), *form.shown_tokens, "<think>", "</think>"})
    words = [
        "say_hello",
        "get_weather",
        '{"name": "say_hello"}',
        '{"name": "add", "arguments": {"x": "',
    ]
    signs = [
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        ",",
        ";",
        ":",
        "(",
        ")",
        "=",
        "'",
        " ",
        "\n",
        "<",
        "a",
        "0",
        "to=",
    ]
    return st.lists(st.sampled_from([*marks, *words, *signs]), max_size=14).map("".join)


def is_within(part: str, whole: str) -> bool:
    """Whether the characters of a text occur in another one in their order."""
    rest = iter(whole)
    return all(character in rest for character in part)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_cutting_changes_nothing(form: OutputFormat, data: st.DataObject) -> None:
    text = data.draw(fragments(form))
    whole = parse(form, [text])
    places = data.draw(st.lists(st.integers(0, 200), max_size=6))
    assert parse(form, cut(text, places)) == whole
    assert parse(form, text) == whole


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_text_is_lost_or_invented(form: OutputFormat, data: st.DataObject) -> None:
    text = data.draw(fragments(form))
    answer = parse(form, [text], splits_thinking=False)
    assert form.is_channelled or is_within(answer.content, text)
    assert form.is_channelled or answer.calls or answer.content == text


@given(text=st.text(alphabet="<think>/ \nab"), places=st.lists(st.integers(0, 200), max_size=4))
def test_thinking_and_content_are_the_whole_text(text: str, places: list[int]) -> None:
    form = output_format(known.THINK, known.BARE)
    answer = parse(form, cut(text, places), tools=())
    said = text
    for tag in known.THINK if answer.thinking or answer.content != text else ():
        said = said.replace(tag, "", 1)
    assert "".join((answer.thinking + answer.content).split()) == "".join(said.split())


LONG = 60_000
SAY = '{"name": "say_hello", "arguments": {"a": '


@pytest.mark.parametrize("length", [4, LONG])
@pytest.mark.parametrize(
    ("begin", "more"),
    [
        ("", "<"),
        ("", " "),
        ("", "\n<"),
        ("<think>", "<"),
        ("<think>a", "\n"),
        ("<tool_call>", " "),
        ("<tool_call>", "["),
        ("<tool_call>", '{"'),
        ("<tool_call>", "{ "),
        ("<tool_call>{", " "),
        (f"<tool_call>{SAY}", "["),
        (f"<tool_call>{SAY}1}}}}", " \n"),
        (f'<tool_call>{SAY}"', '\\"'),
        (f'<tool_call>{SAY}"', "<"),
        ("<tool_call>say_hello\n", " "),
        ("<function=add>", "<parameter=a>1</parameter> "),
        ("<function=add><parameter=a>", "</param"),
        ("", "<tool_call>"),
    ],
)
def test_long_answers_take_no_more_time_for_each_token(begin: str, more: str, length: int) -> None:
    text = begin + more * (LONG // len(more))
    pieces = [text[at : at + length] for at in range(0, len(text), length)]
    with takes_at_most(2.0):
        answer = parse(output_format(known.THINK, known.HERMES), pieces)
    assert answer.content or answer.thinking or answer.calls or text.isspace()

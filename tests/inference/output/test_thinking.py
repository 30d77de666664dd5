"""The first block of thinking, apart from the answer (contract 6.7 and 8.6)."""

import pytest

from inference.output import known
from inference.output.parser import OutputParser
from inference.output.syntax import output_format
from tests.inference.output.answers import Answer, parse, parse_all_ways

FORM = output_format(known.THINK, known.HERMES)
CALL = '<tool_call>{"name": "say_hello"}</tool_call>'


def parser(*, splits_thinking: bool = True, prompt_end: str = "") -> OutputParser:
    return OutputParser(FORM, tools=(), splits_thinking=splits_thinking, prompt_end=prompt_end)


@pytest.mark.parametrize(
    ("text", "content", "thinking"),
    [
        ("<think>a</think>b", "b", "a"),
        ("<think>a</think><think>b</think>c", "<think>b</think>c", "a"),
        ("\n <think>\n a \n b\n </think>\n\n c \n", "c \n", "a \n b"),
        ("<think>a </th b</think>c", "c", "a </th b"),
        ("<think>a</thing>b</think>c", "c", "a</thing>b"),
        ("<think></think>c", "c", ""),
        ("<think>\n\n</think>\n\nc", "c", ""),
        ("<think>a", "", "a"),
        ("<think>a</think", "", "a</think"),
        ("<think>", "", ""),
        ("<thi", "<thi", ""),
        (" <thi", " <thi", ""),
        ("<thinker>", "<thinker>", ""),
        ("a <think>b</think>c", "a <think>b</think>c", ""),
        (" a", " a", ""),
        ("", "", ""),
        ("</think>a", "</think>a", ""),
    ],
)
def test_the_first_block_is_split_off(text: str, content: str, thinking: str) -> None:
    assert parse_all_ways(FORM, text, tools=()) == Answer(content, thinking)


@pytest.mark.parametrize(
    ("text", "content", "thinking"),
    [
        ("a</think>b", "b", "a"),
        ("\na\n</think>\n\nb", "b", "a"),
        ("</think>b", "b", ""),
        ("a", "", "a"),
    ],
)
@pytest.mark.parametrize("prompt_end", ["<think>", "assistant\n<think>\n"])
def test_a_prompt_can_open_the_block(
    text: str, content: str, thinking: str, prompt_end: str
) -> None:
    answer = parse_all_ways(FORM, text, tools=(), prompt_end=prompt_end)
    assert answer == Answer(content, thinking)


def test_a_block_that_the_prompt_closed_is_not_open() -> None:
    answer = parse(FORM, "Yes", prompt_end="<think>\n\n</think>\n\n")
    assert answer == Answer("Yes")


def test_calls_come_after_the_thinking() -> None:
    text = f"<think>{CALL}</think>\n\nI say it. {CALL}"
    answer = parse_all_ways(FORM, text)
    assert answer == Answer("I say it. ", CALL, (("say_hello", {}),))


def test_a_call_right_behind_the_thinking_leaves_no_content() -> None:
    answer = parse_all_ways(FORM, f"<think>a</think>\n\n{CALL}\n")
    assert answer == Answer("", "a", (("say_hello", {}),))


def test_a_bare_call_counts_as_the_first_thing_behind_the_thinking() -> None:
    form = output_format(known.THINK, known.BARE)
    answer = parse_all_ways(form, '<think>a</think>\n{"name": "say_hello"}')
    assert answer == Answer("", "a", (("say_hello", {}),))


@pytest.mark.parametrize("text", ["<think>a</think>b", "<thi", "\n"])
def test_undivided_tags_stay_in_the_content(text: str) -> None:
    answer = parse_all_ways(FORM, text, tools=(), splits_thinking=False, prompt_end="<think>")
    assert answer == Answer(text)


def test_thinking_is_shown_as_it_comes() -> None:
    one = parser()
    shown = [one.push(piece) for piece in ["<th", "ink>", "\nWell", ", ", "no", "\n</", "think>"]]
    assert [part.thinking for part in shown] == ["", "", "Well", ",", " no", "", ""]


def test_whether_it_thinks_is_known_at_every_point() -> None:
    one = parser()
    states = []
    for piece in ["", "\n", "<think", ">", "a", "</think", ">", "\n", "b"]:
        one.push(piece)
        states.append((one.is_undecided, one.is_thinking))
    assert states == [(True, False)] * 3 + [(False, True)] * 3 + [(False, False)] * 3


def test_leading_text_decides_against_thinking() -> None:
    one = parser()
    assert not one.rules_out_thinking("<thi")
    assert not one.rules_out_thinking("\n<think>")
    assert one.rules_out_thinking("{")
    one.push("{")
    assert not one.is_undecided
    assert not one.rules_out_thinking("x")


def test_a_beginning_of_the_tag_counts_for_what_follows() -> None:
    one = parser()
    one.push("<th")
    assert one.rules_out_thinking("em")
    assert not one.rules_out_thinking("in")


def test_without_splitting_nothing_is_undecided() -> None:
    one = parser(splits_thinking=False, prompt_end="<think>")
    assert (one.is_undecided, one.is_thinking) == (False, False)
    assert not one.rules_out_thinking("a")

"""gpt-oss' channels."""

from typing import Any

import pytest

from inference.output.known import HARMONY
from inference.output.parser import OutputParser
from tests.inference.output.answers import Answer, parse_all_ways

THOUGHT = "<|channel|>analysis<|message|>Hm.<|end|>"
PROMPT_END = "Hi<|end|><|start|>assistant"
START = "<|start|>assistant"
HELLO: tuple[tuple[str, dict[str, Any]], ...] = (("say_hello", {}),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{THOUGHT}{START}<|channel|>final<|message|>Hello<|return|>", Answer("Hello", "Hm.")),
        (f"{THOUGHT}{START}<|channel|>final<|message|>Hello", Answer("Hello", "Hm.")),
        ("<|channel|>analysis<|message|>Hm", Answer("", "Hm")),
        ("<|channel|>analysis<|message|>Hm<|en", Answer("", "Hm<|en")),
        ("<|channel|>final<|message|>a <|b|> <|end", Answer("a <|b|> <|end")),
        ("<|message|>Hello<|end|>", Answer("Hello")),
        ("Hello", Answer("Hello")),
        (' {"a": 1}', Answer(' {"a": 1}')),
        ("<|chan", Answer("<|chan")),
        ("<|channel|>comm", Answer("")),
        (f"<|channel|>analysis<|message|>A{START}<|channel|>final<|message|>B", Answer("B", "A")),
        (f"{THOUGHT}<|channel|>final<|message|>B", Answer("B", "Hm.")),
        (f"{THOUGHT}Hello", Answer("Hello", "Hm.")),
        (
            f"<|channel|>commentary<|message|>I look.<|end|>{START}<|channel|>final<|message|>B",
            Answer("I look.B"),
        ),
        (
            "<|channel|>commentary to=functions.say_hello <|constrain|>json<|message|>{}<|call|>",
            Answer(calls=HELLO),
        ),
        (
            f"{THOUGHT}{START} to=functions.say_hello<|channel|>commentary json<|message|>",
            Answer("", "Hm.", HELLO),
        ),
        (" to=functions.say_hello<|channel|>commentary<|message|>{}", Answer(calls=HELLO)),
        (
            '<|channel|>commentary to=add<|message|>{"a": 1<|call|>',
            Answer(calls=(("add", {"a": 1}),)),
        ),
        (
            f"<|channel|>x to=add<|message|>{{}}<|call|>{START} to=say_hello<|message|>{{}}",
            Answer(calls=(("add", {}), *HELLO)),
        ),
        (
            "<|channel|>commentary to=nobody<|message|>{}<|call|>",
            Answer("<|channel|>commentary to=nobody<|message|>{}<|call|>"),
        ),
        (
            "<|channel|>commentary to=add<|message|>one and two",
            Answer("<|channel|>commentary to=add<|message|>one and two"),
        ),
        ("<|channel|>" + "x" * 600, Answer("<|channel|>" + "x" * 600)),
    ],
)
def test_every_channel_goes_where_it_belongs(text: str, expected: Answer) -> None:
    assert parse_all_ways(HARMONY, text, prompt_end=PROMPT_END) == expected


def test_a_prompt_may_have_begun_the_message() -> None:
    end = "<|start|>assistant<|channel|>analysis<|message|>"
    answer = parse_all_ways(HARMONY, "Hm.<|end|><|start|>assistant<|message|>Yes", prompt_end=end)
    assert answer == Answer("Yes", "Hm.")


def test_channels_are_read_whatever_was_asked_for() -> None:
    text = f"{THOUGHT}{START}<|channel|>final<|message|>Hello"
    answer = parse_all_ways(HARMONY, text, tools=(), splits_thinking=False, prompt_end=PROMPT_END)
    assert answer == Answer("Hello", "Hm.")


def test_whether_it_thinks_is_known_at_every_point() -> None:
    one = OutputParser(HARMONY, tools=(), splits_thinking=True, prompt_end=PROMPT_END)
    states = []
    final = ["<|end|>", "<|start|>", "assistant<|channel|>final", "<|message|>", "b"]
    for piece in ["", "<|channel|>", "analysis", "<|message|>a", *final]:
        one.push(piece)
        states.append((one.is_undecided, one.is_thinking))
    assert states == [(True, False)] + [(False, True)] * 6 + [(False, False)] * 2


def test_text_without_a_header_decides_against_thinking() -> None:
    one = OutputParser(HARMONY, tools=(), splits_thinking=True, prompt_end=PROMPT_END)
    assert not one.rules_out_thinking("<|channel|>")
    assert one.rules_out_thinking("{")
    one.push("{")
    assert (one.is_undecided, one.is_thinking) == (False, False)

"""Patterns of model names: what they are like, what they reach, and which texts are none."""

import re
import time

import pytest
from django.core.exceptions import ValidationError

from models_app.name_patterns import are_within, check_patterns, matches_any, regex_of
from models_app.names import ModelName


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("llama*", "llama3.2:1b"),
        ("LLAMA*", "Llama3.2"),
        ("library/llama*", "llama3.2"),
        ("qwen3", "qwen3:0.6b"),
        ("qwen3:*", "qwen3:0.6b"),
        ("qwen3:0.?b", "qwen3:0.6b"),
        ("alice/*", "alice/tiny:v1"),
        ("alice/t?ny", "Alice/Tiny"),
        ("*/*", "alice/tiny"),
        ("*/*", "tiny"),
        ("*", "tiny"),
        ("*", "alice/tiny"),
        ("*", "hub.lab:5000/alice/tiny"),
        ("hub.lab:5000/*/*", "hub.lab:5000/alice/tiny"),
        ("*/alice/*:v1", "hub.lab:5000/alice/tiny:v1"),
    ],
)
def test_name_is_like_the_pattern(pattern: str, name: str) -> None:
    assert matches_any([pattern], ModelName.parse(name))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("llama", "llama3.2"),
        ("llama*", "llama-friend/evil"),
        ("llama*", "alice/llama3"),
        ("qwen3:8b", "qwen3:0.6b"),
        ("alice/*", "tiny"),
        ("alice/*", "alice2/tiny"),
        ("*/*", "hub.lab/alice/tiny"),
        ("llama3.2", "llama3x2"),
        ("a b", "a"),
        ("", "tiny"),
    ],
)
def test_name_is_not_like_the_pattern(pattern: str, name: str) -> None:
    assert not matches_any([pattern], ModelName.parse(name))


@pytest.mark.parametrize(
    ("pattern", "is_reached"),
    [("qwen3", True), ("qwen3:*", True), ("*", True), ("qwen3:0.6b", False), ("qwen3:0*", False)],
)
def test_pattern_of_some_tags_does_not_reach_the_whole_model(
    pattern: str, is_reached: bool
) -> None:
    assert matches_any([pattern], ModelName.parse("qwen3:0.6b"), is_whole=True) is is_reached


@pytest.mark.parametrize(
    "text", ["a b", "a/b/c/d", "[ab]*", "x:y:z", "é*", "a\0", "*a*b*", "x" * 300, "/x", "x/"]
)
def test_text_that_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        check_patterns([text])


def test_patterns_are_kept_once_and_without_blanks() -> None:
    assert check_patterns([" llama* ", "", "llama*", "alice/*"]) == ("llama*", "alice/*")


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(ValidationError):
        check_patterns(f"model{number}" for number in range(100))


@pytest.mark.parametrize(
    ("inner", "outer", "is_within"),
    [
        (["llama3"], ["llama*"], True),
        (["llama3:8b"], ["llama3"], True),
        (["llama3"], ["llama3:8b"], False),
        (["llama*"], ["llama*", "qwen*"], True),
        (["llama*"], ["l*"], False),  # it is, but that cannot be told
        (["alice/*"], ["*/*"], True),
        (["alice/*"], ["*"], True),
        (["*"], ["alice/*"], False),
        ([], ["*"], True),
        ([], ["alice/*"], False),
        (["anything"], [], True),
    ],
)
def test_patterns_within_others_are_known(
    inner: list[str], outer: list[str], is_within: bool
) -> None:
    assert are_within(inner, outer) is is_within


def test_worst_pattern_ends_soon() -> None:
    began = time.thread_time()
    for _ in range(100):
        assert not re.search(regex_of("*a*b"), "a" * 80)

    assert time.thread_time() - began < 5

"""Values are written as Go's fmt package writes them."""

from typing import Any

import pytest

from registry.go_text import format_literal, format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2048, "2048"),
        (2048.0, "2048"),
        (0, "0"),
        (-1, "-1"),
        (0.9, "0.9"),
        (1_048_576, "1048576"),
        (1e-05, "1e-05"),
        (1e21, "1e+21"),
        (float("inf"), "+Inf"),
        (True, "true"),
        (False, "false"),
        (None, "<nil>"),
        ("plain", "plain"),
        (["a"], '["a"]'),
    ],
)
def test_value_is_written_plainly(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<|im_end|>", '"<|im_end|>"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\n\t\r\0", '"a\\n\\t\\r\\x00"'),
        ("naïve 🙂", '"naïve 🙂"'),
        ("\u200b", '"\\u200b"'),
        ("\U000e0001", '"\\U000e0001"'),
        (0.5, "0.5"),
    ],
)
def test_literal_quotes_texts_only(value: Any, text: str) -> None:
    assert format_literal(value) == text

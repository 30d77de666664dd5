"""`keep_alive` is read as Go reads it (contract 1.5)."""

import math
from typing import Any

import pytest

from inference.api.keep_alive import read_keep_alive
from inference.requests import KeepAlive
from ollamasite.errors import InvalidBody


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (42, 42.0),
        (42.5, 42.5),
        (0, 0.0),
        (1e-12, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("-0s", 0.0),
        (-1, math.inf),
        (-3.14, math.inf),
        ("-1m", math.inf),
        ("-1s", math.inf),
        (1e300, math.inf),
        (2**62, math.inf),
        (-0.0, 0.0),
        ("5m", 300.0),
        ("+5m", 300.0),
        ("1h30m", 5400.0),
        ("300ms", 0.3),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("2.s", 2.0),
        ("10us", 0.00001),
        ("10\u00b5s", 0.00001),
        ("10\u03bcs", 0.00001),
        ("100ns", 0.0000001),
    ],
)
def test_durations_are_understood(value: Any, seconds: float) -> None:
    assert read_keep_alive(value) == KeepAlive(seconds=seconds)


def test_absent_is_no_wish() -> None:
    assert read_keep_alive(None) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-1", 'time: missing unit in duration "-1"'),
        ("300", 'time: missing unit in duration "300"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("abc", 'time: invalid duration "abc"'),
        ("1h ", 'time: unknown unit "h " in duration "1h "'),
        ("5\u00e4\n", r'time: unknown unit "\xc3\xa4\x0a" in duration "5\xc3\xa4\x0a"'),
        ('"\\', r'time: invalid duration "\"\\"'),
        (" 5m", 'time: invalid duration " 5m"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1m-5s", 'time: unknown unit "m-" in duration "1m-5s"'),
        ("9999999999h", 'time: invalid duration "9999999999h"'),
        (True, "Unsupported type: 'bool'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
        ([], "Unsupported type: '[]interface {}'"),
    ],
)
def test_others_are_refused_in_gos_words(value: Any, message: str) -> None:
    with pytest.raises(InvalidBody) as caught:
        read_keep_alive(value)

    assert caught.value.message == message

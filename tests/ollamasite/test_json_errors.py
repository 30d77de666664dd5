"""What is no JSON is refused at the character that Go would name, and in its words."""

from typing import Any

import pytest

from ollamasite.errors import InvalidBody
from ollamasite.http import MAX_JSON_DEPTH, read_json
from tests.timing import takes_at_most

CUT = "unexpected EOF"


def read(body: bytes) -> Any:
    return read_json(body, empty_message="missing request body")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"a":tru', CUT),
        (b'{"a":trux}', "invalid character 'x' in literal true (expecting 'e')"),
        (b'{"a":faxse}', "invalid character 'x' in literal false (expecting 'l')"),
        (b'{"a":nul}', "invalid character '}' in literal null (expecting 'l')"),
        (b'{"a":-}', "invalid character '}' in numeric literal"),
        (b'{"a":-', CUT),
        (b'{"a":-Infinity}', "invalid character 'I' in numeric literal"),
        (b'{"a":Infinity}', "invalid character 'I' looking for beginning of value"),
        (b'{"a":1.}', "invalid character '}' after decimal point in numeric literal"),
        (b'{"a":1.', CUT),
        (b'{"a":1e}', "invalid character '}' in exponent of numeric literal"),
        (b'{"a":1e+x}', "invalid character 'x' in exponent of numeric literal"),
        (b'{"a":01}', "invalid character '1' after object key:value pair"),
        (b'{"a":.5}', "invalid character '.' looking for beginning of value"),
        (b'{"a":"\\u12zz"}', r"invalid character 'z' in \u hexadecimal character escape"),
        (b'{"a":"\\u12', CUT),
        (b'{"a":"\\u', CUT),
        (b'{"a":"\\', CUT),
        (b"{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
        (b'{"a":\x01}', r"invalid character '\x01' looking for beginning of value"),
        (b'{"a":"\x0c"}', r"invalid character '\f' in string literal"),
        (b"\x7f", r"invalid character '\x7f' looking for beginning of value"),
        ("ä".encode(), "invalid character 'Ã' looking for beginning of value"),
        (b'{"a":["]",1 2]}', "invalid character '2' after array element"),
        (b'["[",{"b":"]" 2}]', "invalid character '2' after object key:value pair"),
    ],
)
def test_character_that_cannot_go_on_is_named(body: bytes, text: str) -> None:
    with pytest.raises(InvalidBody) as refusal:
        read(body)

    assert refusal.value.message == text


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"[]" + b"}" * (depth - 1)


def test_values_may_be_nested_as_deep_as_anyone_needs() -> None:
    value = read(nested(MAX_JSON_DEPTH))
    for _ in range(MAX_JSON_DEPTH - 1):
        value = value["a"]

    assert value == []


@pytest.mark.parametrize("depth", [MAX_JSON_DEPTH + 1, 900, 100_000])
@pytest.mark.parametrize("tail", [b"", b' "\\ud800"'])
def test_deeper_values_are_refused(depth: int, tail: bytes) -> None:
    with pytest.raises(InvalidBody, match="exceeded max depth"):
        read(nested(depth) + tail)


def test_lone_surrogates_of_deep_values_are_replaced_too() -> None:
    body = b'["\\udc00",' * 200 + b"[]" + b"]" * 200

    assert read(body)[1][0] == "\ufffd"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"a":1,"A":2,"a":3}', {"A": 2, "a": 3}),
    ],
)
def test_of_equal_keys_the_last_counts_and_stands_last(body: bytes, value: dict[str, int]) -> None:
    assert list(read(body).items()) == list(value.items())


def test_a_large_broken_body_is_refused_quickly() -> None:
    body = b"[" + b'{"a":["x","y"]},' * 100_000 + b"1 2]"
    with takes_at_most(3.0), pytest.raises(InvalidBody, match="after array element"):
        read(body)

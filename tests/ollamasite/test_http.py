"""JSON as Go reads and writes it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamasite.errors import InvalidBody
from ollamasite.http import encode_json, read_json


def _read(body: bytes) -> Any:
    return read_json(body, empty_message="missing request body")


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":1}', {"a": 1}),
        (b' \r\n\t{"a":1} trailing bytes', {"a": 1}),
        (b"null", None),
        (b'{"a":1}{"b":2}', {"a": 1}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":"\\ud800"}', {"a": "\ufffd"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"\\ud800":["\\udfff"]}', {"\ufffd": ["\ufffd"]}),
    ],
)
def test_the_first_value_is_taken(body: bytes, value: Any) -> None:
    assert _read(body) == value


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b" \n ", "missing request body"),
        (b'{"model":', "unexpected EOF"),
        (b'{"model": "x', "unexpected EOF"),
        (b'{"a":1', "unexpected EOF"),
        (b"{bad", "invalid character 'b' looking for beginning of object key string"),
        (b"xyz", "invalid character 'x' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b'{"a":[1,{"b":2}} ', "invalid character '}' after array element"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a":"\n"}', r"invalid character '\n' in string literal"),
        (b'{"a":"\\x"}', "invalid character 'x' in string escape code"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"a":1e999}', "json: cannot unmarshal number 1e999 into Go value of type float64"),
        (b"[" * 100_000, "exceeded max depth"),
    ],
)
def test_broken_bodies_are_refused_in_the_words_of_gos_decoder(body: bytes, text: str) -> None:
    with pytest.raises(InvalidBody) as refusal:
        _read(body)
    assert refusal.value.message == text


def test_a_number_of_many_digits_costs_nothing() -> None:
    assert _read(b"9" * 300) == 1e300
    with pytest.raises(InvalidBody):
        _read(b"9" * 100_000)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_refusal(body: bytes) -> None:
    try:
        value = _read(body)
    except InvalidBody:
        return
    encode_json(value)


def test_output_is_compact_and_escapes_what_go_escapes() -> None:
    value = {"b": "<a&b>\u2028é😀", "a": [1, None, 1.5]}
    assert encode_json(value) == (
        '{"b":"\\u003ca\\u0026b\\u003e\\u2028é😀","a":[1,null,1.5]}'.encode()
    )

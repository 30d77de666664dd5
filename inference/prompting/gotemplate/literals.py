"""Go's constants as they stand in a template → Python values.

Format: https://go.dev/ref/spec#String_literals and #Integer_literals. Knows nothing of tokens;
complex numbers are not supported.
"""

import re
from typing import Final

from inference.prompting.gotemplate.values import (
    MAX_CODE_POINT,
    from_bytes,
    is_surrogate,
    lone_byte,
    to_bytes,
)

_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\\"'])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|())"
)
_SIMPLE: Final = dict(zip("abfnrtv\\\"'", "\a\b\f\n\r\t\v\\\"'", strict=True))
_INTEGER: Final = re.compile(
    r"([+-]?)(?:0[xX]((?:_?[0-9a-fA-F])+)|0[bB]((?:_?[01])+)|0[oO]?((?:_?[0-7])+)"
    r"|(0|[1-9](?:_?[0-9])*))"
)
_BASES: Final = {2: 16, 3: 2, 4: 8, 5: 10}
_DECIMAL_FLOAT: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
)
_HEX_FLOAT: Final = re.compile(
    r"[+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+"
)
_INT_BITS: Final = 63
_MAX_BYTE: Final = 0xFF
_MAX_INTEGER_DIGITS: Final = 100


def unquote(text: str) -> str:
    """Return the string that a quoted text stands for; raise ValueError if it is malformed."""
    if text[0] == "`":
        return text[1:-1].replace("\r", "")
    inner = text[1:-1]
    return _unescape(inner, quote='"') if "\\" in inner else inner


def rune(text: str) -> int:
    """Return the code point of a character in single quotes; raise ValueError if malformed."""
    inner = text[1:-1]
    character = _unescape(inner, quote="'") if "\\" in inner else inner
    if len(character) != 1:
        raise ValueError(f"malformed character constant: {text}")
    byte = lone_byte(ord(character))
    return ord(character) if byte is None else byte


def number(text: str) -> int | float:
    """Return the value of an integer or floating-point constant; raise ValueError otherwise."""
    if (integer := _INTEGER.fullmatch(text)) and len(text) <= _MAX_INTEGER_DIGITS:
        group = integer.lastindex or 5
        value = int(integer[group], _BASES[group])
        value = -value if integer[1] == "-" else value
        if not -(1 << _INT_BITS) <= value < 1 << _INT_BITS:
            raise ValueError(f"{text} overflows int")
        return value
    if _HEX_FLOAT.fullmatch(text):
        result = float.fromhex(text)
    elif _DECIMAL_FLOAT.fullmatch(text) and not text.lstrip("+-").isdigit():
        result = float(text)
    else:
        raise ValueError(f"illegal number syntax: {text!r}")
    if result in (float("inf"), float("-inf")):
        raise ValueError(f"illegal number syntax: {text!r}")
    return result


def _unescape(inner: str, *, quote: str) -> str:
    def replace(found: re.Match[str]) -> str:
        simple, octal, two, four, eight, bad = found.groups()
        if bad is not None or (simple in {'"', "'"} and simple != quote):
            raise ValueError(f"invalid escape in {inner!r}")
        if simple:
            return _SIMPLE[simple]
        if octal or two:
            return _byte(int(octal, 8) if octal else int(two, 16))
        return _character(int(four or eight, 16))

    text = _ESCAPE.sub(replace, inner)
    return text if text.isascii() else from_bytes(to_bytes(text))


def _byte(code: int) -> str:
    if code > _MAX_BYTE:
        raise ValueError(f"escape out of range: {code:#o}")
    return from_bytes(bytes([code]))


def _character(code: int) -> str:
    if code > MAX_CODE_POINT or is_surrogate(code):
        raise ValueError(f"escape out of range: {code:#x}")
    return chr(code)

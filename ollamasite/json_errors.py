"""Why a text is no JSON, in the words of Go's decoder (contract/ollama.md 2.2).

Python's decoder says at which character it gave up; Go names the first character that cannot go
on what was begun, which may stand a little further on. Knows no body, no route and no value.
"""

import json
import re
from typing import Final

CUT_SHORT: Final = "unexpected EOF"
TOO_DEEP: Final = "exceeded max depth"
_VALUE: Final = "looking for beginning of value"
_OBJECT_KEY: Final = "looking for beginning of object key string"
_CONTEXTS: Final = {
    "Expecting property name enclosed in double quotes": _OBJECT_KEY,
    "Expecting value": _VALUE,
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Illegal trailing comma before end of object": _OBJECT_KEY,
    "Illegal trailing comma before end of array": _VALUE,
    "Invalid control character at": "in string literal",
}
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}
_HEX_RUN: Final = re.compile(r"[0-9a-fA-F]*")
_SHORT_ESCAPES: Final = {
    "'": r"\'",
    "\\": r"\\",
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
}
_FIRST_UNPRINTABLE: Final = 0x7F
_NON_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^][{}"]+', re.DOTALL)


def go_message(error: json.JSONDecodeError) -> str:
    """Return what Go's decoder says of the text that Python's has refused."""
    text, at = error.doc, error.pos
    if at >= len(text) or error.msg.startswith("Unterminated string"):
        return CUT_SHORT
    if error.msg.startswith("Invalid \\escape"):
        return invalid(text, at + 1, "in string escape code")
    if error.msg.startswith("Invalid \\u"):
        digits = _HEX_RUN.match(text, at + 1)
        return invalid(
            text, digits.end() if digits else at + 1, "in \\u hexadecimal character escape"
        )
    if error.msg == "Expecting value" and text[at] in _LITERALS:
        return _in_literal(text, at)
    if error.msg == "Expecting value" and text[at] == "-":
        return invalid(text, at + 1, "in numeric literal")
    if error.msg == "Expecting ',' delimiter":
        return _behind_value(text, at)
    return invalid(text, at, _CONTEXTS.get(error.msg, _VALUE))


def invalid(text: str, at: int, context: str) -> str:
    """Return Go's refusal of the character at a place, or of a text that ends there."""
    return f"invalid character {_quoted(text[at])} {context}" if at < len(text) else CUT_SHORT


def _in_literal(text: str, at: int) -> str:
    literal = _LITERALS[text[at]]
    right = next(
        (
            count
            for count, letter in enumerate(literal)
            if text[at + count : at + count + 1] != letter
        ),
        len(literal),
    )
    expected = literal[right : right + 1]
    return invalid(text, at + right, f"in literal {literal} (expecting '{expected}')")


def _behind_value(text: str, at: int) -> str:
    is_number = text[at - 1].isdigit()
    if is_number and text[at] == ".":
        return invalid(text, at + 1, "after decimal point in numeric literal")
    if is_number and text[at] in "eE":
        signs = 1 if text[at + 1 : at + 2] in {"+", "-"} else 0
        return invalid(text, at + 1 + signs, "in exponent of numeric literal")
    in_array = _is_in_array(text[:at])
    return invalid(text, at, "after array element" if in_array else "after object key:value pair")


def _is_in_array(text: str) -> bool:
    depth = 0
    for character in reversed(_NON_BRACKETS.sub("", text)):
        if character in "]}":
            depth += 1
        elif depth == 0:
            return character == "["
        else:
            depth -= 1
    return False


def _quoted(character: str) -> str:
    """Return a character as Go's decoder shows it: of several bytes only the first."""
    if character in _SHORT_ESCAPES:
        return f"'{_SHORT_ESCAPES[character]}'"
    if character == '"':
        return "'\"'"
    byte = character.encode()[0]
    if byte < ord(" ") or byte == _FIRST_UNPRINTABLE:
        return f"'\\x{byte:02x}'"
    return f"'{chr(byte)}'"

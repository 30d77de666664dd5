"""Values as Go's fmt package writes them, for the texts of show (contract/ollama.md 1.8).

Pure text; knows nothing of models.
"""

import json
import math
from typing import Any, Final

# Between these a number is written without an exponent, so that whole numbers parse again.
_SMALLEST_PLAIN: Final = 1e-4
_SMALLEST_WITH_EXPONENT: Final = 1e21


def format_value(value: Any) -> str:
    """Return a JSON value as `%v` prints it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return _format_number(value)
        case str():
            return value
        case None:
            return "<nil>"
        case _:
            return json.dumps(value, ensure_ascii=False)


def format_literal(value: Any) -> str:
    """Return a JSON value as `%#v` prints it: strings quoted, numbers bare."""
    return _quote(value) if isinstance(value, str) else format_value(value)


def _format_number(value: float) -> str:
    # Go holds every JSON number as float64 and prints the shortest form, `2048` for 2048.0.
    number = float(value)
    if number == 0 or _SMALLEST_PLAIN <= abs(number) < _SMALLEST_WITH_EXPONENT:
        return str(int(number)) if number.is_integer() else repr(number)
    if not math.isfinite(number):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(number, "NaN")
    return repr(number)


def _quote(text: str) -> str:
    return "".join(('"', *map(_escape, text), '"'))


def _escape(character: str) -> str:
    if character in '"\\' or (not character.isprintable() and ord(character) < 0x80):  # noqa: PLR2004 - ASCII
        return _SHORT_ESCAPES.get(character, f"\\x{ord(character):02x}")
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - the first plane


_SHORT_ESCAPES: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}

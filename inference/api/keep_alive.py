"""`keep_alive` as clients write it → KeepAlive (contract/ollama.md 1.5).

Numbers are seconds; strings are Go durations, refused in the words of Go's `time.ParseDuration`.
Knows no route, no default and no model.
"""

import math
import re
from typing import Any, Final

from inference.requests import KeepAlive
from ollamasite.errors import InvalidBody

_NS: Final = 1_000_000_000
_MAX_NS: Final = 2**63 - 1
_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": _NS,
    "m": 60 * _NS,
    "h": 3600 * _NS,
}
_LAST_ASCII: Final = "\x7f"
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_UNIT: Final = re.compile(r"[^0-9.]+")


def read_keep_alive(value: Any) -> KeepAlive | None:
    """Return the wish, or None where there is none. Raises InvalidBody."""
    match value:
        case None:
            return None
        case bool():
            raise _refusal("Unsupported type: 'bool'")
        case int() | float():
            return _of_nanoseconds(value * _NS)
        case str():
            return _of_nanoseconds(_duration_ns(value))
    kind = "[]interface {}" if isinstance(value, list) else "map[string]interface {}"
    raise _refusal(f"Unsupported type: '{kind}'")


def _refusal(message: str) -> InvalidBody:
    return InvalidBody(message, param="keep_alive")


def _of_nanoseconds(duration_ns: float) -> KeepAlive:
    if duration_ns < 0 or duration_ns > _MAX_NS:
        return KeepAlive(seconds=math.inf)
    return KeepAlive(seconds=int(duration_ns) / _NS)


def _duration_ns(text: str) -> float:
    unsigned = text[1:] if text[:1] in {"-", "+"} else text
    if unsigned == "0":
        return 0
    total_ns = 0.0
    rest = unsigned
    while rest or not unsigned:
        number = _NUMBER.match(rest)
        if number is None:
            raise _refusal(f"time: invalid duration {_quoted(text)}")
        unit = _UNIT.match(rest, number.end())
        if unit is None:
            raise _refusal(f"time: missing unit in duration {_quoted(text)}")
        if unit[0] not in _UNITS_NS:
            raise _refusal(f"time: unknown unit {_quoted(unit[0])} in duration {_quoted(text)}")
        total_ns += float(number[0]) * _UNITS_NS[unit[0]]
        rest = rest[unit.end() :]
    if total_ns > _MAX_NS:
        raise _refusal(f"time: invalid duration {_quoted(text)}")
    return -total_ns if text.startswith("-") else total_ns


def _quoted(text: str) -> str:
    """Return a text as Go's time package quotes it: what is not ASCII as the bytes it has."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if not " " <= character <= _LAST_ASCII:
        return "".join(f"\\x{byte:02x}" for byte in character.encode())
    return f"\\{character}" if character in '"\\' else character

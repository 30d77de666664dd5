"""Floating-point numbers as Go writes them.

Knows nothing of verbs, widths or JSON's other values.
"""

import math
from decimal import Decimal
from typing import Final

_MIN_PLAIN: Final = 1e-6
_MAX_PLAIN: Final = 1e21
_MIN_SHORTEST_POWER: Final = -4
_MAX_SHORTEST_POWER: Final = 6


def json_float(value: float) -> str:
    """Return a float as encoding/json writes it; what JSON cannot say becomes null."""
    if not math.isfinite(value):
        return "null"
    size = abs(value)
    if size == 0 or _MIN_PLAIN <= size < _MAX_PLAIN:
        return plain(value)
    mantissa, _, exponent = exponential(value).partition("e")
    return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"


def plain(value: float) -> str:
    """Return the shortest digits that identify a finite float, without exponent."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def exponential(value: float) -> str:
    """Return the shortest digits that identify a finite float, with an exponent of two digits."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    figures = "".join(map(str, digits))
    power = int(exponent) + len(figures) - 1 if value else 0
    figures = figures.rstrip("0") or "0"
    tail = f".{figures[1:]}" if len(figures) > 1 else ""
    return f"{'-' if sign else ''}{figures[0]}{tail}e{power:+03d}"


def shortest(value: float) -> str:
    """Return a finite float as the verbs %v and %g without a precision write it."""
    power = Decimal(repr(value)).adjusted() if value else 0
    if _MIN_SHORTEST_POWER <= power < _MAX_SHORTEST_POWER:
        return plain(value)
    return exponential(value)


def hexadecimal(value: float) -> str:
    """Return a finite float as the verb %x without a precision writes it."""
    mantissa, _, exponent = value.hex().partition("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{int(exponent):+03d}"

"""One value → text under one of fmt's verbs, flags, width and precision.

Format: https://pkg.go.dev/fmt. Knows nothing of format strings or argument lists.
"""

import dataclasses
import re
from typing import Final, TypeAlias

from inference.prompting.errors import TemplateLimitError
from inference.prompting.gotemplate.numbers import exponential, hexadecimal, plain, shortest
from inference.prompting.gotemplate.values import (
    MAX_CODE_POINT,
    MISSING,
    Stringer,
    Struct,
    Value,
    is_surrogate,
    lone_byte,
    sorted_items,
    to_bytes,
    type_name,
)
from inference.prompting.limits import Budget

MAX_WIDTH: Final = 1_000_000
BAD_NUMBER: Final = MAX_WIDTH + 1
_MAX_DEPTH: Final = 100
_MAX_SHORT: Final = 0xFFFF
_REPLACEMENT: Final = 0xFFFD
_UNSIGNED: Final = 1 << 64
_MIN_POWER: Final = -4
_NOT_PLAIN: Final = re.compile(r"[^ !#-\[\]-~]")
_NAMED_ESCAPES: Final = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v",
    "\\": r"\\", '"': r"\"",
}  # fmt: skip
Container: TypeAlias = dict[str, Value] | list[Value] | tuple[Value, ...] | Struct
_INTEGER_BASES: Final = {"b": "b", "o": "o", "O": "o", "d": "d", "x": "x", "X": "X", "v": "d"}
_PREFIXES: Final = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """A verb and what stands between it and the percent sign; None is not given."""

    verb: str
    flags: str = ""
    width: int | None = None
    precision: int | None = None


def show(value: Value, spec: Spec, budget: Budget, depth: int = 0) -> str:
    """Return a value's text; a verb that does not fit gives Go's `%!verb(type=value)`."""
    if isinstance(value, str) and not isinstance(value, Stringer):
        return _show_string(value, spec, budget)
    budget.spend()
    budget.build(max(spec.width or 0, spec.precision or 0))
    if spec.verb == "T":
        return _pad(type_name(value), spec)
    is_source = spec.verb == "v" and "#" in spec.flags
    if isinstance(value, Stringer) and spec.verb in "vsxXq" and not is_source:
        return _show_string(value.go_string(), spec, budget)
    if isinstance(value, dict | list | tuple | Struct):
        return _show_container(value, spec, budget, depth)
    shown = _show_scalar(value, spec)
    return _misfit(value, spec, budget) if shown is None else shown


def _show_scalar(value: Value, spec: Spec) -> str | None:
    if isinstance(value, bool):
        return _pad("true" if value else "false", spec) if spec.verb in "tv" else None
    if isinstance(value, int):
        return _show_integer(value, spec)
    if isinstance(value, float):
        return _show_float(value, spec)
    return _pad("<nil>", spec) if spec.verb == "v" else f"%!{spec.verb}(<nil>)"


def _misfit(value: Value, spec: Spec, budget: Budget) -> str:
    """Return Go's complaint, in which the value keeps its width."""
    again = dataclasses.replace(spec, verb="v", flags=spec.flags.replace("#", ""))
    return f"%!{spec.verb}({type_name(value)}={show(value, again, budget)})"


def describe(value: Value, budget: Budget) -> str:
    """Return `type=value`, as fmt's complaints name a value."""
    if value is None or value is MISSING:
        return "<nil>"
    return f"{type_name(value)}={show(value, Spec('v'), budget)}"


def quote(text: str, *, is_ascii: bool = False) -> str:
    """Return a text in double quotes, with everything unprintable escaped."""

    def escape(found: re.Match[str]) -> str:
        character = found[0]
        if named := _NAMED_ESCAPES.get(character):
            return named
        code = ord(character)
        if character.isprintable() and not is_ascii:
            return character
        byte = code if character.isascii() else lone_byte(code)
        if byte is not None:
            return f"\\x{byte:02x}"
        return f"\\u{code:04x}" if code <= _MAX_SHORT else f"\\U{code:08x}"

    return f'"{_NOT_PLAIN.sub(escape, text)}"'


# ---------------------------------------------------------------- strings and truth values


def _show_string(text: str, spec: Spec, budget: Budget) -> str:
    verb = spec.verb
    if verb == "v" and not spec.flags and spec.width is None and spec.precision is None:
        budget.build(len(text))
        return text
    budget.build(8 * len(text) if verb in "qxX" else max(len(text), spec.width or 0))
    if spec.precision is not None and verb in "svq":
        text = text[: spec.precision]
    if verb == "T":
        return _pad("string", spec)
    if verb == "q" or (verb == "v" and "#" in spec.flags):
        return _pad(_quoted(text, spec), spec)
    if verb in "xX":
        return _pad(_hex_bytes(text, spec), spec)
    if verb in "sv":
        return _pad(text, spec)
    return _misfit(text, spec, budget)


def _quoted(text: str, spec: Spec) -> str:
    if "#" in spec.flags and "`" not in text and (text.isprintable() or text == "\t"):
        return f"`{text}`" if spec.verb == "q" else quote(text)
    return quote(text, is_ascii="+" in spec.flags)


def _hex_bytes(text: str, spec: Spec) -> str:
    data = to_bytes(text)[: spec.precision]
    separator = " " if " " in spec.flags else ""
    prefix = "0x" if "#" in spec.flags and data else ""
    digits = prefix + (data.hex(" ").replace(" ", " " + prefix) if separator else data.hex())
    return digits.upper() if spec.verb == "X" else digits


def _pad(text: str, spec: Spec) -> str:
    if spec.width is None or len(text) >= spec.width:
        return text
    if "-" in spec.flags:
        return text.ljust(spec.width)
    return text.rjust(spec.width, "0" if "0" in spec.flags else " ")


# ---------------------------------------------------------------- numbers


def _show_integer(value: int, spec: Spec) -> str | None:
    verb = spec.verb
    if verb in _INTEGER_BASES:
        return _digits(value, spec)
    if verb in "cqU":
        is_character = 0 <= value <= MAX_CODE_POINT and not is_surrogate(value)
        code = value if is_character else _REPLACEMENT
        if verb == "c":
            return _pad(chr(code), spec)
        if verb == "q":
            return _pad(_quoted_rune(chr(code)), spec)
        return _pad(f"U+{value % _UNSIGNED:04X}", spec)
    return None


def _quoted_rune(character: str) -> str:
    if character in {"'", '"'}:
        return "'\\''" if character == "'" else "'\"'"
    return f"'{quote(character)[1:-1]}'"


def _digits(value: int, spec: Spec) -> str:
    digits = format(abs(value), _INTEGER_BASES[spec.verb])
    if spec.precision is not None:
        digits = digits.zfill(spec.precision) if value or spec.precision else ""
    sign = _sign(value < 0, spec)
    prefix = _PREFIXES.get(spec.verb, "") if "#" in spec.flags else ""
    prefix = "0o" if spec.verb == "O" else prefix
    is_filled = "0" in spec.flags and "-" not in spec.flags and spec.precision is None
    if is_filled and spec.width is not None:
        digits = digits.zfill(spec.width - len(sign))
    if prefix == "0" and digits.startswith("0"):
        prefix = ""
    return _pad_with_blanks(sign + prefix + digits, spec)


def _show_float(value: float, spec: Spec) -> str | None:
    text = _float_digits(abs(value), spec)
    if text is None:
        return None
    sign = _sign(str(value).startswith("-"), spec)
    if "0" in spec.flags and "-" not in spec.flags and spec.width is not None:
        return sign + text.zfill(spec.width - len(sign))
    return _pad_with_blanks(sign + text, spec)


def _float_digits(value: float, spec: Spec) -> str | None:
    """Return the digits of a float that is not negative, or None for a verb not for floats."""
    verb = spec.verb
    if verb in "eEfF":
        text = format(value, f".{6 if spec.precision is None else spec.precision}{verb}")
    elif verb in "xX" and spec.precision is None:
        text = hexadecimal(value)
    elif verb in "vgG" and spec.precision is None:
        text = shortest(value)
    elif verb in "vgG":
        text = _general(value, spec.precision or 1)
    else:
        return None
    return text.upper() if verb in "EGX" else text


def _general(value: float, precision: int) -> str:
    """Return `precision` significant digits, but no zeros after those the float needs."""
    rounded = float(format(value, f".{precision - 1}e"))
    power = int(exponential(rounded).partition("e")[2])
    significant = len(exponential(rounded).partition("e")[0].replace(".", ""))
    limit = significant if precision > significant > power else precision
    return exponential(rounded) if power < _MIN_POWER or power >= limit else plain(rounded)


def _sign(is_negative: bool, spec: Spec) -> str:  # noqa: FBT001 - the sign itself
    if is_negative:
        return "-"
    if "+" in spec.flags and spec.verb != "v":
        return "+"
    return " " if " " in spec.flags else ""


def _pad_with_blanks(text: str, spec: Spec) -> str:
    width = spec.width or 0
    return text.ljust(width) if "-" in spec.flags else text.rjust(width)


# ---------------------------------------------------------------- containers


def _show_container(value: Container, spec: Spec, budget: Budget, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise TemplateLimitError("value is nested too deeply to be printed")
    is_source = spec.verb == "v" and "#" in spec.flags
    separator = ", " if is_source else " "

    def inner(item: Value) -> str:
        if item is None:
            return "interface {}(nil)" if is_source else "<nil>"
        return show(item, spec, budget, depth + 1)

    match value:
        case dict():
            items = [
                f"{quote(key) if is_source else inner(key)}:{inner(item)}"
                for key, item in sorted_items(value)
            ]
            kind, brackets = "map", "{}" if is_source else "[]"
        case Struct():
            is_named = is_source or (spec.verb == "v" and "+" in spec.flags)
            items = [
                f"{name}:{inner(item)}" if is_named else inner(item)
                for name, item in value.fields.items()
            ]
            kind, brackets = "", "{}"
        case list() | tuple():
            items = [inner(item) for item in value]
            kind, brackets = "", "{}" if is_source else "[]"
    start = type_name(value) if is_source else kind
    text = f"{start}{brackets[0]}{separator.join(items)}{brackets[1]}"
    budget.build(len(text))
    return text

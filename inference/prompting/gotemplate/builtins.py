"""The functions every Go template can call, by name.

`and` and `or` stop early and are therefore the interpreter's; here stand only their names and
numbers of arguments. Source: https://pkg.go.dev/text/template#hdr-Functions. Knows nothing of
syntax trees.
"""

import re
import urllib.parse
from collections.abc import Callable
from typing import Final

from inference.prompting.errors import TemplateRunError
from inference.prompting.gotemplate import printing
from inference.prompting.gotemplate.values import (
    Function,
    Value,
    byte_length,
    expect_string,
    from_bytes,
    to_bytes,
    truth,
    type_name,
    whole,
)
from inference.prompting.limits import Budget

_HTML: Final = str.maketrans(
    {"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
)
_JS_UNSAFE: Final = re.compile(r"""[^ !#-%(-;?-\[\]-~]""")
_JS_NAMED: Final = {"\\": r"\\", "'": r"\'", '"': r"\""}
_GROWTH: Final = 6
_MAX_SLICE_INDEXES: Final = 3


# ---------------------------------------------------------------- texts


def _print(arguments: list[Value], budget: Budget) -> str:
    return printing.sprint(arguments, budget)


def _println(arguments: list[Value], budget: Budget) -> str:
    return printing.sprintln(arguments, budget)


def _printf(arguments: list[Value], budget: Budget) -> str:
    return printing.sprintf(expect_string(arguments[0]), arguments[1:], budget)


def _escaping(escape: Callable[[str], str]) -> Callable[[list[Value], Budget], str]:
    def call(arguments: list[Value], budget: Budget) -> str:
        if len(arguments) == 1:
            text = printing.to_text(arguments[0], budget)
        else:
            shown = ["<no value>" if value is None else value for value in arguments]
            text = printing.sprint(shown, budget)
        budget.build(_GROWTH * len(text))
        return escape(text)

    return call


def _escape_js(text: str) -> str:
    def escape(found: re.Match[str]) -> str:
        character = found[0]
        if named := _JS_NAMED.get(character):
            return named
        if not character.isascii() and character.isprintable():
            return character
        return f"\\u{ord(character):04X}"

    return _JS_UNSAFE.sub(escape, whole(text))


def _escape_query(text: str) -> str:
    return urllib.parse.quote_plus(to_bytes(text), safe="")


# ---------------------------------------------------------------- containers


def _len(arguments: list[Value], budget: Budget) -> int:
    value = arguments[0]
    if isinstance(value, str):
        return byte_length(value, budget)
    if isinstance(value, dict | list | tuple):
        return len(value)
    raise TemplateRunError(f"len of type {type_name(value)}")


def _position(index: Value, size: int) -> int:
    """Return an index into something of this size, its end included."""
    if isinstance(index, bool) or not isinstance(index, int):
        raise TemplateRunError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= size:
        raise TemplateRunError(f"index out of range: {index}")
    return index


def _index(arguments: list[Value], budget: Budget) -> Value:
    value, *indexes = arguments
    if value is None:
        raise TemplateRunError("index of untyped nil")
    for index in indexes:
        value = _item(value, index, budget)
    return value


def _item(value: Value, index: Value, budget: Budget) -> Value:
    if isinstance(value, dict):
        return value.get(expect_string(index))
    if isinstance(value, str):
        budget.read(len(value))
        value = to_bytes(value)
    if not isinstance(value, bytes | list | tuple):
        raise TemplateRunError(f"can't index item of type {type_name(value)}")
    position = _position(index, len(value))
    if position == len(value):
        raise TemplateRunError(f"index out of range: {index}")
    return value[position]


def _slice(arguments: list[Value], budget: Budget) -> Value:
    value, *indexes = arguments
    if len(indexes) > _MAX_SLICE_INDEXES:
        raise TemplateRunError(f"too many slice indexes: {len(indexes)}")
    if isinstance(value, str):
        return _slice_text(value, indexes, budget)
    if not isinstance(value, list | tuple):
        raise TemplateRunError(f"can't slice item of type {type_name(value)}")
    start, end = _bounds(indexes, len(value))
    budget.spend((end - start) // 16)
    return value[start:end]


def _slice_text(text: str, indexes: list[Value], budget: Budget) -> str:
    if len(indexes) == _MAX_SLICE_INDEXES:
        raise TemplateRunError("cannot 3-index slice a string")
    budget.build(len(text))
    if text.isascii():
        start, end = _bounds(indexes, len(text))
        return text[start:end]
    data = to_bytes(text)
    start, end = _bounds(indexes, len(data))
    return from_bytes(data[start:end])


def _bounds(indexes: list[Value], size: int) -> tuple[int, int]:
    positions = [_position(index, size) for index in indexes]
    start, end, *most = [*positions, *(0, size)[len(positions) :]]
    for low, high in ((start, end), (end, most[0] if most else end)):
        if low > high:
            raise TemplateRunError(f"invalid slice index: {low} > {high}")
    return start, end


# ---------------------------------------------------------------- comparisons


def _kind(value: Value) -> str:
    """Return which values it can be compared with; empty for none."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int():
            return "int"
        case float():
            return "float"
    return ""


def _read_both(first: Value, second: Value, budget: Budget) -> None:
    if isinstance(first, str) and isinstance(second, str):
        budget.read(min(len(first), len(second)))


def _is_same(first: Value, second: Value, budget: Budget) -> bool:
    kind = _kind(first)
    if kind != _kind(second):
        if first is None or second is None:
            return False
        raise TemplateRunError("incompatible types for comparison")
    if not kind and first is not None and second is not None:
        raise TemplateRunError(f"non-comparable type {type_name(first)}")
    _read_both(first, second, budget)
    return bool(first == second)


def _eq(arguments: list[Value], budget: Budget) -> bool:
    first, *others = arguments
    if not others:
        raise TemplateRunError("missing argument for comparison")
    return any(_is_same(first, other, budget) for other in others)


def _ne(arguments: list[Value], budget: Budget) -> bool:
    return not _is_same(arguments[0], arguments[1], budget)


def _is_less(first: Value, second: Value, budget: Budget) -> bool:
    if _kind(first) in {"", "bool"}:
        raise TemplateRunError("invalid type for comparison")
    if _kind(first) != _kind(second):
        raise TemplateRunError("incompatible types for comparison")
    _read_both(first, second, budget)
    if isinstance(first, str) and isinstance(second, str):
        return first < second
    return isinstance(first, int | float) and isinstance(second, int | float) and first < second


def _lt(arguments: list[Value], budget: Budget) -> bool:
    return _is_less(arguments[0], arguments[1], budget)


def _le(arguments: list[Value], budget: Budget) -> bool:
    return _lt(arguments, budget) or _is_same(arguments[0], arguments[1], budget)


def _gt(arguments: list[Value], budget: Budget) -> bool:
    return not _le(arguments, budget)


def _ge(arguments: list[Value], budget: Budget) -> bool:
    return not _lt(arguments, budget)


def _not(arguments: list[Value], _budget: Budget) -> bool:
    return not truth(arguments[0])


def _call(arguments: list[Value], _budget: Budget) -> Value:
    raise TemplateRunError(f"call of non-function of type {type_name(arguments[0])}")


def _stop(_arguments: list[Value], _budget: Budget) -> Value:
    raise TemplateRunError("function must be called by the interpreter")


AND: Final = "and"
OR: Final = "or"
BUILTINS: Final = {
    AND: Function(_stop, 1, None),
    "call": Function(_call, 1, None),
    "eq": Function(_eq, 1, None),
    "ge": Function(_ge, 2, 2),
    "gt": Function(_gt, 2, 2),
    "html": Function(_escaping(lambda text: text.translate(_HTML)), 0, None),
    "index": Function(_index, 1, None),
    "js": Function(_escaping(_escape_js), 0, None),
    "le": Function(_le, 2, 2),
    "len": Function(_len, 1, 1),
    "lt": Function(_lt, 2, 2),
    "ne": Function(_ne, 2, 2),
    "not": Function(_not, 1, 1),
    OR: Function(_stop, 1, None),
    "print": Function(_print, 0, None),
    "printf": Function(_printf, 1, None),
    "println": Function(_println, 0, None),
    "slice": Function(_slice, 1, None),
    "urlquery": Function(_escaping(_escape_query), 0, None),
}

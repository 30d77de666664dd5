"""The tools of one request, and what a model wrote for a call → a call of one of them.

Arguments are checked to be able to travel (`inference.frames`), not against the tool's schema.
Knows nothing of how calls are marked in text.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

Call: TypeAlias = tuple[str, dict[str, Any]]  # name, arguments

_NAMES: Final = ("name", "tool_name", "function")
_ARGUMENTS: Final = ("arguments", "parameters", "args")
_ASIDES: Final = frozenset({"id", "index", "type", "tool_call_id", "call_id"})
_NOTHING: Final = frozenset({"", "null"})
_MAX_INT: Final = (1 << 64) - 1
_MIN_INT: Final = -(1 << 63)
_INTEGER: Final = re.compile(r"[+-]?\d+")


class Toolbox:
    """The known names and the types of their arguments; false if there are none."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        """Tools are as in a request's JSON; what is not well formed among them is left out."""
        self._properties: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            function = _mapping(tool.get("function"))
            name = function.get("name")
            if isinstance(name, str) and name:
                parameters = _mapping(function.get("parameters"))
                self._properties[name] = _mapping(parameters.get("properties"))

    def __bool__(self) -> bool:
        return bool(self._properties)

    def __contains__(self, name: object) -> bool:
        return name in self._properties

    def may_begin_call(self, key: str) -> bool:
        """Return whether a JSON object with this key first can be a call."""
        return key in _ASIDES or key in _NAMES or key in _ARGUMENTS or key in self

    def call(self, value: object) -> Call | None:
        """Return the call that a decoded JSON object stands for, None if it stands for none."""
        if not isinstance(value, dict):
            return None
        nested = value.get("function")
        if isinstance(nested, dict):
            return self.call(nested)
        name = next((value[key] for key in _NAMES if key in value), None)
        if name is None:
            return self._keyed_call(value)
        if not isinstance(name, str) or name not in self:
            return None
        key = next((key for key in _ARGUMENTS if key in value), None)
        if key is not None:
            return self.named_call(name, value[key])
        is_bare = value.keys() <= {*_NAMES, *_ASIDES}
        return (name, {}) if is_bare else None

    def named_call(self, name: str, arguments: object) -> Call | None:
        """Return a call of a known tool; arguments may be an object, its JSON text or nothing."""
        if isinstance(arguments, str):
            arguments = decode(arguments) if arguments.strip() not in _NOTHING else {}
        elif arguments is None:
            arguments = {}
        if name not in self or not isinstance(arguments, dict) or not _can_travel(arguments):
            return None
        return name, arguments

    def tagged_call(self, name: str, texts: Mapping[str, str]) -> Call | None:
        """Return a call whose arguments were written as bare texts."""
        properties = self._properties.get(name, {})
        arguments = {key: _coerce(text, properties.get(key)) for key, text in texts.items()}
        return self.named_call(name, arguments)

    def _keyed_call(self, value: dict[str, Any]) -> Call | None:
        """Return the call of `{"the tool's name": {its arguments}}`."""
        if len(value) != 1:
            return None
        name, arguments = next(iter(value.items()))
        return self.named_call(name, arguments) if isinstance(arguments, dict) else None


def decode(text: str) -> Any:
    """Return decoded JSON, None if it is none. Line ends inside strings are let through."""
    try:
        return _DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _can_travel(arguments: dict[str, Any]) -> bool:
    """Return whether the arguments can be sent: no lone surrogates, no endless depth."""
    try:
        msgspec.msgpack.encode(arguments)
    except (ValueError, OverflowError, RecursionError):
        return False
    return True


def _integer(digits: str) -> int | float:
    """Return a whole number; one that 64 bits cannot hold becomes a float."""
    number = int(digits)
    return number if _MIN_INT <= number <= _MAX_INT else _number(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is not a JSON number")
    return number


_DECODER: Final = json.JSONDecoder(
    strict=False, parse_int=_integer, parse_float=_number, parse_constant=_number
)


# ---------------------------------------------------------------- texts → the types of a schema


def _types(schema: object) -> frozenset[str]:
    """Return the types that a property may have, alternatives included."""
    found: set[str] = set()
    pending = [schema]
    while pending:
        each = pending.pop()
        if not isinstance(each, Mapping):
            continue
        named = each.get("type")
        found.update(name for name in _list(named) if isinstance(name, str))
        pending += [*_list(each.get("anyOf")), *_list(each.get("oneOf"))]
    return frozenset(found)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _coerce(text: str, schema: object) -> Any:
    """Return the text as the first of its property's types that it can be, else as it is."""
    types = _types(schema)
    for name, read in _READERS.items():
        if name in types and (value := read(text.strip())) is not _UNREADABLE:
            return value
    return text


_UNREADABLE: Final = object()


def _read_null(text: str) -> object:
    return None if text.lower() in {"null", "none"} else _UNREADABLE


def _read_boolean(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), _UNREADABLE)


def _read_integer(text: str) -> object:
    return _read_number(text) if _INTEGER.fullmatch(text) else _UNREADABLE


def _read_number(text: str) -> object:
    try:
        return _integer(text) if _INTEGER.fullmatch(text) else _number(text)
    except ValueError:
        return _UNREADABLE


def _read_object(text: str) -> object:
    value = decode(text)
    return value if isinstance(value, dict) else _UNREADABLE


def _read_array(text: str) -> object:
    value = decode(text)
    return value if isinstance(value, list) else _UNREADABLE


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "null": _read_null,
    "boolean": _read_boolean,
    "integer": _read_integer,
    "number": _read_number,
    "object": _read_object,
    "array": _read_array,
}

"""Go's values as the interpreter sees them, and what every value can be asked.

string is `str` (lone surrogates of "surrogateescape" stand for bytes that are not UTF-8), int,
float64 and bool are Python's, slices are lists or tuples, maps are dicts with string keys, a nil
interface is None. MISSING is no value at all: what a pipeline that ends in nil yields. Structs
are `Struct`; a type with a String method also derives from `Stringer`.

Knows nothing of templates' syntax.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from inference.prompting.errors import TemplateRunError
from inference.prompting.limits import Budget

Value: TypeAlias = object

_BYTE_BASE: Final = 0xDC00
_FIRST_LONE: Final = 0xDC80
_LAST_LONE: Final = 0xDCFF
_FIRST_SURROGATE: Final = 0xD800
_LAST_SURROGATE: Final = 0xDFFF
MAX_CODE_POINT: Final = 0x10FFFF


class _Missing:
    """The type of MISSING."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class Stringer(abc.ABC):
    """A value that prints as a text of its own."""

    __slots__ = ()

    @abc.abstractmethod
    def go_string(self) -> str:
        """Return what printing the value gives."""


class Struct:
    """A value with a fixed set of fields; asking for any other field is an error."""

    __slots__ = ("fields", "type_name")

    def __init__(self, type_name: str, fields: Mapping[str, Value]) -> None:
        self.type_name = type_name
        self.fields = fields


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """Something callable by name: its arguments are never MISSING, their number is checked."""

    call: Callable[[list[Value], Budget], Value]
    least: int
    most: int | None


_TYPE_NAMES: Final = (
    (bool, "bool"),
    (str, "string"),
    (int, "int"),
    (float, "float64"),
    (dict, "map[string]interface {}"),
    ((list, tuple), "[]interface {}"),
    (type(None), "<nil>"),
)


def type_name(value: Value) -> str:
    """Return Go's name of the value's type."""
    if isinstance(value, Struct):
        return value.type_name
    names = (name for types, name in _TYPE_NAMES if isinstance(value, types))
    return next(names, type(value).__name__)


def truth(value: Value) -> bool:
    """Return whether `if` takes the value as true: not empty, not zero, not nil."""
    if isinstance(value, Struct):
        return True
    return value is not MISSING and bool(value)


def sorted_items(mapping: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """Return a map's entries in the order in which Go visits them."""
    return sorted(mapping.items(), key=lambda item: item[0])


def to_bytes(text: str) -> bytes:
    """Return a string's bytes as Go counts them."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def from_bytes(data: bytes) -> str:
    """Return the string of these bytes, however cut."""
    return data.decode("utf-8", "surrogateescape")


def lone_byte(code: int) -> int | None:
    """Return the byte that a code point of "surrogateescape" stands for."""
    return code - _BYTE_BASE if _FIRST_LONE <= code <= _LAST_LONE else None


def is_surrogate(code: int) -> bool:
    """Return whether a code point is no character."""
    return _FIRST_SURROGATE <= code <= _LAST_SURROGATE


def byte_length(text: str, budget: Budget) -> int:
    """Return a string's length in bytes."""
    if text.isascii():
        return len(text)
    budget.read(len(text))
    return len(to_bytes(text))


def whole(text: str) -> str:
    """Return the string with everything that is not UTF-8 replaced, fit for other programs."""
    if text.isascii():
        return text
    return to_bytes(text).decode("utf-8", "replace")


def expect_string(value: Value) -> str:
    """Return the value if it is a string; raise TemplateRunError otherwise."""
    if not isinstance(value, str):
        raise TemplateRunError(f"wrong type for value; expected string; got {type_name(value)}")
    return value

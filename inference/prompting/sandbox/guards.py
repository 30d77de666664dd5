"""Which operators and methods a template may use on values, and how large the results may be.

Sizes are checked before the work is done. Knows nothing of jinja2's environment or syntax trees.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from jinja2.exceptions import SecurityError

from inference.prompting.errors import TemplateLimitError
from inference.prompting.sandbox.meter import check_weight, current

_MAX_INT_BITS: Final = 4096
_MAX_WIDTH: Final = 10_000
_WIDE_FORMAT: Final = re.compile(r"%[^%a-zA-Z]*(?:[0-9]{4}|\*)")
_WIDE_FIELD: Final = re.compile(r"\{[^{}]*(?:\{|[0-9]{4})")
_SAFE_METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: frozenset(
        {"capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "format"}
        | {"index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric"}
        | {"isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "partition"}
        | {"removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition"}
        | {"rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title"}
        | {"upper", "zfill", "format_map"}
    ),
    list: frozenset(
        {"append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove"}
        | {"reverse", "sort"}
    ),
    dict: frozenset(
        {"clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update"}
        | {"values"}
    ),
    tuple: frozenset({"count", "index"}),
    range: frozenset({"count", "index"}),
    int: frozenset(),
    float: frozenset({"is_integer"}),
    bytes: frozenset(),
}
_CHANGING: Final = frozenset({"append", "extend", "insert", "setdefault", "update"})
_WIDENING: Final = frozenset({"center", "expandtabs", "ljust", "rjust", "zfill"})


def text_of(value: object) -> str:
    """Return what a value prints as, refusing what would be too long."""
    if not isinstance(value, str):
        current().charge_all(value)
        value = str(value)
    current().charge(value)
    return value


def concatenate(values: Iterable[object]) -> str:
    """Return the values' texts one after the other."""
    pieces: list[str] = []
    size = 0
    for value in values:
        pieces.append(text_of(value))
        size += len(pieces[-1])
        check_weight(size)
    return "".join(pieces)


# ---------------------------------------------------------------- operators


def _add(left: Any, right: Any) -> Any:
    meter = current()
    weight = meter.weigh(left) + meter.weigh(right)
    check_weight(weight)
    result = left + right
    meter.note(result, weight)
    return result


def _multiply(left: Any, right: Any) -> Any:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, str | list | tuple) and isinstance(times, int):
            check_weight(current().weigh(many) * max(times, 0))
    _check_bits(_bits(left) + _bits(right))
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(_bits(left) * max(right, 1))
    return left**right


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        check_format(left, right)
    return left % right


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _check_bits(bits: int) -> None:
    if bits > _MAX_INT_BITS:
        raise TemplateLimitError("template makes a number that is too large")


GUARDED_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": _add,
    "-": operator.sub,
    "*": _multiply,
    "**": _power,
    "%": _modulo,
}


def check_format(template: str, arguments: object) -> None:
    """Raise TemplateLimitError if a `%` format could make a text that is too long."""
    if _WIDE_FORMAT.search(template):
        raise TemplateLimitError("template uses a format that is too wide")
    check_weight(len(template) + template.count("%") * (current().weigh(arguments) + _MAX_WIDTH))


# ---------------------------------------------------------------- methods


def guarded_arguments(owner: object, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments to call a value's method with.

    Raises SecurityError for a method that templates have no business with, TemplateLimitError for
    a result that would be too large.
    """
    allowed = next(
        (names for kind, names in _SAFE_METHODS.items() if isinstance(owner, kind)), None
    )
    if isinstance(owner, type):
        raise SecurityError(f"method {name} must not be called")
    if allowed is None:
        return arguments
    if name not in allowed:
        raise SecurityError(f"method {name} must not be called")
    if name in {"join", "extend", "update"}:
        arguments = tuple(_settled(argument) for argument in arguments)
    if isinstance(owner, str):
        _check_text_method(owner, name, arguments)
    return arguments


def after_call(owner: object, name: str) -> None:
    """Weigh a container again that a method may have changed."""
    if isinstance(owner, list | dict) and name in _CHANGING:
        current().forget(owner)
        current().charge(owner)


def check_replacement(text: str, old: object, new: object) -> None:
    """Raise TemplateLimitError if replacing would make a text that is too long."""
    if isinstance(old, str) and isinstance(new, str):
        times = text.count(old) if old else len(text) + 1
        check_weight(len(text) + times * len(new))


def check_fields(template: str, arguments: object) -> None:
    """Raise TemplateLimitError if a `{}` format could make a text that is too long."""
    if _WIDE_FIELD.search(template):
        raise TemplateLimitError("template uses a format that is too wide")
    check_weight(len(template) + template.count("{") * (current().weigh(arguments) + _MAX_WIDTH))


def check_width(width: object) -> None:
    """Raise TemplateLimitError for a width that no prompt needs."""
    if isinstance(width, int) and abs(width) > _MAX_WIDTH:
        raise TemplateLimitError("template uses a width that is too large")


def _settled(items: object) -> object:
    """Return a list in place of something that can be gone through only once."""
    if isinstance(items, str | list | tuple | dict) or not isinstance(items, Iterable):
        return items
    return list(current().iterate(items))


def _check_text_method(owner: str, name: str, arguments: tuple[Any, ...]) -> None:
    if name == "replace" and len(arguments) > 1:
        check_replacement(owner, arguments[0], arguments[1])
    elif name == "join" and arguments and isinstance(arguments[0], str | list | tuple | dict):
        pieces = arguments[0]
        check_weight(current().weigh(pieces) + len(owner) * len(pieces))
    elif name in _WIDENING and arguments:
        check_width(arguments[0])
        check_weight(owner.count("\t") * (arguments[0] if name == "expandtabs" else 1))

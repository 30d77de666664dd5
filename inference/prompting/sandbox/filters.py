"""The filters and tests that a template may use, each paying for what it reads and makes.

jinja2's own where they are harmless; own ones where the size of the result must be known first.
Knows nothing of chats.
"""

import functools
import json
from collections.abc import Callable, Iterable, KeysView, Mapping, Sized, ValuesView
from types import GeneratorType
from typing import Any, Final

from jinja2.environment import Environment
from jinja2.filters import FILTERS as ALL_FILTERS
from jinja2.filters import do_indent, do_replace, do_round, do_sum, make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import Undefined
from jinja2.tests import TESTS as ALL_TESTS
from jinja2.utils import pass_environment, pass_eval_context

from inference.prompting.errors import TemplateRunError
from inference.prompting.sandbox.guards import (
    check_format,
    check_replacement,
    check_width,
    concatenate,
    text_of,
)
from inference.prompting.sandbox.meter import check_weight, current

_PLAIN_FILTERS: Final = (
    *("abs", "capitalize", "count", "d", "default", "e", "escape", "first", "float", "int"),
    *("items", "last", "length", "list", "lower", "map", "reject", "rejectattr", "reverse", "safe"),
    *("select", "selectattr", "title", "trim", "upper", "urlencode"),
)
# They look at every item by themselves.
_COMPARING_FILTERS: Final = ("dictsort", "groupby", "max", "min", "sort", "unique")
_CHEAP_TESTS: Final = (
    *("boolean", "callable", "defined", "even", "false", "float", "integer", "iterable"),
    *("mapping", "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined"),
)
_COMPARING_TESTS: Final = (
    *("!=", "<", "<=", "==", ">", ">=", "divisibleby", "eq", "equalto", "ge", "greaterthan", "gt"),
    *("in", "le", "lessthan", "lower", "lt", "ne", "upper"),
)
_MAX_PRECISION: Final = 100
_MAX_JSON_INDENT: Final = 16
_Call = Callable[..., Any]


def _paid(function: _Call) -> _Call:
    """Return the filter or test with its arguments and its result paid for."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        meter = current()
        for value in (*arguments, *named.values()):
            meter.charge(value)
        result = function(*arguments, **named)
        if isinstance(result, GeneratorType):
            return meter.iterate(result)
        meter.charge(result)
        return result

    return call


def _paid_by_item(function: _Call) -> _Call:
    """Return the filter with a step paid for each item that it will look at."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        for value in arguments:
            if isinstance(value, Sized):
                current().tick(len(value))
        return function(*arguments, **named)

    return call


def _indent(value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:  # noqa: FBT001, FBT002 - jinja2's signature
    text = text_of(value)
    size = len(width) if isinstance(width, str) else int(width)
    check_width(size)
    check_weight(len(text) + size * (text.count("\n") + 1))
    return do_indent(text, width, first, blank)


@pass_eval_context
def _replace(
    context: EvalContext, value: object, old: object, new: object, count: int | None = None
) -> str:
    text = text_of(value)
    check_replacement(text, text_of(old), text_of(new))
    return do_replace(context, text, text_of(old), text_of(new), count)


@pass_environment
def _join(
    environment: Environment,
    value: Iterable[object],
    d: object = "",
    attribute: str | int | None = None,
) -> str:
    get = make_attrgetter(environment, attribute) if attribute is not None else lambda item: item
    separator = text_of(d)
    pieces: list[object] = []
    for item in current().iterate(value):
        pieces += [separator, get(item)] if pieces else [get(item)]
    return concatenate(pieces)


def _format(value: object, *arguments: Any, **named: Any) -> str:
    if arguments and named:
        raise TemplateRunError("format takes either positional or named values")
    template = text_of(value)
    check_format(template, [*arguments, *named.values()])
    return template % (named or arguments)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > _MAX_PRECISION:
        raise TemplateRunError("round cannot be that precise")
    return do_round(value, precision, method)


@pass_environment
def _sum(
    environment: Environment,
    iterable: Iterable[Any],
    attribute: str | int | None = None,
    start: Any = 0,
) -> Any:
    if not isinstance(start, int | float):
        raise TemplateRunError("sum adds numbers only")
    return do_sum(environment, current().iterate(iterable), attribute, start)


def _tojson(
    value: Any,
    *,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as `json.dumps` writes it, without escapes for HTML."""
    if indent is not None and not 0 <= indent <= _MAX_JSON_INDENT:
        raise TemplateRunError("tojson cannot indent that far")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_json_value,
    )


def _json_value(value: object) -> object:
    """Return what JSON has instead: nothing for what is not there, lists for what gives items."""
    if isinstance(value, Undefined):
        return None
    if isinstance(value, GeneratorType | KeysView | ValuesView):
        return list(current().iterate(value))
    raise TypeError(f"{type(value).__name__} is not JSON")


_KNOWN_FILTERS: Final[Mapping[str, Any]] = ALL_FILTERS
_KNOWN_TESTS: Final[Mapping[str, Any]] = ALL_TESTS
FILTERS: Final[Mapping[str, _Call]] = {
    **{name: _paid(_KNOWN_FILTERS[name]) for name in _PLAIN_FILTERS},
    **{name: _paid(_paid_by_item(_KNOWN_FILTERS[name])) for name in _COMPARING_FILTERS},
    "format": _paid(_format),
    "indent": _paid(_indent),
    "join": _paid(_join),
    "replace": _paid(_replace),
    "round": _paid(_round),
    "string": _paid(text_of),
    "sum": _paid(_sum),
    "tojson": _paid(_tojson),
}
TESTS: Final[Mapping[str, _Call]] = {
    **{name: _KNOWN_TESTS[name] for name in _CHEAP_TESTS},
    **{name: _paid(_KNOWN_TESTS[name]) for name in _COMPARING_TESTS},
}

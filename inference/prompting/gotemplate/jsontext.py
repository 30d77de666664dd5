"""Values → JSON as Go's encoding/json writes it: compact, map keys sorted, HTML characters escaped.

Knows nothing of templates. A `Struct` keeps the order of its fields; a `JsonShaped` value says
itself what it looks like.
"""

import abc
import json
from typing import Final

from inference.prompting.errors import TemplateLimitError
from inference.prompting.gotemplate.numbers import json_float
from inference.prompting.gotemplate.values import MISSING, Struct, Value, sorted_items, whole
from inference.prompting.limits import Budget

_MAX_DEPTH: Final = 100
_ESCAPED: Final = str.maketrans(
    {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
)
_quote = json.JSONEncoder(ensure_ascii=False).encode


class JsonShaped(abc.ABC):
    """A value whose JSON differs from its own structure."""

    __slots__ = ()

    @abc.abstractmethod
    def json_shape(self) -> Value:
        """Return the value to encode instead; a Struct where the order of names matters."""


def encode(value: Value, budget: Budget) -> str:
    """Return a value as JSON text."""
    pieces: list[str] = []
    _write(value, pieces, budget, 0)
    return "".join(pieces)


def _write(value: Value, pieces: list[str], budget: Budget, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise TemplateLimitError("value is nested too deeply for JSON")
    budget.spend()
    match value:
        case JsonShaped():
            _write(value.json_shape(), pieces, budget, depth + 1)
        case str():
            budget.build(len(value))
            pieces.append(_text(value))
        case Struct():
            _write_object(list(value.fields.items()), pieces, budget, depth)
        case dict():
            _write_object(sorted_items(value), pieces, budget, depth)
        case list() | tuple():
            pieces.append("[")
            for position, item in enumerate(value):
                pieces.append("," if position else "")
                _write(item, pieces, budget, depth + 1)
            pieces.append("]")
        case _:
            pieces.append(_scalar(value))


def _write_object(
    items: list[tuple[str, Value]], pieces: list[str], budget: Budget, depth: int
) -> None:
    pieces.append("{")
    for position, (name, item) in enumerate(items):
        pieces.append("," if position else "")
        budget.build(len(name))
        pieces.append(_text(name) + ":")
        _write(item, pieces, budget, depth + 1)
    pieces.append("}")


def _text(text: str) -> str:
    return _quote(whole(text)).translate(_ESCAPED)


def _scalar(value: Value) -> str:
    if value is None or value is MISSING:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json_float(value) if isinstance(value, float) else str(value)

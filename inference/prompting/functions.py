"""The functions that Ollama adds to Go's own: json, dates and TypeScript types.

Knows nothing of messages and tools, except that a tool's property is a `Struct` named as below.
"""

import datetime
from collections.abc import Mapping
from typing import Final

from inference.prompting.gotemplate import Budget, Function, Struct
from inference.prompting.gotemplate.jsontext import encode
from inference.prompting.gotemplate.values import Value

TOOL_PROPERTY: Final = "api.ToolProperty"
_TYPESCRIPT: Final = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}
_UNKNOWN: Final = "any"
_MAX_DEPTH: Final = 20


def typescript_type(value: Value, depth: int = 0) -> str:
    """Return the TypeScript type of a tool's property; `any` for everything else."""
    if not isinstance(value, Struct) or value.type_name != TOOL_PROPERTY or depth > _MAX_DEPTH:
        return _UNKNOWN
    choices = value.fields["AnyOf"]
    if isinstance(choices, list) and choices:
        return " | ".join(typescript_type(choice, depth + 1) for choice in choices)
    types = value.fields["Type"]
    if not isinstance(types, list) or not types:
        return _UNKNOWN
    return " | ".join(_TYPESCRIPT.get(name, _UNKNOWN) for name in types)


def _typescript_type(arguments: list[Value], _budget: Budget) -> str:
    return typescript_type(arguments[0])


def _json(arguments: list[Value], budget: Budget) -> str:
    return encode(arguments[0], budget)


def _today() -> datetime.date:
    """Return the host's local date: what the model is told is the user's day."""
    return datetime.datetime.now().astimezone().date()


def _current_date(_arguments: list[Value], _budget: Budget) -> str:
    return _today().isoformat()


def _yesterday_date(_arguments: list[Value], _budget: Budget) -> str:
    return (_today() - datetime.timedelta(days=1)).isoformat()


FUNCTIONS: Final[Mapping[str, Function]] = {
    "currentDate": Function(_current_date, 0, None),
    "json": Function(_json, 1, 1),
    "toTypeScriptType": Function(_typescript_type, 1, 1),
    "yesterdayDate": Function(_yesterday_date, 0, None),
}

"""The JSON schema of an answer that is nothing but calls of given tools.

A call is an object with a name and, behind it, the arguments, which satisfy the tool's own
parameters; several are an array. Knows nothing of grammars and of how models write calls.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

# A weak model that may write an array for ever does.
MOST_FORCED_CALLS: Final = 32
_OBJECT: Final = "object"
_TOO_DEEP: Final = "the parameters of a tool are nested too deeply"
# Whose members are all named, if nothing else is said: what is not named would be made up.
_PLAIN_KEYS: Final = frozenset(
    {"type", "properties", "required", "title", "description", "$defs", "definitions"}
)
_OF_THE_DOCUMENT: Final = frozenset({"$id", "$schema"})


class UnusableTools(ValueError):
    """The tools cannot be forced, said in words for the client."""


def calls_schema(
    tools: Sequence[Mapping[str, Any]], names: Iterable[str], most_calls: int | None
) -> str:
    """Return the schema of one or more calls of the named tools, as JSON text.

    With `most_calls` 1 it is a call's object itself, else an array. Raises UnusableTools.
    """
    is_single = most_calls == 1
    try:
        call = _any_call(tools, names, "#" if is_single else "#/items")
        most = min(most_calls or MOST_FORCED_CALLS, MOST_FORCED_CALLS)
        row = {"type": "array", "items": call, "minItems": 1, "maxItems": most}
        return json.dumps(call if is_single else row)
    except RecursionError as error:
        raise UnusableTools(_TOO_DEEP) from error


def strict_schema(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the schema of one call of any of the tools, as JSON text; empty: none is strict.

    Tools that are not strict take any object. Raises UnusableTools.
    """
    if not any(map(_is_strict, tools)):
        return ""
    try:
        calls = []
        for number, tool in enumerate(tools):
            at = f"#/anyOf/{number}/properties/arguments"
            is_strict = _is_strict(tool)
            arguments = arguments_schema(tool, at) if is_strict else {"type": _OBJECT}
            calls.append(_call(_name(tool), arguments))
        return json.dumps({"anyOf": calls})
    except RecursionError as error:
        raise UnusableTools(_TOO_DEEP) from error


def arguments_schema(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the schema of a tool's arguments, as it stands at a place of a larger one.

    `place` is a JSON pointer. Without parameters it is the empty object. Raises UnusableTools.
    """
    found = _function(tool).get("parameters")
    parameters = {} if found is None else found
    if not isinstance(parameters, Mapping):
        raise UnusableTools(f'the parameters of the tool "{_name(tool)}" are no JSON schema')
    kinds = parameters.get("type") or _OBJECT  # in Go's words no type is an empty one
    if _OBJECT not in (kinds if isinstance(kinds, list) else [kinds]):
        raise UnusableTools(f'the parameters of the tool "{_name(tool)}" are not of type "object"')
    own = {key: value for key, value in parameters.items() if key not in _OF_THE_DOCUMENT}
    moved: dict[str, Any] = _moved(own, place) | {"type": _OBJECT}
    if _names_all(own):
        moved["additionalProperties"] = False
    return moved


def _any_call(
    tools: Sequence[Mapping[str, Any]], names: Iterable[str], place: str
) -> dict[str, Any]:
    given = {_name(tool): tool for tool in tools}
    calls = []
    for number, name in enumerate(dict.fromkeys(names)):
        if name not in given:
            raise UnusableTools(f'there is no tool "{name}" to be called')
        at = f"{place}/anyOf/{number}/properties/arguments"
        calls.append(_call(name, arguments_schema(given[name], at)))
    return {"anyOf": calls}


def _call(name: object, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": _OBJECT,
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _names_all(schema: Mapping[str, Any]) -> bool:
    """Whether an object's members are all named, as far as the schema means to tell.

    At OpenAI a function without parameters takes none, rather than any.
    """
    named, required = schema.get("properties") or {}, schema.get("required") or []
    if not (isinstance(named, Mapping) and isinstance(required, list)):
        return False
    is_plain = schema.keys() <= _PLAIN_KEYS
    return is_plain and all(isinstance(each, str) and each in named for each in required)


def _moved(schema: Any, place: str) -> Any:
    """Return a schema whose references to itself hold where it stands at a place of another."""
    if isinstance(schema, list):
        return [_moved(each, place) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for key, value in schema.items()
    }


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    return function if isinstance(function, Mapping) else {}


def _is_strict(tool: Mapping[str, Any]) -> bool:
    return _function(tool).get("strict") is True


def _name(tool: Mapping[str, Any]) -> object:
    return _function(tool).get("name")

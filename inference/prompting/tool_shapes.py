"""The tools of a request in the shapes that Jinja templates expect.

A template may read what a tool does not have to say, as its description, or expect one type where
a schema allows several. Knows nothing of templates themselves and renders nothing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_MAX_DEPTH: Final = 60
_TEXT: Final = "string"
_NULL: Final = "null"
_ALTERNATIVES: Final = ("anyOf", "oneOf", "allOf")


def plain(value: object, depth: int = 0) -> Any:
    """Return a copy of decoded JSON that a template may change."""
    if depth > _MAX_DEPTH:
        return None
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(name): plain(each, depth + 1) for name, each in value.items()}
        case list() | tuple():
            return [plain(each, depth + 1) for each in value]
    return str(value)


def completed(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return copies of tools in which everything is said that a template could read.

    Descriptions that lack are empty; a property has one type, the first it may have.
    """
    found = []
    for tool in map(plain, tools):
        function = tool.get("function")
        if isinstance(function, dict):
            function.setdefault("description", "")
            function["parameters"] = _object(function.get("parameters"))
        found.append(tool)
    return found


def functions_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the functions of tools as the JSON text that templates without tools print."""
    return json.dumps([plain(tool.get("function")) for tool in tools], ensure_ascii=False, indent=4)


def _object(schema: object) -> dict[str, Any]:
    known = schema if isinstance(schema, dict) else {}
    members = known.get("properties")
    known["type"] = "object"
    known["properties"] = {
        name: _property(each)
        for name, each in (members if isinstance(members, dict) else {}).items()
    }
    known.setdefault("required", [])
    return known


def _property(schema: object) -> dict[str, Any]:
    known = schema if isinstance(schema, dict) else {}
    known["type"] = _type(known)
    known.setdefault("description", "")
    if known["type"] == "object":
        _object(known)
        known["additionalProperties"] = _property(known.get("additionalProperties"))
    elif known["type"] == "array":
        known["items"] = _property(known.get("items"))
    return known


def _type(schema: Mapping[str, Any]) -> str:
    """Return the first type that a value may have beside null; a text if nothing tells."""
    named = schema.get("type")
    for each in named if isinstance(named, list) else [named]:
        if isinstance(each, str) and each != _NULL:
            return each
    for key in _ALTERNATIVES:
        others = schema.get(key)
        for other in others if isinstance(others, list) else ():
            if isinstance(other, dict) and other.get("type") != _NULL:
                return _type(other)
    return _TEXT

"""`format` → the JSON text of the schema that an answer must satisfy (contract/ollama.md 6.5).

Knows no route, no model and no grammar.
"""

import json
from typing import Any, Final

import msgspec

from inference.errors import InvalidFormat

MAX_SCHEMA_BYTES: Final = 1024 * 1024
ANY_OBJECT: Final = '{"type":"object"}'  # what `format: "json"` asks for
# What beside its properties an object's schema may have that names further ones.
_COMBINING: Final = frozenset({"anyOf", "oneOf", "$ref", "$dynamicRef", "if", "dependentSchemas"})
_SAYS_MORE: Final = frozenset(
    {"additionalProperties", "unevaluatedProperties", "patternProperties"}
)
# Where schemas stand inside of a schema: behind a name of their own, in a list, or alone.
_NAMED: Final = ("properties", "$defs", "definitions")
_LISTED: Final = ("anyOf", "oneOf", "prefixItems")


def read_format(value: Any) -> str:
    """Return the JSON text of a schema, empty for none. Raises InvalidFormat."""
    if value is None or value == "":
        return ""
    if value == "json":
        return ANY_OBJECT
    if not isinstance(value, dict):
        shown = json.dumps(json.dumps(value, ensure_ascii=False), ensure_ascii=False)
        raise InvalidFormat(
            f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
        )
    try:
        schema = msgspec.json.encode(value if _combines(value) else _closed(value))
    except RecursionError as error:
        raise InvalidFormat("exceeded max depth") from error
    if len(schema) > MAX_SCHEMA_BYTES:
        raise InvalidFormat(f"invalid format: the schema is larger than {MAX_SCHEMA_BYTES} bytes")
    return schema.decode()


def read_format_for_later(value: Any) -> tuple[str, InvalidFormat | None]:
    """Return the schema, and what is wrong with it instead of raising it."""
    try:
        return read_format(value), None
    except InvalidFormat as error:
        return "", error


def _combines(value: Any) -> bool:
    """Whether an object of a schema has to satisfy several parts of it at once."""
    if isinstance(value, dict):
        if "allOf" in value or ("properties" in value and value.keys() & _COMBINING):
            return True
        return any(map(_combines, value.values()))
    return isinstance(value, list) and any(map(_combines, value))


def _closed(schema: Any) -> Any:
    """Return a schema whose objects have the properties that it names and no others.

    JSON Schema allows any others where nothing is said of them. Ollama's grammars do not, and a
    small model would go on inventing some until its answer is cut off. Not for schemas that
    combine others: what one part names another would forbid.
    """
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for keyword in _NAMED:
        named = schema.get(keyword)
        if isinstance(named, dict):
            closed[keyword] = {name: _closed(part) for name, part in named.items()}
    for keyword in _LISTED:
        listed = schema.get(keyword)
        if isinstance(listed, list):
            closed[keyword] = [_closed(part) for part in listed]
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    if isinstance(schema.get("properties"), dict) and not schema.keys() & _SAYS_MORE:
        closed["additionalProperties"] = False
    return closed

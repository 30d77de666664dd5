"""Messages and tools → the values that Ollama's templates see.

The names are those of Ollama's Go structs (contract 6.2, templates 1.3). Where Ollama prints Go's
struct syntax by mistake (`{{ .Function }}`, `{{ .Function.Parameters }}`), these values print
JSON. Names of a tool that Ollama does not know are dropped, as it does. Knows nothing of template
syntax.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from inference.messages import ToolCall
from inference.prompting.functions import TOOL_PROPERTY
from inference.prompting.gotemplate import Budget, Stringer, Struct
from inference.prompting.gotemplate.jsontext import JsonShaped, encode
from inference.prompting.gotemplate.values import Value
from inference.prompting.turns import Turn

_EXACT: Final = 1 << 53
_MAX_DEPTH: Final = 60


class _JsonStringer(Stringer):
    """A value that prints as its JSON."""

    __slots__ = ()

    def go_string(self) -> str:
        return encode(self, Budget())


class _JsonMap(dict[str, Value], _JsonStringer):
    """A map that prints as JSON."""


class _JsonList(list[Value], _JsonStringer, JsonShaped):
    """A list that prints as JSON; without members it is nil."""

    def json_shape(self) -> Value:
        return list(self) or None


class _JsonStruct(Struct, _JsonStringer, JsonShaped):
    """A struct that prints as JSON with other names than those of its fields."""

    __slots__ = ("_shape",)

    def __init__(
        self, type_name: str, fields: Mapping[str, Value], shape: Mapping[str, Value]
    ) -> None:
        super().__init__(type_name, fields)
        self._shape = shape

    def json_shape(self) -> Value:
        return Struct(self.type_name, self._shape)


class _PropertyType(list[Value], Stringer, JsonShaped):
    """The type of a property: one name prints bare, several in brackets."""

    def go_string(self) -> str:
        names = " ".join(map(str, self))
        return names if len(self) <= 1 else f"[{names}]"

    def json_shape(self) -> Value:
        return self[0] if len(self) == 1 else list(self)


def turn_value(turn: Turn) -> Struct:
    """Return one member of `.Messages`."""
    fields = {
        "Role": turn.role,
        "Content": turn.content,
        "Thinking": turn.thinking,
        "Images": list(turn.image_tags),
        "ToolCalls": [_call_value(call) for call in turn.tool_calls],
        "ToolName": turn.tool_name,
        "ToolCallID": turn.tool_call_id,
    }
    return Struct("*template.templateMessage", fields)


def tools_value(tools: Iterable[Mapping[str, Any]]) -> Value:
    """Return the list of tools of a request, given as in its JSON."""
    return _JsonList(_tool_value(tool) for tool in tools)


def _call_value(call: ToolCall) -> Struct:
    arguments = _JsonMap(_plain_map(call.arguments))
    function = _named(
        "template.templateToolCallFunction",
        [
            ("Index", "index", call.index),
            ("Name", "name", call.name),
            ("Arguments", "arguments", arguments),
        ],
    )
    return Struct("template.templateToolCall", {"ID": call.id, "Function": function})


def _tool_value(tool: Mapping[str, Any]) -> Value:
    function = _mapping(tool.get("function"))
    return _named(
        "template.templateTool",
        [
            ("Type", "type", _text(tool.get("type"))),
            ("Items", "items,omitempty", _plain(tool.get("items"))),
            ("Function", "function", _function_value(function)),
        ],
    )


def _function_value(function: Mapping[str, Any]) -> Value:
    parameters = _mapping(function.get("parameters"))
    properties = _mapping(parameters.get("properties"))
    shown = _named(
        "template.templateToolFunctionParameters",
        [
            ("Type", "type", _text(parameters.get("type"))),
            ("Defs", "$defs,omitempty", _plain(parameters.get("$defs"))),
            ("Items", "items,omitempty", _plain(parameters.get("items"))),
            ("Required", "required,omitempty", _strings(parameters.get("required"))),
            ("Properties", "properties", _JsonMap(_properties(properties, 0))),
        ],
    )
    return _named(
        "template.templateToolFunction",
        [
            ("Name", "name", _text(function.get("name"))),
            ("Description", "description", _text(function.get("description"))),
            ("Parameters", "parameters", shown),
        ],
    )


def _properties(properties: Mapping[str, Any], depth: int) -> dict[str, Value]:
    if depth > _MAX_DEPTH:
        return {}
    return {name: _property_value(_mapping(each), depth) for name, each in properties.items()}


def _property_value(source: Mapping[str, Any], depth: int) -> Value:
    """Return one property; the properties below it keep the order they came in."""
    choices = source.get("anyOf")
    inner = _properties(_mapping(source.get("properties")), depth + 1)
    nested = _JsonStruct("api.ToolPropertiesMap", inner, inner) if inner else None
    return _named(
        TOOL_PROPERTY,
        [
            ("AnyOf", "anyOf,omitempty", _choices(choices, depth)),
            ("Type", "type,omitempty", _PropertyType(_strings(source.get("type")))),
            ("Items", "items,omitempty", _plain(source.get("items"))),
            ("Description", "description,omitempty", _text(source.get("description"))),
            ("Enum", "enum,omitempty", _plain_list(source.get("enum"))),
            ("Properties", "properties,omitempty", nested),
            ("Required", "required,omitempty", _strings(source.get("required"))),
        ],
    )


def _choices(choices: object, depth: int) -> list[Value]:
    if not isinstance(choices, list | tuple) or depth > _MAX_DEPTH:
        return []
    return [_property_value(_mapping(choice), depth + 1) for choice in choices]


def _named(type_name: str, fields: list[tuple[str, str, Value]]) -> _JsonStruct:
    """Return a struct from (Go's name, JSON's name with its option, value)."""
    shape: dict[str, Value] = {}
    for _, option, value in fields:
        name, _, is_optional = option.partition(",")
        is_empty = value is None or (isinstance(value, str | list) and not value)
        if not (is_optional and is_empty):
            shape[name] = value
    return _JsonStruct(type_name, {name: value for name, _, value in fields}, shape)


# ---------------------------------------------------------------- JSON as Go decodes it


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _strings(value: object) -> list[Value]:
    """Return the texts of a list; a text alone is a list of one."""
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _plain_list(value: object) -> list[Value]:
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else []


def _plain_map(value: Mapping[str, Any], depth: int = 0) -> dict[str, Value]:
    return {str(name): _plain(each, depth + 1) for name, each in value.items()}


def _plain(value: object, depth: int = 0) -> Value:
    """Return decoded JSON as Go holds it: every number a float, unless that would change it."""
    if depth > _MAX_DEPTH:
        return None
    match value:
        case bool() | str() | None:
            return value
        case int():
            return float(value) if abs(value) <= _EXACT else value
        case dict():
            return _plain_map(value, depth)
        case list() | tuple():
            return [_plain(each, depth + 1) for each in value]
        case float():
            return value
    return str(value)

"""`tools`, `tool_choice` and `parallel_tool_calls` of `/v1/chat/completions`.

Which tools a model sees, which of them it must call and how many calls it may make. Knows no
message, no model and no answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec

from ollamasite.errors import BadRequest

# As many as a grammar can choose among, and far more than a model can tell apart.
MAX_TOOLS: Final = 1024
_CHOICE: Final = "tool_choice"
_MODES: Final = frozenset({"auto", "required"})
# The keys of a tool's parameters in the order in which Ollama's templates show them.
_GO_OPTIONAL: Final = ("$defs", "items", "required")
_GO_KEYS: Final = frozenset({"type", "properties", *_GO_OPTIONAL})


class ToolFunction(msgspec.Struct):
    """What a tool is called and takes; `parameters` is a JSON Schema of an object."""

    go_types: ClassVar[Mapping[str, str]] = {"parameters": "api.ToolFunctionParameters"}

    name: str = ""
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the function in Go's key order; what its schema says beyond that comes behind."""
        schema = self.parameters
        further = (key for key in schema if key not in _GO_KEYS)
        return {
            "name": self.name,
            **({"description": self.description} if self.description else {}),
            "parameters": {
                "type": schema.get("type") or "",
                **{key: schema[key] for key in _GO_OPTIONAL if schema.get(key) not in (None, [])},
                "properties": schema.get("properties") or {},
                **{key: schema[key] for key in further},
            },
            **({"strict": True} if self.strict else {}),
        }


class Tool(msgspec.Struct):
    """A tool that the model may call."""

    type: str = ""
    function: ToolFunction = msgspec.field(default_factory=ToolFunction)

    def to_dict(self) -> dict[str, Any]:
        """Return the tool as templates and grammars see it."""
        return {"type": self.type or "function", "function": self.function.to_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """What may and must be called; the fields of a ChatRequest with the same names."""

    tools: tuple[dict[str, Any], ...] = ()
    forced_tools: tuple[str, ...] = ()
    most_calls: int | None = None


def read_tool_use(tools: Sequence[Tool], choice: Any, *, in_parallel: bool | None) -> ToolUse:
    """Return what may and must be called. Raises BadRequest."""
    check_tool_count(len(tools))
    for tool in tools:
        _check(tool)
    names = tuple(dict.fromkeys(tool.function.name for tool in tools))
    allowed, is_forced = _read_choice(choice, names)
    is_named = isinstance(choice, dict) and choice.get("type") == "function"
    if not allowed:
        return ToolUse()
    return ToolUse(
        tools=tuple(tool.to_dict() for tool in tools if tool.function.name in allowed),
        forced_tools=allowed if is_forced else (),
        most_calls=1 if is_named or in_parallel is False else None,
    )


def check_tool_count(count: int) -> None:
    """Refuse more tools than a request may have: BadRequest."""
    if count > MAX_TOOLS:
        message = f"the request has {count} tools; {MAX_TOOLS} are the most"
        raise BadRequest(message, param="tools")


def _check(tool: Tool) -> None:
    if tool.type not in {"", "function"}:
        raise BadRequest(
            f'tools of type "{tool.type}" are not supported by this server, only "function"',
            param="tools",
        )
    if not tool.function.name:
        raise BadRequest("a tool's function must have a name", param="tools")
    if not isinstance(tool.function.parameters.get("properties"), dict | None):
        raise BadRequest("the properties of a tool's parameters must be an object", param="tools")


def _read_choice(choice: Any, names: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Return the names of the tools that may be called, and whether one has to be."""
    match choice:
        case None | "" | "auto":
            return names, False
        case "none":
            return (), False
        case "required":
            if not names:
                raise _wrong_choice("required needs tools")
            return names, True
        case {"type": "function", "function": {"name": str(name)}}:
            return (_known(name, names),), True
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": str(mode), "tools": list(entries)},
        } if mode in _MODES:
            return _read_allowed(entries, names), mode == "required"
        case {"type": "custom"}:
            raise _wrong_choice("tools of type custom are not supported by this server")
    raise _wrong_choice(
        'must be "none", "auto", "required", or an object of type function or allowed_tools'
    )


def _read_allowed(entries: list[Any], names: tuple[str, ...]) -> tuple[str, ...]:
    if len(entries) > MAX_TOOLS:
        raise _wrong_choice(f"allowed_tools may have {MAX_TOOLS} entries")
    allowed = []
    for entry in entries:
        match entry:
            case {"type": "function", "function": {"name": str(name)}}:
                allowed.append(_known(name, names))
            case _:
                raise _wrong_choice("allowed_tools must name functions")
    if not allowed:
        raise _wrong_choice("allowed_tools names no function")
    return tuple(dict.fromkeys(allowed))


def _known(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise _wrong_choice(f'"{name}" is none of the tools')
    return name


def _wrong_choice(reason: str) -> BadRequest:
    return BadRequest(f"tool_choice: {reason}", param=_CHOICE)

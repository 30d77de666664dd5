"""`tools` and `tool_choice` of `/v1/messages` → internal terms (contract/ollama.md 3.8).

Tools that Anthropic runs itself (web search, code execution …) are refused by name. Knows no
message, no model and no answer.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from inference.api.openai.tools import check_tool_count
from inference.api.schemas import Tool
from ollamasite.bodies import decode
from ollamasite.errors import BadRequest

_DIRECT: Final[tuple[Any, ...]] = (None, [], ["direct"])
_NOTHING: Final[tuple[Any, ...]] = (None, False, [])


class ToolChoice(msgspec.Struct):
    """`tool_choice`; an empty type is an absent one."""

    type: str = ""
    name: str = ""
    disable_parallel_tool_use: bool = False


@dataclass(frozen=True, slots=True)
class ChosenTools:
    """What a request may call: fields of a ChatRequest."""

    tools: tuple[dict[str, Any], ...] = ()
    forced_tools: tuple[str, ...] = ()
    most_calls: int | None = None


def read_tools(values: list[Any], choice: ToolChoice) -> ChosenTools:
    """Return the tools and what must be called of them. Raises BadRequest, InvalidBody."""
    check_tool_count(len(values))
    tools = tuple(_read_tool(value, f"tools.{number}") for number, value in enumerate(values))
    names = tuple(tool["function"]["name"] for tool in tools)
    if len(set(names)) < len(names):
        raise BadRequest("tools: names must be unique", param="tools")
    if choice.type == "none":
        return ChosenTools()
    most_calls = 1 if choice.disable_parallel_tool_use else None
    return ChosenTools(tools=tools, forced_tools=_forced(choice, names), most_calls=most_calls)


def _forced(choice: ToolChoice, names: tuple[str, ...]) -> tuple[str, ...]:
    match choice.type:
        case "" | "auto":
            return ()
        case "any" if names:
            return names
        case "any":
            raise BadRequest('tool_choice: "any" needs tools', param="tool_choice")
        case "tool" if choice.name in names:
            return (choice.name,)
        case "tool":
            raise BadRequest(
                f'tool_choice.name: "{choice.name}" is not among the tools', param="tool_choice"
            )
    raise BadRequest(
        'tool_choice.type: must be one of "auto", "any", "tool", "none"', param="tool_choice"
    )


def _read_tool(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"{place}: must be an object", param="tools")
    if value.get("type") not in (None, "custom"):
        raise _not_supported(f'{place}: a tool of type "{value["type"]}"')
    _check_extras(value, place)
    if not isinstance(value.get("name"), str) or not value["name"]:
        raise BadRequest(f"{place}.name: must be a non-empty string", param="tools")
    schema = value.get("input_schema")
    if not isinstance(schema, dict):
        raise BadRequest(f"{place}.input_schema: must be an object", param="tools")
    function = {
        "name": value["name"],
        "description": value.get("description"),
        "parameters": {"type": "object", **schema},
    }
    tool = decode({"type": "function", "function": function}, Tool, "api.Tool").to_dict()
    if value.get("strict") is True:
        tool["function"]["strict"] = True
    return tool


def _check_extras(value: dict[str, Any], place: str) -> None:
    # `eager_input_streaming` and `cache_control` change nothing here: a call is sent as soon as
    # it is known, and every prompt is cached.
    if value.get("allowed_callers") not in _DIRECT:
        raise _not_supported(f'{place}.allowed_callers: a caller other than "direct"')
    for name in ("defer_loading", "input_examples"):
        if value.get(name) not in _NOTHING:
            raise _not_supported(f"{place}.{name}")


def _not_supported(what: str) -> BadRequest:
    return BadRequest(f"{what} is not supported by this server", param="tools")

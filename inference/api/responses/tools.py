"""`tools` and `tool_choice` of `/v1/responses`, which are flat → those of the chat route.

Knows no message, no model and no answer.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from inference.api.openai.tools import Tool, ToolFunction, ToolUse, read_tool_use
from inference.api.schemas import not_supported
from ollamasite.errors import BadRequest


class ResponseTool(msgspec.Struct):
    """A function that the model may call; `parameters` is a JSON Schema of an object."""

    type: str = ""
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: bool = False
    allowed_callers: list[str] = []
    output_schema: dict[str, Any] | None = None
    is_async: bool = msgspec.field(default=False, name="async")

    def to_chat(self) -> Tool:
        """Return the tool as the chat route has it. Raises BadRequest."""
        self._check()
        function = ToolFunction(
            name=self.name,
            description=self.description or "",
            parameters=self.parameters or {},
            strict=self.strict or False,
        )
        return Tool(type=self.type, function=function)

    def to_dict(self) -> dict[str, Any]:
        """Return the tool as the answer repeats it."""
        shown = {
            "type": self.type,
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": self.strict or False,
        }
        further = {} if self.output_schema is None else {"output_schema": self.output_schema}
        return {**shown, **further}

    def _check(self) -> None:
        if self.type != "function":
            raise BadRequest(
                f'tools of type "{self.type}" are not supported by this server, only "function"',
                param="tools",
            )
        if self.defer_loading:
            raise not_supported("tools.defer_loading")
        if self.is_async:
            raise not_supported("tools.async")
        if self.allowed_callers not in ([], ["direct"]):
            raise not_supported("tools.allowed_callers")


def read_tools(tools: Sequence[ResponseTool], choice: Any, *, in_parallel: bool | None) -> ToolUse:
    """Return what may and must be called. Raises BadRequest."""
    asked = [tool.to_chat() for tool in tools]
    return read_tool_use(asked, _chat_choice(choice), in_parallel=in_parallel)


def _chat_choice(choice: Any) -> Any:
    """Return a choice as the chat route has it; what is none is left for it to refuse."""
    match choice:
        case {"type": "function", "name": name}:
            return {"type": "function", "function": {"name": name}}
        case {"type": "allowed_tools", "mode": mode, "tools": list(entries)}:
            nested = {"mode": mode, "tools": [_chat_choice(entry) for entry in entries]}
            return {"type": "allowed_tools", "allowed_tools": nested}
        case {"type": "function" | "allowed_tools"}:
            return {}
    return choice

"""Bodies of `/api/generate` and `/api/chat` → internal requests (contract/ollama.md 1.2, 1.3).

Decoded as leniently as Go does, refused in Go's words (2.2, 11). What this server cannot do is
refused by name, never ignored. The classes named without "Body" carry the names that Go's error
texts show. Knows no model and no answer.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from inference.api.formats import read_format_for_later
from inference.api.keep_alive import read_keep_alive
from inference.messages import ChatMessage
from inference.messages import ToolCall as CallMade
from inference.requests import ChatRequest, CompletionRequest
from models_app.errors import ModelNotFound
from ollamasite.errors import BadRequest, InvalidBody

MAX_TOP_LOGPROBS: Final = 20
_THINK_LEVELS: Final = frozenset({"high", "medium", "low", "max"})
_THINK_CHOICES: Final = '("high", "medium", "low", "max", true, or false)'
_BASE64_RUN: Final = re.compile(r"[A-Za-z0-9+/\r\n]*")
_LEAST_BEFORE_PADDING: Final = 2
_LINE_ENDS: Final = re.compile(r"[\r\n]*")
_IMAGES: Final = {"images": "[]api.ImageData"}


class ToolCallFunction(msgspec.Struct):
    """The function of a call; `arguments` must be an object."""

    index: int = 0
    name: str = ""
    arguments: Any = None


class ToolCall(msgspec.Struct):
    """A call that the model made earlier in the conversation."""

    id: str = ""
    function: ToolCallFunction = msgspec.field(default_factory=ToolCallFunction)

    def to_message(self) -> CallMade:
        """Return the call for the prompt. Raises InvalidBody."""
        arguments = self.function.arguments
        if arguments is not None and not isinstance(arguments, dict):
            raise InvalidBody("Value looks like object, but can't find closing '}' symbol")
        return CallMade(
            id=self.id,
            index=self.function.index,
            name=self.function.name,
            arguments=arguments or {},
        )


class ToolProperty(msgspec.Struct, omit_defaults=True):
    """One parameter of a tool; keys of a JSON Schema that are not here are dropped."""

    any_of: "list[ToolProperty]" = msgspec.field(default_factory=list, name="anyOf")
    type: str | list[str] | None = None
    items: Any = None
    description: str = ""
    enum: list[Any] = []
    properties: "dict[str, ToolProperty]" = {}
    required: list[str] = []


class ToolFunctionParameters(msgspec.Struct):
    """The parameters of a tool."""

    type: str = ""
    defs: Any = msgspec.field(default=None, name="$defs")
    items: Any = None
    required: list[str] = []
    properties: dict[str, ToolProperty] = {}


class ToolFunction(msgspec.Struct):
    """What a tool is called and takes."""

    name: str = ""
    description: str = ""
    parameters: ToolFunctionParameters = msgspec.field(default_factory=ToolFunctionParameters)


class Tool(msgspec.Struct):
    """A tool that the model may call."""

    type: str = ""
    items: Any = None
    function: ToolFunction = msgspec.field(default_factory=ToolFunction)

    def to_dict(self) -> dict[str, Any]:
        """Return the tool as templates see it: Go's key order, empty optional keys left out."""
        function, parameters = self.function, self.function.parameters
        optional = {
            "$defs": parameters.defs,
            "items": parameters.items,
            "required": parameters.required,
        }
        return {
            "type": self.type,
            **({} if self.items is None else {"items": self.items}),
            "function": {
                "name": function.name,
                **({"description": function.description} if function.description else {}),
                "parameters": {
                    "type": parameters.type,
                    **{key: value for key, value in optional.items() if value not in (None, [])},
                    "properties": msgspec.to_builtins(parameters.properties),
                },
            },
        }


class Message(msgspec.Struct):
    """One turn of a conversation."""

    go_name: ClassVar[str] = "Alias"
    go_types: ClassVar[Mapping[str, str]] = _IMAGES
    role: str = ""
    content: str = ""
    thinking: str = ""
    images: list[str] = []
    tool_calls: list[ToolCall] = []
    tool_name: str = ""
    tool_call_id: str = ""

    def to_message(self) -> ChatMessage:
        """Return the turn for the prompt. Raises InvalidBody."""
        return ChatMessage(
            role=self.role.lower(),
            content=self.content,
            images=read_images(self.images, "Alias"),
            thinking=self.thinking,
            tool_calls=tuple(call.to_message() for call in self.tool_calls),
            tool_name=self.tool_name,
            tool_call_id=self.tool_call_id,
        )


class _CommonBody(msgspec.Struct):
    """Fields that both routes share. `name` is what old clients call `model`."""

    model: str = ""
    name: str = ""
    stream: bool = True
    format: Any = None
    keep_alive: Any = None
    options: dict[str, Any] = {}
    think: Any = None
    truncate: bool = True
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")

    def common_fields(self) -> dict[str, Any]:
        """Return what both internal requests are made with. Raises InvalidBody, BadRequest."""
        json_schema, refusal = read_format_for_later(self.format)
        return {
            "model": self.model or self.name,
            "options": self.options,
            "keep_alive": read_keep_alive(self.keep_alive),
            "think": read_think(self.think),
            "truncate": self.truncate,
            "shift": self.shift,
            "top_logprobs": read_top_logprobs(self.top_logprobs, is_wished=self.logprobs),
            "json_schema": json_schema,
            "refusal": refusal,
            "renders_only": self.debug_render_only,
        }


class GenerateBody(_CommonBody):
    """The body of `/api/generate`."""

    go_types: ClassVar[Mapping[str, str]] = _IMAGES

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] = []
    raw: bool = False
    images: list[str] = []

    def to_request(self) -> CompletionRequest:
        """Return the internal request. Raises InvalidBody, BadRequest, ModelNotFound."""
        images = read_images(self.images, "GenerateRequest")
        common = self.common_fields()
        if not common["model"]:
            raise ModelNotFound("")
        return CompletionRequest(
            **common,
            prompt=self.prompt,
            suffix=self.suffix,
            images=images,
            system=self.system,
            template=self.template,
            context=tuple(self.context),
            raw=self.raw,
        )


class ChatBody(_CommonBody):
    """The body of `/api/chat`."""

    go_types: ClassVar[Mapping[str, str]] = {"tools": "api.Tools"}

    messages: list[Message] = []
    tools: list[Tool] = []

    def to_request(self) -> ChatRequest:
        """Return the internal request. Raises InvalidBody, BadRequest."""
        messages = tuple(message.to_message() for message in self.messages)
        common = self.common_fields()
        if not common["model"]:
            raise BadRequest("model is required")
        return ChatRequest(
            **common, messages=messages, tools=tuple(tool.to_dict() for tool in self.tools)
        )


def not_supported(field: str) -> BadRequest:
    """Return the refusal of a field whose feature is not here."""
    return BadRequest(f'"{field}" is not supported by this server', param=field)


def read_top_logprobs(count: int, *, is_wished: bool) -> int | None:
    """Return how many alternatives to tell, None where no log probabilities are wished.

    Raises BadRequest unless the count is in its range, also where it has no effect.
    """
    if not 0 <= count <= MAX_TOP_LOGPROBS:
        raise BadRequest(
            f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}", param="top_logprobs"
        )
    return count if is_wished else None


def read_think(value: Any) -> bool | str | None:
    """Return whether and how much the model is to think. Raises InvalidBody."""
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidBody(f"think must be a boolean or string {_THINK_CHOICES}", param="think")
    if value not in _THINK_LEVELS:
        choices = _THINK_CHOICES.replace("(", "(must be ")
        message = f"invalid think value: {json.dumps(value, ensure_ascii=False)} {choices}"
        raise InvalidBody(message, param="think")
    return value


def read_images(images: list[str], go_struct: str) -> tuple[bytes, ...]:
    """Decode base64 images. Raises InvalidBody naming the struct and the first bad byte."""
    return tuple(_image(text, f"{go_struct}.images.{at}") for at, text in enumerate(images))


def _image(text: str, place: str) -> bytes:
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        at = _first_bad_byte(text)
        raise InvalidBody(
            f"json: cannot unmarshal string into {place} of type api.ImageData: "
            f"illegal base64 data at input byte {at}"
        ) from error


def _first_bad_byte(text: str) -> int:
    """Return where Go's decoder gives up: at a foreign byte, or where the padding is wrong."""
    run = _BASE64_RUN.match(text)
    end = run.end() if run else 0
    in_group = (end - text.count("\r", 0, end) - text.count("\n", 0, end)) % 4
    if end == len(text):
        return end - in_group
    if text[end] != "=" or in_group < _LEAST_BEFORE_PADDING:
        return end
    next_at = _behind_line_ends(text, end + 1)
    if in_group == _LEAST_BEFORE_PADDING:  # a second one belongs to it
        if next_at == len(text):
            return next_at
        if text[next_at] != "=":
            return next_at - 1
        next_at = _behind_line_ends(text, next_at + 1)
    return next_at


def _behind_line_ends(text: str, start: int) -> int:
    found = _LINE_ENDS.match(text, start)
    return found.end() if found else start

"""The body of `/v1/chat/completions` → an internal request (contract/ollama.md 3.1, 3.2, 2.7).

Where Ollama loses what a client said (section 9.3: null content, role developer, the id of a tool
message, max_completion_tokens), this does what the client meant. Fields whose feature is not here
are refused by name; those that OpenAI itself only takes note of (user, store, metadata …) are
ignored. Knows no model and no answer.
"""

import base64
import binascii
import json
import math
import re
from typing import Any, Final

import msgspec
from msgspec import structs

from inference.api.formats import ANY_OBJECT, read_format
from inference.api.keep_alive import read_keep_alive
from inference.api.schemas import (
    Tool,
    not_supported,
    read_top_logprobs,
)
from inference.messages import ChatMessage, ToolCall
from inference.prompting.turns import PARAGRAPH
from inference.requests import ChatRequest
from ollamasite.errors import BadRequest, InvalidBody

_EFFORTS: Final[dict[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}
_IMAGE_PREFIXES: Final = (
    "data:image/jpeg;base64,",
    "data:image/jpg;base64,",
    "data:image/png;base64,",
    "data:image/webp;base64,",
    "data:image/gif;base64,",
    "data:;base64,",
)
MAX_CHOICES: Final = 16
MAX_BIASED_TOKENS: Final = 1024
_MAX_BIAS: Final = 100.0
_MAX_TOKEN_ID: Final = 2**31 - 1
_TOKEN_ID: Final = re.compile(r"[0-9]{1,10}")
_GO_KINDS: Final = {
    "NoneType": "<nil>",
    "bool": "bool",
    "int": "float64",
    "float": "float64",
    "str": "string",
    "list": "[]interface {}",
    "dict": "map[string]interface {}",
}


class FunctionCall(msgspec.Struct):
    """The function of a call; `arguments` is JSON text."""

    name: str = ""
    arguments: str = ""


class AskedCall(msgspec.Struct):
    """A call that the model made earlier in the conversation."""

    id: str = ""
    index: int = 0
    type: str = ""
    function: FunctionCall = msgspec.field(default_factory=FunctionCall)

    def to_message(self) -> ToolCall:
        """Return the call for the prompt. Raises BadRequest."""
        try:
            arguments = json.loads(self.function.arguments)
        except (ValueError, RecursionError) as error:
            raise BadRequest("invalid tool call arguments") from error
        if not isinstance(arguments, dict):
            raise BadRequest("invalid tool call arguments")
        return ToolCall(id=self.id, index=self.index, name=self.function.name, arguments=arguments)


class Message(msgspec.Struct):
    """One turn of a conversation."""

    role: str = ""
    content: Any = None
    reasoning: str = ""
    reasoning_content: str = ""  # what other servers and their clients call it
    name: str = ""
    tool_calls: list[AskedCall] = []
    tool_call_id: str = ""


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool = False


class Reasoning(msgspec.Struct):
    """`reasoning`."""

    effort: str = ""


class JsonSchema(msgspec.Struct):
    """`response_format.json_schema`; its name and whether it is strict make no difference."""

    name: str = ""
    strict: bool = False
    schema: Any = None


class ResponseFormat(msgspec.Struct):
    """`response_format`. Types other than these two ask for nothing (contract 3.1)."""

    type: str = ""
    json_schema: JsonSchema = msgspec.field(default_factory=JsonSchema)

    def to_schema(self) -> str:
        """Return the JSON text of a schema, empty for none. Raises InvalidBody, InvalidFormat."""
        match self.type:
            case "json_object":
                return ANY_OBJECT
            case "json_schema":
                schema = read_format(self.json_schema.schema)
                if not schema:
                    raise InvalidBody("response_format.json_schema.schema is required")
                return schema
        return ""


class ChatCompletionBody(msgspec.Struct):
    """The body of `/v1/chat/completions`. `options` and `keep_alive` come as extra fields."""

    model: str = ""
    messages: list[Message] = []
    stream: bool = False
    stream_options: StreamOptions = msgspec.field(default_factory=StreamOptions)
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: Any = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_format: ResponseFormat = msgspec.field(default_factory=ResponseFormat)
    tools: list[Tool] = []
    tool_choice: Any = None
    reasoning_effort: str = ""
    reasoning: Reasoning = msgspec.field(default_factory=Reasoning)
    logprobs: bool = False
    top_logprobs: int = 0
    logit_bias: dict[str, Any] = {}
    n: int = 1
    options: dict[str, Any] = {}
    keep_alive: Any = None

    def to_request(self) -> ChatRequest:
        """Return the internal request. Raises InvalidBody, BadRequest."""
        if not self.messages:
            raise InvalidBody("[] is too short - 'messages'")
        messages = _read_messages(self.messages)
        think = _read_effort(self.reasoning_effort or self.reasoning.effort)
        keep_alive = read_keep_alive(self.keep_alive)
        top_logprobs = read_top_logprobs(self.top_logprobs, is_wished=self.logprobs)
        if self.tools and self.tool_choice not in (None, "auto", "none"):
            raise not_supported("tool_choice")
        if not 1 <= self.n <= MAX_CHOICES:
            raise BadRequest(f"n must be between 1 and {MAX_CHOICES}")
        if not self.model:
            raise BadRequest("model is required")
        return ChatRequest(
            model=self.model,
            messages=messages,
            tools=() if self.tool_choice == "none" else tuple(t.to_dict() for t in self.tools),
            think=think,
            options=self._options(),
            keep_alive=keep_alive,
            json_schema=self.response_format.to_schema(),
            top_logprobs=top_logprobs,
            choices=self.n,
            logit_bias=_read_logit_bias(self.logit_bias),
        )

    def _options(self) -> dict[str, Any]:
        # Absent temperature and top_p are 1.0 here whatever the model says (contract 3.1). What
        # stands in the extra field `options` goes over that, and OpenAI's own fields over both.
        max_tokens = self.max_completion_tokens
        given = {
            "num_predict": self.max_tokens if max_tokens is None else max_tokens,
            "seed": self.seed,
            "stop": _read_stop(self.stop),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return {"temperature": 1.0, "top_p": 1.0} | self.options | own


def _read_stop(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for text in value if isinstance(text, str)]
    return None


def _read_logit_bias(asked: dict[str, Any]) -> tuple[tuple[int, float], ...]:
    if len(asked) > MAX_BIASED_TOKENS:
        raise BadRequest(f"logit_bias must have at most {MAX_BIASED_TOKENS} entries")
    return tuple({_read_token_id(key): _read_bias(bias) for key, bias in asked.items()}.items())


def _read_token_id(key: str) -> int:
    token = int(key) if _TOKEN_ID.fullmatch(key) else _MAX_TOKEN_ID + 1
    if token > _MAX_TOKEN_ID:
        raise BadRequest("logit_bias must have token ids as its keys")
    return token


def _read_bias(value: Any) -> float:
    is_number = type(value) in {int, float} and math.isfinite(value)
    if not is_number or abs(value) > _MAX_BIAS:
        raise BadRequest("logit_bias must have values between -100 and 100")
    return float(value)


def _read_effort(effort: str) -> bool | str | None:
    if not effort:
        return None
    if effort not in _EFFORTS:
        shown = json.dumps(effort, ensure_ascii=False)
        choices = ", ".join(f'"{name}"' for name in _EFFORTS)
        raise BadRequest(f"invalid reasoning value: {shown} (must be one of {choices})")
    return _EFFORTS[effort]


def _read_messages(messages: list[Message]) -> tuple[ChatMessage, ...]:
    names_by_call_id: dict[str, str] = {}
    read: list[ChatMessage] = []
    for message in messages:
        calls = tuple(call.to_message() for call in message.tool_calls)
        names_by_call_id |= {call.id: call.name for call in calls}
        parts = _read_content(message.content)
        if not parts and calls:
            parts = [_Part()]
        role = message.role.lower()
        whole = ChatMessage(
            role="system" if role == "developer" else role,
            thinking=message.reasoning or message.reasoning_content,
            tool_calls=calls,
            tool_name=message.name or names_by_call_id.get(message.tool_call_id, ""),
            tool_call_id=message.tool_call_id,
        )
        read += _with_parts(whole, parts)
    return tuple(read)


class _Part(msgspec.Struct, frozen=True):
    """A part of a message: text or an image."""

    text: str = ""
    image: bytes | None = None


def _with_parts(whole: ChatMessage, parts: list[_Part]) -> list[ChatMessage]:
    """Return a message with its parts; without parts there is none (contract 11, on 3.2).

    Ollama makes a message of every part, and its templates join messages of one role with a blank
    line. Text alone is joined here at once, so that a tool message keeps its id.
    """
    images = tuple(part.image for part in parts if part.image is not None)
    if not parts:
        return []
    if not images or whole.role == "tool":
        content = PARAGRAPH.join(part.text for part in parts if part.image is None)
        return [structs.replace(whole, content=content, images=images)]
    first, *others = parts
    alone = ChatMessage(role=whole.role)
    return [_with_part(whole, first), *(_with_part(alone, part) for part in others)]


def _with_part(message: ChatMessage, part: _Part) -> ChatMessage:
    images = () if part.image is None else (part.image,)
    return structs.replace(message, content=part.text, images=images)


def _read_content(content: Any) -> list[_Part]:
    """Return the parts of a content; an empty list of parts stays empty. Raises BadRequest."""
    match content:
        case None:
            return [_Part()]
        case str():
            return [_Part(text=content)]
        case list():
            return [_read_part(part) for part in content]
    raise BadRequest(f"invalid message content type: {_GO_KINDS[type(content).__name__]}")


def _read_part(part: Any) -> _Part:
    if not isinstance(part, dict):
        raise BadRequest("invalid message format")
    match part.get("type"):
        case "text" if isinstance(part.get("text"), str):
            return _Part(text=part["text"])
        case "image_url":
            return _Part(image=_read_image(part.get("image_url")))
        case "input_audio":
            raise not_supported("input_audio")
    raise BadRequest("invalid message format")


def _read_image(value: Any) -> bytes:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise BadRequest("invalid message format")
    if url.startswith(("http://", "https://")):
        raise BadRequest(
            "image URLs are not currently supported, please use base64 encoded data instead"
        )
    prefix = next((prefix for prefix in _IMAGE_PREFIXES if url.startswith(prefix)), None)
    if prefix is None:
        raise BadRequest("invalid image input")
    try:
        return base64.b64decode(url.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("invalid image input") from error

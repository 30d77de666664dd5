"""The messages of `/v1/chat/completions` → the internal ones (contract/ollama.md 3.2).

Where Ollama loses what a client said (section 9.3: null content, role developer, the id of a tool
message), this does what the client meant. Knows no model and no answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import structs

from inference.api.openai.fields import (
    NOTHING_FETCHED,
    image_address,
    is_web_address,
    read_image,
)
from inference.messages import ChatMessage, ToolCall
from inference.prompting.turns import PARAGRAPH
from ollamasite.errors import BadRequest, InvalidBody
from ollamasite.http import read_json_text

_FIELD: Final = "messages"
# What each role is called in a template.
_ROLES: Final = {"developer": "system", "function": "tool"}
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

    def to_message(self, call_id: str = "", index: int = 0) -> ToolCall:
        """Return the call for the prompt. Raises BadRequest."""
        try:
            arguments = read_json_text(self.arguments)
        except InvalidBody as error:
            raise _refusal("invalid tool call arguments") from error
        if not isinstance(arguments, dict):
            raise _refusal("invalid tool call arguments")
        return ToolCall(id=call_id, index=index, name=self.name, arguments=arguments)


class AskedCall(msgspec.Struct):
    """A call that the model made earlier in the conversation."""

    id: str = ""
    index: int = 0
    type: str = ""
    function: FunctionCall = msgspec.field(default_factory=FunctionCall)

    def to_message(self) -> ToolCall:
        """Return the call for the prompt. Raises BadRequest."""
        if self.type == "custom":
            raise _unsupported("custom tool call")
        return self.function.to_message(self.id, self.index)


class Message(msgspec.Struct):
    """One turn of a conversation."""

    role: str = ""
    content: Any = None
    refusal: str = ""
    reasoning: str = ""
    reasoning_content: str = ""  # what other servers and their clients call it
    name: str = ""
    tool_calls: list[AskedCall] = []
    tool_call_id: str = ""
    function_call: FunctionCall | None = None  # of a model that had functions, not yet tools
    audio: Any = None

    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls of this turn. Raises BadRequest."""
        old = () if self.function_call is None else (self.function_call.to_message(),)
        return (*(call.to_message() for call in self.tool_calls), *old)

    def said(self) -> Any:
        """Return the content; that of a turn in which the model refused is its refusal."""
        return self.content or self.refusal or self.content


def web_images(messages: list[Message]) -> Iterator[str]:
    """Yield the addresses of the images that have to be fetched."""
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            if isinstance(part, dict) and part.get("type") == "image_url":
                address = image_address(part.get("image_url"))
                if is_web_address(address):
                    yield address


def read_messages(
    messages: list[Message], fetched: Mapping[str, bytes] = NOTHING_FETCHED
) -> tuple[ChatMessage, ...]:
    """Return a conversation in internal terms; `fetched`: images by address. Raises BadRequest."""
    names_by_call_id: dict[str, str] = {}
    read: list[ChatMessage] = []
    for message in messages:
        if message.audio is not None:
            raise _unsupported("audio")
        calls = message.calls()
        names_by_call_id |= {call.id: call.name for call in calls if call.id}
        parts = _read_content(message.said(), fetched)
        if not parts and calls:
            parts = [_Part()]
        role = message.role.lower()
        whole = ChatMessage(
            role=_ROLES.get(role, role),
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


def _read_content(content: Any, fetched: Mapping[str, bytes]) -> list[_Part]:
    """Return the parts of a content; an empty list of parts stays empty. Raises BadRequest."""
    match content:
        case None:
            return [_Part()]
        case str():
            return [_Part(text=content)]
        case list():
            return [_read_part(part, fetched) for part in content]
    raise _refusal(f"invalid message content type: {_GO_KINDS[type(content).__name__]}")


def _read_part(part: Any, fetched: Mapping[str, bytes]) -> _Part:
    if not isinstance(part, dict):
        raise _refusal("invalid message format")
    match part.get("type"):
        case "text" | "refusal" as kind if isinstance(part.get(kind), str):
            return _Part(text=part[kind])
        case "image_url":
            return _Part(image=read_image(part.get("image_url"), fetched))
        case "input_audio" | "file" as kind:
            raise _unsupported(kind)
    raise _refusal("invalid message format")


def _refusal(words: str) -> BadRequest:
    return BadRequest(words, param=_FIELD)


def _unsupported(kind: str) -> BadRequest:
    return _refusal(f'"{kind}" is not supported by this server')

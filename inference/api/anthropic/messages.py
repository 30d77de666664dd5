"""The conversation of `/v1/messages` → internal messages (contract/ollama.md 3.8).

The blocks are those of Anthropic's Messages API. What cannot be read here (documents, files,
the blocks of Anthropic's own tools) is refused by name. Knows no route, no model and no answer.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from inference.api.openai.fields import NOTHING_FETCHED, read_image
from inference.messages import ChatMessage, ToolCall
from inference.prompting.turns import PARAGRAPH
from ollamasite.errors import BadRequest

_BLOCKS_OF_ROLE: Final = {
    "system": frozenset({"text"}),
    "user": frozenset({"text", "image", "tool_result"}),
    "assistant": frozenset({"text", "thinking", "redacted_thinking", "tool_use"}),
}
_KNOWN_BLOCKS: Final = frozenset().union(*_BLOCKS_OF_ROLE.values())
_RESULT_BLOCKS: Final = frozenset({"text", "image"})
_IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_OVERSIZED: Final = (None, "downsize")

Block = dict[str, Any]


def image_urls(messages: list[Any]) -> list[str]:
    """Return the web addresses of a conversation's images, in order, as far as it can be read."""
    return [
        source["url"]
        for message in messages
        if isinstance(message, dict)
        for source in _image_sources(message.get("content"))
        if source.get("type") == "url" and isinstance(source.get("url"), str)
    ]


def _image_sources(content: Any) -> Iterator[Block]:
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        if block.get("type") == "image" and isinstance(block.get("source"), dict):
            yield block["source"]
        if block.get("type") == "tool_result":
            yield from _image_sources(block.get("content"))


def read_system(value: Any) -> tuple[ChatMessage, ...]:
    """Return the system text, a string or text blocks, as a message or none. Raises BadRequest."""
    if value is None:
        return ()
    turn = _Turn("system")
    for block, place in _blocks(value, "system", _BLOCKS_OF_ROLE["system"]):
        turn.texts.append(_text(block, place))
    return turn.messages() if any(turn.texts) else ()


def read_messages(
    messages: list[Any], fetched: Mapping[str, bytes] = NOTHING_FETCHED
) -> tuple[ChatMessage, ...]:
    """Return a conversation in internal terms; at least one message. Raises BadRequest.

    `fetched` has the images of `image_urls`. A tool's result becomes a message of its own.
    """
    if not messages:
        raise BadRequest("messages: at least one message is required", param="messages")
    reader = _Reader(fetched)
    return tuple(
        read for number, value in enumerate(messages) for read in reader.read(value, number)
    )


@dataclass(slots=True)
class _Turn:
    """What one message is made of; nothing of it: one empty message."""

    role: str
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def messages(self) -> tuple[ChatMessage, ...]:
        whole = ChatMessage(
            role=self.role,
            content=PARAGRAPH.join(self.texts),
            images=tuple(self.images),
            thinking=PARAGRAPH.join(self.thoughts),
            tool_calls=tuple(self.calls),
        )
        return (whole,)

    @property
    def is_empty(self) -> bool:
        return not (self.texts or self.thoughts or self.images or self.calls)


class _Reader:
    """Reads message after message: a result is told which tool it came from."""

    def __init__(self, fetched: Mapping[str, bytes]) -> None:
        self._fetched = fetched
        self._names: dict[str, str] = {}  # of tools, by the id of the call

    def read(self, message: Any, number: int) -> tuple[ChatMessage, ...]:
        place = f"messages.{number}"
        if not isinstance(message, dict):
            raise BadRequest(f"{place}: must be an object", param="messages")
        role = message.get("role")
        if not isinstance(role, str) or role not in _BLOCKS_OF_ROLE:
            roles = ", ".join(f'"{name}"' for name in _BLOCKS_OF_ROLE)
            raise BadRequest(f"{place}.role: must be one of {roles}", param="messages")
        if message.get("content") is None:
            raise BadRequest(f"{place}.content: field required", param="messages")
        turn = _Turn(role)
        results: list[ChatMessage] = []
        for block, where in _blocks(message["content"], f"{place}.content", _BLOCKS_OF_ROLE[role]):
            if block["type"] == "tool_result":
                results.append(self._result(block, where))
            else:
                self._add(turn, block, where)
        own = () if results and turn.is_empty else turn.messages()
        return (*results, *own)

    def _add(self, turn: _Turn, block: Block, place: str) -> None:
        match block["type"]:
            case "text":
                turn.texts.append(_text(block, place))
            case "image":
                turn.images.append(_image(block, place, self._fetched))
            case "thinking":
                turn.thoughts.append(_string(block, "thinking", place))
            case "tool_use":
                call = _call(block, place, index=len(turn.calls))
                self._names[call.id] = call.name
                turn.calls.append(call)
            case "redacted_thinking":
                pass  # only its maker can read it

    def _result(self, block: Block, place: str) -> ChatMessage:
        call_id = _string(block, "tool_use_id", place, can_be_empty=False)
        _refuse(block, place, "toolset_name")
        turn = _Turn("tool")
        content = block.get("content")
        for part, where in _blocks(
            "" if content is None else content, f"{place}.content", _RESULT_BLOCKS
        ):
            self._add(turn, part, where)
        text = PARAGRAPH.join(turn.texts)
        return ChatMessage(
            role="tool",
            # Templates know no failed result: the model has to read it.
            content=f"Error: {text}" if block.get("is_error") is True else text,
            images=tuple(turn.images),
            tool_name=self._names.get(call_id, ""),
            tool_call_id=call_id,
        )


def _blocks(content: Any, place: str, known: frozenset[str]) -> Iterator[tuple[Block, str]]:
    """Yield each block with its place; a string is a block of text. Raises BadRequest."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}, place
        return
    if not isinstance(content, list):
        raise BadRequest(f"{place}: must be a string or an array of blocks", param=_field(place))
    for number, block in enumerate(content):
        where = f"{place}.{number}"
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise BadRequest(f"{where}: must be an object with a type", param=_field(place))
        kind = block["type"]
        if kind in known:
            yield block, where
        elif kind in _KNOWN_BLOCKS:
            raise BadRequest(f'{where}: no block of type "{kind}" here', param=_field(place))
        else:
            raise _not_supported(where, f'a block of type "{kind}"')


def _text(block: Block, place: str) -> str:
    _refuse(block, place, "citations")
    return _string(block, "text", place)


def _call(block: Block, place: str, *, index: int) -> ToolCall:
    call_id = _string(block, "id", place, can_be_empty=False)
    name = _string(block, "name", place, can_be_empty=False)
    arguments = block.get("input")
    if not isinstance(arguments, dict):
        raise BadRequest(f"{place}.input: must be an object", param=_field(place))
    _refuse(block, place, "toolset_name")
    caller = block.get("caller")
    if caller is not None and caller != {"type": "direct"}:
        raise _not_supported(f"{place}.caller", 'a caller other than "direct"')
    return ToolCall(id=call_id, index=index, name=name, arguments=arguments)


def _image(block: Block, place: str, fetched: Mapping[str, bytes]) -> bytes:
    source = block.get("source")
    if not isinstance(source, dict):
        raise BadRequest(f"{place}.source: must be an object", param=_field(place))
    wish = block.get("transformations")
    if wish is not None and (not isinstance(wish, dict) or _oversized(wish) not in _OVERSIZED):
        raise _not_supported(f"{place}.transformations", "this value")
    match source.get("type"):
        case "base64":
            return _base64_image(source, f"{place}.source")
        case "url":
            return read_image(_string(source, "url", f"{place}.source"), fetched)
    kind = source.get("type")
    raise _not_supported(f"{place}.source", f'a source of type "{kind}"')


def _oversized(wish: Block) -> Any:
    return wish.get("oversized_image")


def _base64_image(source: Block, place: str) -> bytes:
    if source.get("media_type") not in _IMAGE_TYPES:
        types = ", ".join(_IMAGE_TYPES)
        raise BadRequest(f"{place}.media_type: must be one of {types}", param=_field(place))
    try:
        return base64.b64decode(_string(source, "data", place), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{place}.data: invalid base64 data", param=_field(place)) from error


def _string(block: Block, name: str, place: str, *, can_be_empty: bool = True) -> str:
    value = block.get(name)
    if not isinstance(value, str) or not (value or can_be_empty):
        kind = "string" if can_be_empty else "non-empty string"
        raise BadRequest(f"{place}.{name}: must be a {kind}", param=_field(place))
    return value


def _refuse(block: Block, place: str, name: str) -> None:
    if block.get(name) not in (None, []):
        raise _not_supported(f"{place}.{name}", "this field")


def _not_supported(place: str, what: str) -> BadRequest:
    return BadRequest(f"{place}: {what} is not supported by this server", param=_field(place))


def _field(place: str) -> str:
    return place.partition(".")[0]

"""Chats → text, by a Jinja template as models carry it in their GGUF file.

Messages get the shape that templates made for Hugging Face expect (templates 3.1). Templates
disagree on some points; what one refuses is tried again in another shape. Knows nothing of Go
templates or of where a template comes from.
"""

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import structs

from inference.messages import ChatMessage, ToolCall
from inference.prompting.errors import TemplateError, TemplateRunError
from inference.prompting.sandbox import render
from inference.prompting.turns import PARAGRAPH, place_image_tags

_MAX_DEPTH: Final = 60
_SYSTEM: Final = "system"
_USER: Final = "user"
_ASSISTANT: Final = "assistant"
_NOT_TEXT: Final = frozenset({"tool_calls", "tool_call_id", "name", "reasoning_content"})
_CACHE_SIZE: Final = 32
_PROBE: Final = "what is said"
_Message = dict[str, Any]


def render_chat(
    template: str,
    messages: Sequence[ChatMessage],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    think: bool | str | None = None,
    bos_token: str = "",
    eos_token: str = "",
) -> str:
    """Return the text of a chat that the model has to continue.

    An answer that has begun, a last message of the assistant's without calls, is continued. Raises
    TemplateError: the first failure if no shape of the messages works.
    """
    variables: dict[str, Any] = {
        "tools": [_plain(tool) for tool in tools] or None,
        "add_generation_prompt": True,
        "bos_token": bos_token,
        "eos_token": eos_token,
    }
    asked, begun = _parted(messages)
    # Who has begun to answer has done with thinking.
    variables |= _thinking(False if begun and think else think)
    is_typed = _wants_parts(template)
    failure: TemplateRunError | None = None
    for shaped in _shapes(asked):
        if is_typed:
            _part(shaped)
        try:
            return render(template, {**variables, "messages": shaped}) + begun
        except TemplateRunError as error:
            failure = failure or error
    raise failure or TemplateRunError("template could not be rendered")


def _thinking(think: bool | str | None) -> dict[str, Any]:  # noqa: FBT001 - a wire value
    """Return the names by which templates ask whether to think."""
    if think is None:
        return {}
    told: dict[str, Any] = {"enable_thinking": bool(think), "thinking": bool(think)}
    if isinstance(think, str):
        told["reasoning_effort"] = think
    return told


def _parted(messages: Sequence[ChatMessage]) -> tuple[Sequence[ChatMessage], str]:
    """Return the messages before an answer that has begun, and so much of the answer."""
    last = messages[-1] if len(messages) > 1 else None
    if last is None or last.role.lower() != _ASSISTANT or last.tool_calls or last.thinking:
        return messages, ""
    return messages[:-1], last.content


def _shapes(messages: Sequence[ChatMessage]) -> Iterator[list[_Message]]:
    """Yield the conversation in one shape after the other, each a copy of its own.

    First as it is; then with calls' arguments as texts; without what was thought; with the system's
    text in the first question; and so that question and answer alternate.
    """
    yield _shape(messages, has_text_arguments=False)
    if any(message.tool_calls for message in messages):
        yield _shape(messages, has_text_arguments=True)
    if any(message.thinking for message in messages):
        silent = [structs.replace(message, thinking="") for message in messages]
        yield _shape(silent, has_text_arguments=False)
    if any(message.role.lower() == _SYSTEM for message in messages):
        yield _without_system(_shape(messages, has_text_arguments=False))
    if any(one.role.lower() == other.role.lower() for one, other in itertools.pairwise(messages)):
        yield _merged(_shape(messages, has_text_arguments=False))
        yield _merged(_without_system(_shape(messages, has_text_arguments=False)))


def _shape(messages: Sequence[ChatMessage], *, has_text_arguments: bool) -> list[_Message]:
    shaped: list[_Message] = []
    image = 0
    for message in messages:
        tags = [f"[img-{image + number}]" for number in range(len(message.images))]
        image += len(tags)
        each: _Message = {
            "role": message.role.lower(),
            "content": place_image_tags(message.content, tags),
        }
        if message.thinking:
            each["reasoning_content"] = each["thinking"] = message.thinking
        if message.tool_calls:
            each["tool_calls"] = [
                _call(call, has_text_arguments=has_text_arguments) for call in message.tool_calls
            ]
        if message.tool_name:
            each["name"] = message.tool_name
        if message.tool_call_id:
            each["tool_call_id"] = message.tool_call_id
        shaped.append(each)
    return shaped


def _call(call: ToolCall, *, has_text_arguments: bool) -> _Message:
    arguments = _plain(call.arguments)
    if has_text_arguments:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.id or f"call_{call.index}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _without_system(messages: list[_Message]) -> list[_Message]:
    """Return the messages with all system texts in front of the first question."""
    systems = [message["content"] for message in messages if message["role"] == _SYSTEM]
    others = [message for message in messages if message["role"] != _SYSTEM]
    first = next((message for message in others if message["role"] == _USER), None)
    if first is None:
        first = {"role": _USER, "content": ""}
        others.insert(0, first)
    first["content"] = PARAGRAPH.join(text for text in (*systems, first["content"]) if text)
    return others


def _merged(messages: list[_Message]) -> list[_Message]:
    """Return the messages with neighbours of one role made one; calls and results stay alone."""
    merged: list[_Message] = []
    for message in messages:
        last = merged[-1] if merged else {"role": ""}
        is_text = not (last.keys() | message.keys()) & _NOT_TEXT
        if is_text and last["role"] == message["role"]:
            last["content"] = PARAGRAPH.join((last["content"], message["content"]))
        else:
            merged.append(message)
    return merged


def _part(messages: list[_Message]) -> None:
    for message in messages:
        message["content"] = [{"type": "text", "text": message["content"]}]


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _wants_parts(template: str) -> bool:
    """Whether a template shows a content only where it is a list of parts."""
    messages = [{"role": _USER, "content": _PROBE}]
    if _shows_probe(template, messages):
        return False
    _part(messages)
    return _shows_probe(template, messages)


def _shows_probe(template: str, messages: list[_Message]) -> bool:
    variables = {
        "messages": messages,
        "add_generation_prompt": True,
        "bos_token": "",
        "tools": None,
    }
    try:
        return _PROBE in render(template, {**variables, "eos_token": ""})
    except TemplateError:
        return False


def _plain(value: object, depth: int = 0) -> Any:
    """Return a copy of decoded JSON that a template may change."""
    if depth > _MAX_DEPTH:
        return None
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(name): _plain(each, depth + 1) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each, depth + 1) for each in value]
    return str(value)

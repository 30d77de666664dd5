"""Chats → text, by a Jinja template as models carry it in their GGUF file.

Messages get the shape that templates made for Hugging Face expect (templates 3.1). Templates
disagree on some points; what one refuses is tried again in another shape. Knows nothing of Go
templates or of where a template comes from.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from inference.messages import ChatMessage, ToolCall
from inference.prompting.errors import TemplateRunError
from inference.prompting.sandbox import render
from inference.prompting.turns import PARAGRAPH, place_image_tags

_MAX_DEPTH: Final = 60
_SYSTEM: Final = "system"
_USER: Final = "user"
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

    Tool calls' arguments are objects first and JSON texts if the template fails on that; then a
    system message is made part of the first question. Raises TemplateError: the first failure if
    no shape works.
    """
    variables: dict[str, Any] = {
        "tools": [_plain(tool) for tool in tools] or None,
        "add_generation_prompt": True,
        "bos_token": bos_token,
        "eos_token": eos_token,
    }
    if think is not None:
        variables["enable_thinking"] = bool(think)
    if isinstance(think, str):
        variables["reasoning_effort"] = think
    failure: TemplateRunError | None = None
    for shaped in _shapes(messages):
        try:
            return render(template, {**variables, "messages": shaped})
        except TemplateRunError as error:
            failure = failure or error
    raise failure or TemplateRunError("template could not be rendered")


def _shapes(messages: Sequence[ChatMessage]) -> Iterator[list[_Message]]:
    """Yield the conversation in one shape after the other, each a copy of its own."""
    yield _shape(messages, has_text_arguments=False)
    if any(message.tool_calls for message in messages):
        yield _shape(messages, has_text_arguments=True)
    if any(message.role.lower() == _SYSTEM for message in messages):
        yield _without_system(_shape(messages, has_text_arguments=False))


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
            each["reasoning_content"] = message.thinking
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

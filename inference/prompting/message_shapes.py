"""The messages of a chat in the shapes that Jinja templates expect, one after the other.

Templates disagree: on whether arguments are a text, on who may speak after whom, on how long the id
of a call is. Knows nothing of templates themselves and renders nothing.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from msgspec import structs

from inference.messages import ChatMessage, ToolCall
from inference.prompting.tool_shapes import plain
from inference.prompting.turns import PARAGRAPH, place_image_tags

SYSTEM: Final = "system"
USER: Final = "user"
ASSISTANT: Final = "assistant"
TOOL: Final = "tool"
_ID: Final = "tool_call_id"
_CALLS: Final = "tool_calls"
_NOT_TEXT: Final = frozenset({_CALLS, _ID, "name", "reasoning_content"})
_SHORT_ID: Final = 9  # characters, as Mistral's templates insist on

Message: TypeAlias = dict[str, Any]


def shapes(messages: Sequence[ChatMessage]) -> Iterator[list[Message]]:
    """Yield the conversation in one shape after the other, each a copy of its own.

    First as it is; then with calls' arguments as texts; with short ids; without what was thought;
    with the system's text in the first question; and so that question and answer alternate, at
    last even where calls and their results have to be told in words.
    """
    has_calls = any(message.tool_calls for message in messages)
    has_tools = has_calls or any(message.role.lower() == TOOL for message in messages)
    yield _shape(messages)
    if has_calls:
        yield _shape(messages, has_text_arguments=True)
    if has_tools:
        yield _with_short_ids(_shape(messages))
    if any(message.thinking for message in messages):
        yield _shape([structs.replace(message, thinking="") for message in messages])
    if any(message.role.lower() == SYSTEM for message in messages):
        yield _without_system(_shape(messages))
    if any(one.role.lower() == other.role.lower() for one, other in itertools.pairwise(messages)):
        yield _merged(_shape(messages))
        yield _merged(_without_system(_shape(messages)))
    if has_tools:
        yield _with_short_ids(_merged(_without_system(_shape(messages))))
        yield _merged(_in_words(_shape(messages)))
        yield _merged(_without_system(_in_words(_shape(messages))))


def _shape(messages: Sequence[ChatMessage], *, has_text_arguments: bool = False) -> list[Message]:
    shaped: list[Message] = []
    image = 0
    for message in messages:
        tags = [f"[img-{image + number}]" for number in range(len(message.images))]
        image += len(tags)
        each: Message = {
            "role": message.role.lower(),
            "content": place_image_tags(message.content, tags),
        }
        if message.thinking:
            each["reasoning_content"] = each["thinking"] = message.thinking
        if message.tool_calls:
            each[_CALLS] = [
                _call(call, has_text_arguments=has_text_arguments) for call in message.tool_calls
            ]
        if message.tool_name:
            each["name"] = message.tool_name
        if message.tool_call_id:
            each[_ID] = message.tool_call_id
        shaped.append(each)
    _pair(shaped)
    return shaped


def _call(call: ToolCall, *, has_text_arguments: bool) -> Message:
    arguments = plain(call.arguments)
    if has_text_arguments:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.id or f"call_{call.index}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _pair(messages: list[Message]) -> None:
    """Give results the name and the id of the call that they answer, where they lack one.

    Callers of Ollama's API send no ids, and callers of OpenAI's no names.
    """
    open_calls: list[Message] = []
    for message in messages:
        if message["role"] != TOOL:
            open_calls = list(message.get(_CALLS, ()))
            continue
        call = next((each for each in open_calls if _answers(message, each)), None)
        if call is not None:
            open_calls.remove(call)
            message.setdefault(_ID, call["id"])
            message.setdefault("name", call["function"]["name"])


def _answers(result: Message, call: Message) -> bool:
    if _ID in result:
        return bool(result[_ID] == call["id"])
    return "name" not in result or bool(result["name"] == call["function"]["name"])


def _with_short_ids(messages: list[Message]) -> list[Message]:
    for message in messages:
        for call in message.get(_CALLS, ()):
            call["id"] = _short(call["id"])
        if message["role"] == TOOL:
            message[_ID] = _short(message.get(_ID, ""))
    return messages


def _short(identity: str) -> str:
    is_short = len(identity) == _SHORT_ID and identity.isascii() and identity.isalnum()
    return identity if is_short else hashlib.sha256(identity.encode()).hexdigest()[:_SHORT_ID]


def _without_system(messages: list[Message]) -> list[Message]:
    """Return the messages with all system texts in front of the first question."""
    systems = [message["content"] for message in messages if message["role"] == SYSTEM]
    others = [message for message in messages if message["role"] != SYSTEM]
    if not systems:
        return others
    first = next((message for message in others if message["role"] == USER), None)
    if first is None:
        first = {"role": USER, "content": ""}
        others.insert(0, first)
    first["content"] = PARAGRAPH.join(text for text in (*systems, first["content"]) if text)
    return others


def _in_words(messages: list[Message]) -> list[Message]:
    """Return the messages with calls as an answer's text and results as a user's."""
    told: list[Message] = []
    for message in messages:
        calls = [
            json.dumps(call["function"], ensure_ascii=False) for call in message.get(_CALLS, ())
        ]
        texts = [text for text in (message["content"], *calls) if text]
        role = USER if message["role"] == TOOL else message["role"]
        told.append({"role": role, "content": "\n".join(texts)})
    return told


def _merged(messages: list[Message]) -> list[Message]:
    """Return the messages with neighbours of one role made one; calls and results stay alone."""
    merged: list[Message] = []
    for message in messages:
        last = merged[-1] if merged else {"role": ""}
        is_text = not (last.keys() | message.keys()) & _NOT_TEXT
        if is_text and last["role"] == message["role"]:
            last["content"] = PARAGRAPH.join((last["content"], message["content"]))
        else:
            merged.append(message)
    return merged

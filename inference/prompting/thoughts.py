"""Thinking in messages that clients send back as they got it, tags and all.

Rule: contract 6.7. Knows nothing of templates, models' names and the answers to come.
"""

import re
from collections.abc import Sequence
from typing import Final

from msgspec import structs

from inference.messages import ChatMessage

_OPENING: Final = "<think>"
_CLOSING: Final = re.compile(r"</think>\s*")


def without_old_thoughts(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Return a conversation whose answers before the last question begin behind their thinking."""
    questions = (at for at, message in enumerate(messages) if message.role == "user")
    last_question = max(questions, default=0)
    return tuple(
        _without_thoughts(message) if at < last_question else message
        for at, message in enumerate(messages)
    )


def _without_thoughts(message: ChatMessage) -> ChatMessage:
    text = message.content.lstrip()
    if message.role != "assistant" or not text.startswith(_OPENING):
        return message
    closing = _CLOSING.search(text)
    return structs.replace(message, content=text[closing.end() :] if closing else "")

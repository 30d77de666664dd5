"""A conversation's messages → the turns a template sees: tagged, merged, in lower-case roles.

Rules: contract 6.2 (neighbours of one role become one turn, tool results stay alone) and 6.6 (image
tags). Knows nothing of templates.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from inference.messages import ChatMessage, ToolCall

PARAGRAPH: Final = "\n\n"
_IMAGE_MARK: Final = "[img]"
_TOOL: Final = "tool"


@dataclass(slots=True)
class Turn:
    """What one role says at one time; made from one message or several neighbours."""

    role: str
    contents: list[str]
    thinking: str = ""
    tool_name: str = ""
    tool_call_id: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    image_tags: list[str] = field(default_factory=list)

    @property
    def content(self) -> str:
        """All that is said, with a blank line between messages."""
        return PARAGRAPH.join(self.contents)


def merge(messages: Iterable[ChatMessage]) -> list[Turn]:
    """Return the turns of a conversation; images are numbered through all of it.

    The second of two merged messages keeps its tool calls and images, which Ollama loses.
    """
    turns: list[Turn] = []
    image_count = 0
    for message in messages:
        turn = _turn(message, image_count)
        image_count += len(message.images)
        last = turns[-1] if turns else None
        if last is None or last.role != turn.role or turn.role == _TOOL:
            turns.append(turn)
            continue
        last.contents += turn.contents
        last.tool_calls += turn.tool_calls
        last.image_tags += turn.image_tags
        last.thinking = last.thinking or turn.thinking
    return turns


def place_image_tags(content: str, tags: Iterable[str]) -> str:
    """Return a message's content with tags for its images.

    A tag replaces an image's mark in the text while there is one; the others stand in front.
    """
    pieces = content.split(_IMAGE_MARK)
    front: list[str] = []
    text = [pieces.pop(0)]
    for tag in tags:
        if pieces:
            text += [tag, pieces.pop(0)]
        else:
            front.append(tag)
    return _IMAGE_MARK.join(["".join([*front, *text]), *pieces])


def _turn(message: ChatMessage, first_image: int) -> Turn:
    tags = [f"[img-{first_image + number}]" for number in range(len(message.images))]
    return Turn(
        role=message.role.lower(),
        contents=[place_image_tags(message.content, tags)],
        thinking=message.thinking,
        tool_name=message.tool_name,
        tool_call_id=message.tool_call_id,
        tool_calls=list(message.tool_calls),
        image_tags=tags,
    )

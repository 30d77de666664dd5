"""What a page says on `ws/chats`: one struct for each kind of frame. Knows nothing else.

Every field has a default, and null stands for it; the words are those of `inference.chat_consumer`.
"""

from typing import Any

import msgspec

from inference.api.schemas import Message


class ImageFrame(msgspec.Struct):
    """An image in base64."""

    name: str = ""
    data: str = ""


class AskFrame(msgspec.Struct):
    """A question. `chat` empty: in a new one; `parent` empty: as the first message.

    `images_of` is the question that this one is an edit of: it keeps its images.
    """

    chat: str = ""
    parent: str = ""
    text: str = ""
    images: list[ImageFrame] = []
    images_of: str = ""
    model: str = ""
    system: str = ""
    options: dict[str, Any] = {}
    think: Any = None
    tools: list[Any] = []
    folder: str = ""
    temporary: bool = False
    history: list[Message] = []


class RegenerateFrame(msgspec.Struct):
    """Another answer in the place of one."""

    message: str = ""
    model: str = ""
    options: dict[str, Any] | None = None


class ToolResult(msgspec.Struct):
    """What a call has given."""

    name: str = ""
    content: str = ""


class ResultFrame(msgspec.Struct):
    """The results of the calls that an answer asked for."""

    message: str = ""
    results: list[ToolResult] = []


class FollowFrame(msgspec.Struct):
    """An answer to be told of, by whoever has its text up to a version."""

    message: str = ""
    version: int = 0


class StopFrame(msgspec.Struct):
    """An answer to be stopped."""

    message: str = ""

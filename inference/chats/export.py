"""A chat to take along: Markdown of the branch that is shown, JSON of all branches.

Yields pieces while it reads, so that a chat full of images takes no more memory than one of them.
Knows no HTTP.
"""

import base64
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from models_app import chat_messages
from models_app.chat_messages import MessageRecord
from models_app.chats import ChatRecord
from models_app.permissions import Principal
from ollamasite.http import encode_json
from ollamasite.moments import print_moment

_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")
_FENCES: Final = re.compile(r"`{3,}")
_HEADS: Final = {"user": "You", "assistant": "Assistant", "tool": "Results"}


def file_name(chat: ChatRecord, ending: str) -> str:
    """Return a name that is one everywhere."""
    stem = _UNFIT.sub("-", chat.title)[:60].strip("-.")
    return f"{stem or 'chat'}.{ending}"


def as_markdown(chat: ChatRecord, branch: list[MessageRecord]) -> Iterator[bytes]:
    """Yield the branch as Markdown; images by their names."""
    yield f"# {_one_line(chat.title)}\n".encode()
    if chat.settings.system:
        yield f"\n## System\n\n{chat.settings.system}\n".encode()
    for record in branch:
        yield "".join(_markdown(record)).encode()


def as_json(
    principal: Principal, chat: ChatRecord, messages: list[MessageRecord]
) -> Iterator[bytes]:
    """Yield the chat as one JSON object; images in base64."""
    head = {
        "id": chat.chat_id,
        "title": chat.title,
        "created_at": print_moment(chat.created_at),
        "updated_at": print_moment(chat.updated_at),
        "head": chat.head,
        "model": chat.settings.model_name,
        "system": chat.settings.system,
        "options": msgspec.json.decode(chat.settings.options),
        "tools": msgspec.json.decode(chat.settings.tools),
        "think": msgspec.json.decode(chat.settings.think),
    }
    yield encode_json(head)[:-1] + b',"messages":['
    for number, record in enumerate(messages):
        yield (b",\n" if number else b"\n") + encode_json(_row(principal, record))
    yield b"\n]}\n"


def _markdown(record: MessageRecord) -> Iterator[str]:
    named = f" ({_one_line(record.model_name)})" if record.model_name else ""
    yield f"\n## {_HEADS[record.role]}{named}\n"
    for image in record.images:
        yield f"\n[image: {_one_line(image.name) or 'without a name'}]\n"
    if record.thinking:
        quoted = record.thinking.strip().replace("\n", "\n> ")
        yield f"\n> {quoted}\n"
    if record.text:
        yield f"\n{record.text}\n"
    if record.calls != "[]":
        yield f"\n{_fenced(record.calls)}\n"
    if record.error:
        yield f"\n*{_one_line(record.error)}*\n"


def _fenced(text: str) -> str:
    longest = max((len(run) for run in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}json\n{text}\n{fence}"


def _row(principal: Principal, record: MessageRecord) -> dict[str, Any]:
    images = [
        {"name": image.name, "data": _in_base64(principal, image.image_id)}
        for image in record.images
    ]
    of_tools = "results" if record.role == "tool" else "tool_calls"
    return {
        "id": record.message_id,
        "parent": record.parent or None,
        "role": record.role,
        "created_at": print_moment(record.created_at),
        "content": record.text,
        **({"images": images} if images else {}),
        **({"thinking": record.thinking} if record.thinking else {}),
        **({of_tools: msgspec.json.decode(record.calls)} if record.calls != "[]" else {}),
        **_of_answer(record),
    }


def _of_answer(record: MessageRecord) -> dict[str, Any]:
    if record.role != "assistant":
        return {}
    return {
        "model": record.model_name,
        "state": record.state,
        "failure": record.error or None,
        "figures": msgspec.json.decode(record.figures),
    }


def _in_base64(principal: Principal, image_id: str) -> str:
    found = chat_messages.read_images(principal, [image_id])
    return base64.b64encode(found.get(image_id, b"")).decode()


def _one_line(text: str) -> str:
    return " ".join(text.split())

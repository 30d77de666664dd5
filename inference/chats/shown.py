"""A message as the page shows it: HTML of its blocks, its calls with their results, its place.

What was made of an answer's Markdown is stored beside it (`to_stored`) and made anew where another
version of the renderer has made it. Knows no HTTP, no row and no template.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

from inference.chats.figures import Figures, read_figures
from inference.chats.markdown import RENDERER, render_blocks, render_once
from inference.messages import ToolCall
from models_app.chat_messages import MessageRecord

_MOST_SHOWN: Final = 200_000  # characters of a call's arguments or result


@dataclass(frozen=True, slots=True)
class CallShown:
    """A call that a model asks for; `result` is None until it has one."""

    name: str
    arguments: str
    result: str | None = None


@dataclass(frozen=True, slots=True)
class ImageShown:
    """An image of a question."""

    id: str
    url: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageShown:
    """One article. Texts are as they were written, but for those that say HTML."""

    id: str
    role: str
    created_at: datetime
    parent: str = ""
    text: str = ""
    html_blocks: Sequence[SafeString] = ()
    thinking_html: Sequence[SafeString] = ()
    calls: Sequence[CallShown] = ()
    is_waiting_for_results: bool = False
    images: Sequence[ImageShown] = ()
    model_name: str = ""
    state: str = "done"
    error: str = ""
    error_id: str = ""
    figures: Figures = field(default_factory=Figures)
    siblings: int = 1
    sibling_index: int = 1
    previous_sibling: str = ""
    next_sibling: str = ""
    version: int = 0
    is_temporary: bool = False


def shown_branch(records: Sequence[MessageRecord]) -> list[MessageShown]:
    """Return the articles of a branch; results of calls are shown with the calls."""
    results = {record.parent: record for record in records if record.role == "tool"}
    return [
        shown(record, results.get(record.message_id), is_last=record is records[-1])
        for record in records
        if record.role != "tool"
    ]


def shown(
    record: MessageRecord, results: MessageRecord | None = None, *, is_last: bool = True
) -> MessageShown:
    """Return the article of a message; `results` are what its calls have given."""
    blocks, thinking = _html(record)
    calls = calls_shown(msgspec.json.decode(record.calls), results)
    at = record.siblings.index(record.message_id)
    before, behind = record.siblings[:at], record.siblings[at + 1 :]
    return MessageShown(
        id=record.message_id,
        role=record.role,
        created_at=record.created_at,
        parent=record.parent,
        text=record.text,
        html_blocks=as_safe(blocks),
        thinking_html=as_safe(thinking),
        calls=calls,
        is_waiting_for_results=is_last and record.state == "done" and bool(calls),
        images=[_image(image.image_id, image.name) for image in record.images],
        model_name=record.model_name,
        state=record.state,
        error=record.error,
        error_id=record.error_id,
        figures=read_figures(record.figures),
        siblings=len(record.siblings),
        sibling_index=at + 1,
        previous_sibling=before[-1] if before else "",
        next_sibling=behind[0] if behind else "",
        version=record.version,
    )


def calls_shown(
    calls: Sequence[Mapping[str, Any]], results: MessageRecord | None = None
) -> list[CallShown]:
    """Return calls, each with what it has given."""
    given = msgspec.json.decode(results.calls) if results else []
    contents: list[str | None] = [str(result["content"])[:_MOST_SHOWN] for result in given]
    contents += [None] * (len(calls) - len(contents))
    return [
        CallShown(name=call["name"], arguments=_pretty(call["arguments"]), result=content)
        for call, content in zip(calls, contents, strict=False)
    ]


def calls_to_json(calls: Sequence[ToolCall]) -> str:
    """Return calls as they are stored."""
    rows = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
    return msgspec.json.encode(rows).decode()


def to_stored(text: str, thinking: str) -> str:
    """Return what an answer is stored with so that it is shown quickly."""
    made = {"v": RENDERER, "blocks": render_blocks(text), "thinking": render_blocks(thinking)}
    return msgspec.json.encode(made).decode()


def as_safe(blocks: Sequence[str]) -> list[SafeString]:
    """Return blocks that `markdown` has sanitised, for a template."""
    return [mark_safe(block) for block in blocks]  # noqa: S308 - nh3 has been over them


def _html(record: MessageRecord) -> tuple[Sequence[str], Sequence[str]]:
    if record.role != "assistant":
        return (), ()
    if record.shown:
        stored = msgspec.json.decode(record.shown)
        if stored["v"] == RENDERER:
            return stored["blocks"], stored["thinking"]
    return render_once(record.text), render_once(record.thinking)


def _pretty(arguments: Any) -> str:
    return json.dumps(arguments, ensure_ascii=False, indent=2)[:_MOST_SHOWN]


def _image(image_id: str, name: str) -> ImageShown:
    return ImageShown(id=image_id, url=reverse("chat-image", args=[image_id]), name=name)

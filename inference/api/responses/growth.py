"""Output items of `/v1/responses` while they grow, and the events that tell of it.

Order and fields: contract/ollama.md 3.7 and the event types of OpenAI's SDK. Knows no generation,
no sequence numbers and no bytes: an event is its type and its fields.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from inference.api.responses.objects import (
    COMPLETED,
    IN_PROGRESS,
    arguments_text,
    call_item,
    logprob_entries,
    message_item,
    reasoning_item,
    summary_part,
    text_part,
)
from inference.messages import TokenLogprob, ToolCall
from inference.responses import Item

Event = tuple[str, dict[str, Any]]


class GrowingItem(Protocol):
    """An item that gets its text piece by piece."""

    def begin(self) -> list[Event]:
        """Return what tells that it is there."""

    def grow(self, text: str, logprobs: Sequence[TokenLogprob]) -> list[Event]:
        """Take a piece and return what tells of it."""

    def end(self, status: str) -> tuple[Item, list[Event]]:
        """Return the whole item and what tells that it is whole."""


class GrowingMessage:
    """What the model says: one message with one part."""

    prefix: ClassVar[str] = "msg"

    def __init__(self, item_id: str, index: int, *, includes_encrypted: bool) -> None:
        del includes_encrypted
        self._id = item_id
        self._index = index
        self._place = {"item_id": item_id, "output_index": index, "content_index": 0}
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def begin(self) -> list[Event]:
        """Return what tells that it is there."""
        return [
            added(self._index, message_item(self._id, IN_PROGRESS, [])),
            ("response.content_part.added", {**self._place, "part": text_part("")}),
        ]

    def grow(self, text: str, logprobs: Sequence[TokenLogprob]) -> list[Event]:
        """Take a piece and return what tells of it."""
        self._texts.append(text)
        self._logprobs += logprobs
        entries = logprob_entries(logprobs)
        return [("response.output_text.delta", {**self._place, "delta": text, "logprobs": entries})]

    def end(self, status: str) -> tuple[Item, list[Event]]:
        """Return the whole message and what tells that it is whole."""
        part = text_part("".join(self._texts), self._logprobs)
        item = message_item(self._id, status, [part])
        said = {"text": part["text"], "logprobs": part["logprobs"]}
        return item, [
            ("response.output_text.done", {**self._place, **said}),
            ("response.content_part.done", {**self._place, "part": part}),
            done(self._index, item),
        ]


class GrowingReasoning:
    """What the model thinks: one summary that leaves nothing out."""

    prefix: ClassVar[str] = "rs"

    def __init__(self, item_id: str, index: int, *, includes_encrypted: bool) -> None:
        self._id = item_id
        self._index = index
        self._place = {"item_id": item_id, "output_index": index, "summary_index": 0}
        self._texts: list[str] = []
        self._includes_encrypted = includes_encrypted

    def begin(self) -> list[Event]:
        """Return what tells that it is there."""
        item = reasoning_item(self._id, "", includes_encrypted=False)
        return [
            added(self._index, item),
            ("response.reasoning_summary_part.added", {**self._place, "part": summary_part("")}),
        ]

    def grow(self, text: str, logprobs: Sequence[TokenLogprob]) -> list[Event]:
        """Take a piece and return what tells of it; log probabilities have no place here."""
        del logprobs
        self._texts.append(text)
        return [("response.reasoning_summary_text.delta", {**self._place, "delta": text})]

    def end(self, status: str) -> tuple[Item, list[Event]]:
        """Return the whole item and what tells that it is whole; it has no status."""
        del status
        text = "".join(self._texts)
        part = summary_part(text)
        item = reasoning_item(self._id, text, includes_encrypted=self._includes_encrypted)
        return item, [
            ("response.reasoning_summary_text.done", {**self._place, "text": text}),
            ("response.reasoning_summary_part.done", {**self._place, "part": part}),
            done(self._index, item),
        ]


def whole_call(item_id: str, index: int, call: ToolCall) -> tuple[Item, list[Event]]:
    """Return a call, which comes whole, and what tells of it."""
    arguments = arguments_text(call)
    item = call_item(item_id, COMPLETED, call, arguments=arguments)
    place = {"item_id": item_id, "output_index": index}
    return item, [
        added(index, call_item(item_id, IN_PROGRESS, call, arguments="")),
        ("response.function_call_arguments.delta", {**place, "delta": arguments}),
        (
            "response.function_call_arguments.done",
            {**place, "name": call.name, "arguments": arguments},
        ),
        done(index, item),
    ]


def added(index: int, item: Item) -> Event:
    """Return what tells that an item has begun."""
    return "response.output_item.added", {"output_index": index, "item": item}


def done(index: int, item: Item) -> Event:
    """Return what tells that an item is whole."""
    return "response.output_item.done", {"output_index": index, "item": item}

"""What whoever looks at an answer is told: where it waits, how it grows, that it has ended.

    {"type": "waiting"…}  {"type": "growth"…}  …  and exactly one {"type": "ended"…}

An answer of this process is heard as it comes; one of another process is read from its row. Blocks
that have not changed since they were sent are not sent again, and who has another version than the
one that is here gets all of them. Knows no socket.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from channels.db import database_sync_to_async
from django.template.loader import render_to_string

from inference import queue
from inference.chats.answers import GONE, LOOK_EVERY_S, Answer, Rendered, keeper
from inference.chats.growth import GrowingText, first_difference
from inference.chats.shown import (
    MessageShown,
    as_safe,
    calls_shown,
    calls_to_json,
    shown,
)
from inference.errors import EngineUnavailable
from models_app import chat_messages, chats
from models_app.chat_messages import MessageRecord
from models_app.errors import ChatMessageNotFound, ChatNotFound
from models_app.permissions import Principal

Told = dict[str, Any]

LEAST_PAUSE_S: Final = 1 / 12
FIRST_WAIT_S: Final = 0.15  # most answers begin sooner, and nothing flickers
WAITING_EVERY_S: Final = 0.5
ALIVE_EVERY_S: Final = 10.0  # a frame with nothing new says that the line is alive
_PAUSE_BY_WORK: Final = 6  # so much longer than the work for it is the pause behind a frame


async def follow(principal: Principal, message_id: str, version: int) -> AsyncIterator[Told]:
    """Tell of an answer of the principal's from a version on. Raises ChatMessageNotFound."""
    answer = keeper().find(principal.user_id, message_id)
    if answer is not None:
        async for told in follow_here(principal, answer, version):
            yield told
        return
    async for told in _follow_row(principal, message_id, version):
        yield told


async def follow_here(principal: Principal, answer: Answer, version: int) -> AsyncIterator[Told]:
    """Tell of an answer that runs in this process."""
    growth = _Growth(answer.message_id)
    if version == answer.version:
        known = await answer.rendered()
        if version == known.version:
            growth.has(known.blocks, known.thinking)
    answer.followers += 1
    try:
        async for told in _while_waiting(answer):
            yield told
        seen = -1
        while not answer.has_ended:
            seen, began = answer.version, time.perf_counter()
            if frame := await growth.frame(answer):
                yield frame
            work_s = time.perf_counter() - began
            await asyncio.sleep(max(LEAST_PAUSE_S, _PAUSE_BY_WORK * work_s))
            if not await _changes(answer, seen):
                growth.repeat()
    finally:
        answer.followers -= 1
        answer.left_at = time.monotonic()
    yield await _ended_here(principal, answer)


async def _changes(answer: Answer, seen: int) -> bool:
    try:
        async with asyncio.timeout(ALIVE_EVERY_S):
            await answer.changed(seen)
    except TimeoutError:
        return False
    return True


async def _while_waiting(answer: Answer) -> AsyncIterator[Told]:
    pause_s = FIRST_WAIT_S
    while not (answer.has_started or answer.has_ended):
        try:
            async with asyncio.timeout(pause_s):
                await answer.changed(answer.version)
        except TimeoutError:
            pause_s = WAITING_EVERY_S
            yield {"type": "waiting", "message": answer.message_id, **await _place(answer)}


async def _place(answer: Answer) -> Told:
    try:
        entry = await queue.entry_of(answer.request_id)
    except EngineUnavailable:
        entry = None
    if entry is None:
        return {"position": 0, "reason": "starting"}
    return {"position": entry.position, "reason": entry.reason}


class _Growth:
    """What one follower has, and the frames that bring the rest."""

    def __init__(self, message_id: str) -> None:
        self._message_id = message_id
        self._blocks: list[str] = []
        self._thinking: list[str] = []
        self._calls = 0
        self._version: int | None = None

    def has(self, blocks: list[str], thinking: list[str]) -> None:
        """Take note of what the follower has already."""
        self._blocks, self._thinking = list(blocks), list(thinking)

    def repeat(self) -> None:
        """Have the next frame be one, whatever is new."""
        self._version = None

    async def frame(self, answer: Answer) -> Told | None:
        """Return what is new of an answer."""
        if answer.version == self._version:
            return None
        new = await answer.rendered()
        calls = calls_to_json(answer.calls) if len(answer.calls) > self._calls else ""
        self._calls = len(answer.calls)
        figures = answer.figures
        counted = {"tokens_out": figures.tokens_out, "tokens_per_s": figures.tokens_per_s}
        return self.compared(*new, calls) | {"figures": counted}

    def compared(self, version: int, blocks: list[str], thinking: list[str], calls: str) -> Told:
        """Return a frame with the blocks from the first on that the follower does not have."""
        at = first_difference(self._blocks, blocks)
        thought_at = first_difference(self._thinking, thinking)
        self.has(blocks, thinking)
        self._version = version
        return {
            "type": "growth",
            "message": self._message_id,
            "version": version,
            "from": at,
            "blocks": blocks[at:],
            "thinking_from": thought_at,
            "thinking": thinking[thought_at:],
            "calls": calls_html(calls) if calls else None,
            "figures": {},
        }


async def _follow_row(principal: Principal, message_id: str, version: int) -> AsyncIterator[Told]:
    record = await _find(principal, message_id)
    growth, said, thought = _Growth(message_id), GrowingText(), GrowingText()
    sent: tuple[int, float] | None = None  # version, when
    while record.state == chat_messages.RUNNING:
        # All of it at first: on a thread, as others are being answered here.
        await asyncio.to_thread(said.update, record.text)
        await asyncio.to_thread(thought.update, record.thinking)
        if sent is None and record.version == version:
            growth.has(said.blocks, thought.blocks)
        if _is_due(sent, record.version):
            calls = record.calls if record.calls != "[]" else ""
            yield growth.compared(record.version, said.blocks, thought.blocks, calls)
            sent = record.version, time.monotonic()
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            record = await _find(principal, message_id)
        except ChatMessageNotFound:
            yield _gone(message_id, version)
            return
    yield await _ended_row(principal, message_id)


def _is_due(sent: tuple[int, float] | None, version: int) -> bool:
    return sent is None or sent[0] != version or time.monotonic() - sent[1] >= ALIVE_EVERY_S


async def _find(principal: Principal, message_id: str) -> MessageRecord:
    found: MessageRecord = await database_sync_to_async(chat_messages.find_message)(
        principal, message_id
    )
    return found


# ------------------------------------------------------------------ the end


async def _ended_here(principal: Principal, answer: Answer) -> Told:
    if answer.is_temporary:
        return _ended(temporary_shown(answer, await answer.rendered()), "")
    return await _ended_row(principal, answer.message_id)


async def _ended_row(principal: Principal, message_id: str) -> Told:
    try:
        return await database_sync_to_async(_read_end)(principal, message_id)
    except (ChatMessageNotFound, ChatNotFound):
        return _gone(message_id, 0)


def _read_end(principal: Principal, message_id: str) -> Told:
    record = chat_messages.find_message(principal, message_id)
    return _ended(shown(record), chats.find_chat(principal, record.chat_id).title)


def _ended(message: MessageShown, title: str) -> Told:
    return _end_frame(
        message=message.id,
        version=message.version,
        state=message.state,
        title=title,
        html=article(message),
        error=message.error or None,
    )


def _gone(message_id: str, version: int) -> Told:
    return _end_frame(
        message=message_id, version=version, state="failed", title="", html="", error=GONE
    )


def _end_frame(**fields: Any) -> Told:
    return {"type": "ended", **fields}


def article(message: MessageShown) -> str:
    """Return a message as the page has it."""
    return _rendered("message", {"message": message})


def calls_html(calls: str) -> list[str]:
    """Return stored calls as the page has them."""
    found = calls_shown(msgspec.json.decode(calls))
    return [_rendered("call", {"call": call}) for call in found]


def _rendered(name: str, context: dict[str, Any]) -> str:
    # An exact `str`: JSON encoders know no other.
    return str.__str__(render_to_string(f"inference/chat/{name}.html", context))


def temporary_shown(answer: Answer, made: Rendered | None = None) -> MessageShown:
    """Return the article of an answer that has no row; without `made` it has no text yet."""
    _, blocks, thinking = made or (0, [], [])
    calls = calls_shown(msgspec.json.decode(calls_to_json(answer.calls)))
    return MessageShown(
        id=answer.message_id,
        role="assistant",
        created_at=answer.created_at,
        text=answer.text,
        html_blocks=as_safe(blocks),
        thinking_html=as_safe(thinking),
        calls=calls,
        model_name=answer.model_name,
        state=answer.state,
        error=answer.error,
        error_id=answer.error_id,
        figures=answer.figures,
        version=answer.version,
        is_temporary=True,
    )

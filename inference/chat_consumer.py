"""`ws/chats`: the chat page's questions, and how their answers grow.

Every message is a JSON object in a text frame; `id` is the page's own word for one question.

    client  {"type": "ask", "id", "chat", "parent", "text", "images": [{"name", "data"}], "model",
             "system", "options", "think", "tools", "folder", "temporary", "history"}
            {"type": "regenerate", "id", "message", "model", "options"}
            {"type": "result", "id", "message", "results": [{"name", "content"}]}
            {"type": "follow", "id", "message", "version"}
            {"type": "stop", "message"}
    server  {"type": "started", "id", "chat", "title", "question", "message", "parent", "html"}
            {"type": "waiting", "message", "position", "reason"}
            {"type": "growth", "message", "version", "from", "blocks", "thinking_from", "thinking",
             "calls", "figures"}
            {"type": "ended", "message", "version", "state", "title", "html", "error"}
            {"type": "error", "id", "error", "error_id"}

An answer goes on when the socket closes (`inference.chats.answers`), and whoever follows it is told
of its end once. A refused question is an `error` and leaves nothing behind. Closed as `ws/chat` is,
but not held by an answer that another process can tell of as well.
Knows no engine and no row of the database.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, TypeVar

import msgspec
from channels.db import database_sync_to_async

from inference.chats import asking, following
from inference.chats.answers import keeper
from inference.chats.asking import Begun
from inference.chats.following import Told
from inference.chats.frames import (
    AskFrame,
    FollowFrame,
    RegenerateFrame,
    ResultFrame,
    StopFrame,
)
from inference.chats.shown import shown
from models_app import chat_messages
from models_app.permissions import Principal
from models_app.sockets import AdmittedConsumer
from ollamasite.bodies import decode
from ollamasite.error_responses import to_service_error
from ollamasite.errors import BadRequest, ServiceError
from ollamasite.http import encode_json, read_json
from ollamasite.request_context import current_request_id

F = TypeVar("F", bound=msgspec.Struct)

MAX_UNDER_WAY: Final = 32
MAX_ID_CHARACTERS: Final = 128


class ChatsConsumer(AdmittedConsumer):
    """One page. Each question and each answer that it follows is a task of its own."""

    route = "ws/chats"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tasks: set[asyncio.Task[None]] = set()
        self._followed: dict[str, asyncio.Task[None]] = {}
        # Of `_tasks` those that are over only here: questions, and answers that have no row.
        self._held: set[asyncio.Task[None]] = set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle one frame."""
        question_id: str | None = None
        try:
            frame = _read_frame(text_data)
            question_id = _read_id(frame)
            await self._handle(question_id, frame)
        except ServiceError as error:
            await self._refuse(question_id, error)

    async def disconnect(self, code: int) -> None:
        """Tell nobody any longer; what runs goes on."""
        await super().disconnect(code)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_until_free(self) -> None:
        """Wait until each question is an answer's, and for answers of which no other knows."""
        while self._held:
            await asyncio.wait(self._held)

    def _hold(self, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            self._held.add(task)
            task.add_done_callback(self._held.discard)

    async def _handle(self, question_id: str | None, frame: Any) -> None:
        match frame.get("type"):
            case "ask":
                await self._ask(question_id, _read(frame, AskFrame))
            case "regenerate":
                await self._ask(question_id, _read(frame, RegenerateFrame))
            case "result":
                await self._ask(question_id, _read(frame, ResultFrame))
            case "follow":
                await self._follow(question_id, _read(frame, FollowFrame))
            case "stop":
                await self._stop(question_id, _read(frame, StopFrame))
            case _:
                raise BadRequest('"type" must be "ask", "regenerate", "result", "follow" or "stop"')

    async def _ask(self, question_id: str | None, frame: asking.Frame) -> None:
        if question_id is None:
            raise BadRequest(f'"id" must be a string of 1 to {MAX_ID_CHARACTERS} characters')
        principal = await self.admit()
        if principal is not None:
            self._hold(self._begin(self._answer(question_id, principal, frame)))

    async def _follow(self, question_id: str | None, frame: FollowFrame) -> None:
        principal = await self.admit()
        if principal is not None:
            told = following.follow(principal, frame.message, frame.version)
            await self._tell_of(question_id, frame.message, told)

    async def _stop(self, question_id: str | None, frame: StopFrame) -> None:
        principal = await self.admit()
        if principal is None:
            return
        answer = keeper().find(principal.user_id, frame.message)
        if answer is not None:
            answer.stop()
            return
        try:
            await database_sync_to_async(chat_messages.ask_to_stop)(principal, frame.message)
        except ServiceError as error:
            await self._refuse(question_id, error, message=frame.message)

    async def _answer(self, question_id: str, principal: Principal, frame: asking.Frame) -> None:
        try:
            begun = await asking.ask(principal, frame)
            await self._tell("started", id=question_id, **_started(begun))
            # Of version 0 the page has all there is: an empty article.
            told = following.follow_here(principal, begun.answer, 0)
            await self._tell_of(question_id, begun.answer.message_id, told)
        except Exception as error:  # noqa: BLE001 - no one else can tell the page
            await self._refuse(question_id, to_service_error(error))

    async def _tell_of(
        self, question_id: str | None, message_id: str, told: AsyncIterator[Told]
    ) -> None:
        """Tell of an answer from now on, instead of an earlier wish to be told of the same."""
        before = self._followed.pop(message_id, None)
        if before is not None:
            before.cancel()
        task = self._begin(self._pass_on(question_id, message_id, told))
        if task is not None:
            self._followed[message_id] = task
        if keeper().is_only_here(message_id):
            self._hold(task)

    async def _pass_on(
        self, question_id: str | None, message_id: str, told: AsyncIterator[Told]
    ) -> None:
        try:
            async for frame in told:
                await self.send(text_data=encode_json(frame).decode())
        except Exception as error:  # noqa: BLE001 - no one else can tell the page
            await self._refuse(question_id, to_service_error(error), message=message_id)
        finally:
            if self._followed.get(message_id) is asyncio.current_task():
                del self._followed[message_id]

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if len(self._tasks) >= MAX_UNDER_WAY:
            work.close()
            raise BadRequest(f"at most {MAX_UNDER_WAY} answers can be followed at a time")
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _refuse(
        self, question_id: str | None, error: ServiceError, *, message: str | None = None
    ) -> None:
        about = {} if message is None else {"message": message}
        error_id = current_request_id()
        await self._tell("error", id=question_id, error=error.message, error_id=error_id, **about)

    async def _tell(self, kind: str, **fields: Any) -> None:
        await self.send(text_data=encode_json({"type": kind, **fields}).decode())


def _started(begun: Begun) -> dict[str, Any]:
    articles = [shown(record) for record in (begun.question, begun.record) if record is not None]
    if begun.record is None:
        articles = [following.temporary_shown(begun.answer)]
    added = begun.added
    return {
        "chat": added.chat_id if added else None,
        "title": added.title if added else "",
        "question": begun.question.message_id if begun.question else None,
        "message": begun.answer.message_id,
        "parent": articles[0].parent or None,
        "html": "".join(following.article(article) for article in articles),
        "temporary": begun.answer.is_temporary,
    }


def _read(frame: Any, kind: type[F]) -> F:
    return decode(frame, kind, f"chats.{kind.__name__}")


def _read_frame(text: str | None) -> dict[str, Any]:
    if text is None:
        raise BadRequest("messages must be text frames")
    frame = read_json(text.encode(), empty_message="empty message")
    if not isinstance(frame, dict):
        raise BadRequest("a message must be a JSON object")
    return frame


def _read_id(frame: dict[str, Any]) -> str | None:
    question_id = frame.get("id")
    if question_id is None:
        return None
    if not isinstance(question_id, str) or not 0 < len(question_id) <= MAX_ID_CHARACTERS:
        raise BadRequest(f'"id" must be a string of 1 to {MAX_ID_CHARACTERS} characters')
    return question_id

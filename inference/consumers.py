"""`ws/chat`: chat answers over a WebSocket, several at a time, each of which can be stopped.

Every message is a JSON object in a text frame. `id` is the client's own word for one question.

    client  {"type": "chat", "id": "a", "model": "smollm2:135m", "messages": [{"role", "content"}],
             "options": {…}, "keep_alive": "5m"}      and every other field of /api/chat
            {"type": "stop", "id": "a"}
    server  {"type": "token", "id": "a", "text": "…"}      and "thinking", "tool_calls" where there
             are any, "logprobs" where they are wished
            {"type": "done", "id": "a", "done_reason": "stop", "total_duration": …, "eval_count": …}
            {"type": "error", "id": "a", "error": "…"}

Every accepted `chat` ends in exactly one `done` or `error`. A stopped one ends in `done` with the
reason `canceled`; `stop` for an id that has ended is ignored. A frame that makes no sense is
answered with an `error` (its `id` null where none could be read) and the socket stays open.
Closed with 4401 where nobody is signed in (any longer), and with 4403 where the page that opened
it is another site's or the key's scope does not reach so far. Closed with 1012 where this
process goes, once all that was asked has its end: ask again on a new socket.

Knows no engine and no row of the database. Runs on the event loop; every answer is a task.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from inference import generation
from inference.api.answers import Said, last_words
from inference.api.native_writers import logprob_field, metrics, tool_call_field
from inference.api.schemas import ChatBody, not_supported
from inference.messages import Finished, Priority, Token, TokenLogprob
from inference.requests import Caller, ChatRequest
from models_app.permissions import Principal
from models_app.sockets import AdmittedConsumer
from ollamasite.bodies import decode
from ollamasite.error_responses import to_service_error
from ollamasite.errors import BadRequest, ServiceError
from ollamasite.http import encode_json, read_json

MAX_ANSWERS: Final = 8
MAX_ID_CHARACTERS: Final = 128


class ChatConsumer(AdmittedConsumer):
    """One socket. Every answer runs in a task of its own, so that `stop` is heard at once."""

    route = "ws/chat"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # `_open` holds what has not ended; `_tasks` also what is saying its last words.
        self._open: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle one frame."""
        answer_id: str | None = None
        try:
            frame = _read_frame(text_data)
            answer_id = _read_id(frame)
            match frame.get("type"):
                case "chat":
                    await self._start(answer_id, frame)
                case "stop":
                    await self._stop(answer_id)
                case _:
                    raise BadRequest('"type" must be "chat" or "stop"')
        except ServiceError as error:
            await self._tell("error", answer_id, error=error.message)

    async def disconnect(self, code: int) -> None:
        """End every answer."""
        await super().disconnect(code)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_until_free(self) -> None:
        """Wait for the end of every answer."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _start(self, answer_id: str, frame: dict[str, Any]) -> None:
        if answer_id in self._open:
            raise BadRequest(f"an answer with the id {answer_id!r} is running already")
        if len(self._open) >= MAX_ANSWERS:
            raise BadRequest(f"at most {MAX_ANSWERS} answers can run at a time")
        request = decode(frame, ChatBody, "ChatRequest").to_request()
        if request.renders_only:
            raise not_supported("_debug_render_only")
        principal = await self.admit()
        if principal is None:
            return
        task = asyncio.create_task(self._answer(answer_id, principal, request))
        self._open[answer_id] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self, answer_id: str) -> None:
        task = self._open.pop(answer_id, None)
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await self._tell("done", answer_id, done_reason="canceled")

    async def _answer(self, answer_id: str, principal: Principal, request: ChatRequest) -> None:
        try:
            # Somebody waits in front of a page, whatever opened the socket.
            caller = Caller(principal=principal, priority=Priority.INTERACTIVE)
            running = await generation.start(caller, request)
            try:
                await self._stream(answer_id, running)
            finally:
                running.close()
        except Exception as error:  # noqa: BLE001 - no one else can tell the client
            self._open.pop(answer_id, None)
            await self._tell("error", answer_id, error=to_service_error(error).message)

    async def _stream(self, answer_id: str, running: generation.Generation) -> None:
        async for event in running:
            if isinstance(event, Token):
                await self._tell("token", answer_id, **_token_fields(event, event.logprobs))
            elif isinstance(event, Finished) and (event.text or event.logprobs):
                fields = _token_fields(last_words(event), event.logprobs)
                await self._tell("token", answer_id, **fields)
            if isinstance(event, Finished):
                self._open.pop(answer_id, None)
                counters = metrics(event, running.elapsed_ns)
                await self._tell("done", answer_id, done_reason=event.reason, **counters)

    async def _tell(self, kind: str, answer_id: str | None, **fields: Any) -> None:
        message = {"type": kind, "id": answer_id, **fields}
        await self.send(text_data=encode_json(message).decode())


def _token_fields(said: Said, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    thinking = {"thinking": said.thinking} if said.thinking else {}
    calls = tool_call_field(said.tool_calls)
    return {"text": said.text, **thinking, **calls, **logprob_field(logprobs)}


def _read_frame(text: str | None) -> dict[str, Any]:
    if text is None:
        raise BadRequest("messages must be text frames")
    frame = read_json(text.encode(), empty_message="empty message")
    if not isinstance(frame, dict):
        raise BadRequest("a message must be a JSON object")
    return frame


def _read_id(frame: dict[str, Any]) -> str:
    answer_id = frame.get("id")
    if not isinstance(answer_id, str) or not 0 < len(answer_id) <= MAX_ID_CHARACTERS:
        raise BadRequest(f'"id" must be a string of 1 to {MAX_ID_CHARACTERS} characters')
    return answer_id

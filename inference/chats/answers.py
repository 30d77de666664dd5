"""Answers that run in this process: they hear the engine, and go on whoever looks.

An answer is a task of its own, so a closed page does not end it. What it has is written to its row
about twice a second and at its end; a temporary one has no row and lives here alone. One keeper per
event loop writes, and asks for all of them whether they are still wanted. Each ends exactly once:
done, stopped, failed (the engine, access, a row that is gone), or interrupted with its process.
Knows no socket and no page.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from inference import generation
from inference.chats.figures import Clock, Figures
from inference.chats.growth import GrowingText
from inference.chats.shown import calls_to_json, to_stored
from inference.messages import Event, Finished, Started, Token, ToolCall
from models_app import chat_messages
from models_app.chat_messages import MAX_RUNNING, AnswerSoFar
from models_app.chats import new_id
from models_app.errors import TooManyAnswers
from ollamasite import outages
from ollamasite.error_responses import to_service_error
from ollamasite.request_context import current_request_id

logger = logging.getLogger(__name__)

PROCESS: Final = new_id()  # of this process, in the rows of its answers
LOOK_EVERY_S: Final = 0.3
SAVE_EVERY_S: Final = 0.5
BEAT_EVERY_S: Final = 2.0
KEPT_S: Final = 60.0  # a temporary answer that nobody follows
LAST_WORDS_S: Final = 2.0
# The end of an answer, while the database is away: its row is taken for lost soon after.
WRITE_FOR_S: Final = chat_messages.SILENCE_S - 1
_QUICK_CHARACTERS: Final = 2000  # rendered within some milliseconds
GONE: Final = "this chat has been deleted"


class Rendered(NamedTuple):
    """The HTML of an answer's blocks, and of which version of it."""

    version: int
    blocks: list[str]
    thinking: list[str]


async def _update(growing: GrowingText, text: str) -> None:
    """Render a text; a large block on a thread, as others are being answered here."""
    if growing.open_characters(text) > _QUICK_CHARACTERS:
        await asyncio.to_thread(growing.update, text)
    else:
        growing.update(text)


class Answer:
    """One that runs, and what it has so far. Everything happens on the event loop it began on."""

    def __init__(
        self, message_id: str, *, owner_id: int, model_name: str, is_temporary: bool = False
    ) -> None:
        self.message_id = message_id
        self.owner_id = owner_id
        self.model_name = model_name
        self.is_temporary = is_temporary
        self.created_at = timezone.now()
        self.calls: list[ToolCall] = []
        self.version = 0
        self.state = chat_messages.RUNNING
        self.error = ""
        self.error_id = ""
        self.request_id = ""  # the engine's, for its place in the queue
        self.has_started = False
        self.has_ended = False  # and its row says so
        self.is_gone = False
        self.followers = 0
        self.left_at = time.monotonic()
        self._figures: Figures | None = None
        self._clock = Clock()
        self._text = ""
        self._thinking = ""
        self._pieces: list[str] = []
        self._thoughts: list[str] = []
        self._said, self._thought = GrowingText(), GrowingText()
        self._rendering = asyncio.Lock()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._has_begun = False
        self._is_stopped = False
        self._saved = (-1, 0.0)  # version, when

    @property
    def text(self) -> str:
        """What it says so far."""
        self._text += "".join(self._pieces)
        self._pieces.clear()
        return self._text

    @property
    def thinking(self) -> str:
        """What it thought so far."""
        self._thinking += "".join(self._thoughts)
        self._thoughts.clear()
        return self._thinking

    @property
    def figures(self) -> Figures:
        """Its numbers so far."""
        return self._figures or self._clock.so_far()

    async def rendered(self) -> Rendered:
        """Return the HTML of what it says and of what it thought."""
        async with self._rendering:
            version, text, thinking = self.version, self.text, self.thinking
            await _update(self._said, text)
            await _update(self._thought, thinking)
            return Rendered(version, list(self._said.blocks), list(self._thought.blocks))

    async def changed(self, seen: int) -> None:
        """Wait until it has more than version `seen`, has started, or has ended."""
        if self.version == seen and not self.has_ended:
            await self._news.wait()

    def run(self, running: generation.Generation) -> None:
        """Hear the engine from now on."""
        self.request_id = running.stream.request_id
        self._task = asyncio.create_task(self._run(running))

    def stop(self) -> None:
        """End it as its owner wishes; what has ended stays as it is."""
        if self.state == chat_messages.RUNNING:
            self._is_stopped = True
            self._cut()

    def end_gone(self) -> None:
        """End it: its row is not there any longer, or somebody has ended it."""
        if self.state == chat_messages.RUNNING:
            self.is_gone = True
            self._cut()

    def _cut(self) -> None:
        # A task that has not begun would never come to its end.
        if self._task is not None and self._has_begun:
            self._task.cancel()

    def so_far(self) -> AnswerSoFar:
        """Return what its row is to hold."""
        return AnswerSoFar(
            message_id=self.message_id,
            text=self.text,
            thinking=self.thinking,
            calls=calls_to_json(self.calls),
            version=self.version,
            state=self.state,
            error=self.error,
            error_id=self.error_id,
            figures=self.figures.to_json(),
        )

    def is_due(self, now: float) -> bool:
        """Whether its row is behind, and was not written just now."""
        version, at = self._saved
        return self.version != version and now - at >= SAVE_EVERY_S

    def saved(self, version: int, now: float) -> None:
        """Its row has this version."""
        self._saved = (version, now)

    async def _run(self, running: generation.Generation) -> None:
        state = "done"
        try:
            try:
                self._has_begun = True
                if self._is_stopped or self.is_gone:
                    raise asyncio.CancelledError
                async for event in running:
                    self._hear(event)
            finally:
                running.close()
        except asyncio.CancelledError:
            state = "stopped" if self._is_stopped else "interrupted"
        except Exception as error:  # noqa: BLE001 - no one else can tell
            state = "failed"
            self.error = to_service_error(error).message
            self.error_id = current_request_id()
        await self._end(state)

    def _hear(self, event: Event) -> None:
        match event:
            case Started(prompt_tokens=tokens, queue_ns=queue_ns):
                self.has_started = True
                self._clock.started(tokens, queue_ns)
            case Token(text=text, thinking=thinking, tool_calls=calls):
                self.has_started = True
                self._clock.token()
                self._pieces.append(text)
                self._thoughts.append(thinking)
                self.calls += calls
                self.version += 1
            case Finished(text=text):
                self._pieces.append(text)
                self._figures = self._clock.finished(event)
        self._tell()

    async def _end(self, state: str) -> None:
        self.version += 1
        self.state = state
        self._figures = self._figures or self._clock.so_far()
        if self.is_gone:
            self.state, self.error = "failed", GONE
        elif not self.is_temporary:
            await self._write_end()
        self.has_ended = True
        self.left_at = time.monotonic()
        self._tell()

    async def _write_end(self) -> None:
        # Shielded: whoever ends this task twice must not leave the row running.
        writing = asyncio.ensure_future(self._keep_writing())
        with suppress(asyncio.CancelledError):
            await asyncio.shield(writing)
        if not await writing:
            self.is_gone = True
            self.state, self.error = "failed", GONE

    async def _keep_writing(self) -> bool:
        """Write the end, also where the database is away for a moment; whether its row is there."""
        until = time.monotonic() + WRITE_FOR_S
        while True:
            try:
                return await database_sync_to_async(_write_end)(self.so_far())
            except (DatabaseError, InterfaceError) as error:
                if time.monotonic() >= until:  # it is found without its process later
                    logger.warning("the end of an answer could not be written: %s", error)
                    return True
            except Exception:  # whatever it is, whoever follows must hear that it is over
                logger.exception("the end of an answer could not be written")
                return True
            await asyncio.sleep(SAVE_EVERY_S)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _write_end(answer: AnswerSoFar) -> bool:
    ended = AnswerSoFar(
        **{name: getattr(answer, name) for name in AnswerSoFar.__slots__ if name != "shown"},
        shown=to_stored(answer.text, answer.thinking),
    )
    if chat_messages.save_answers(PROCESS, [ended]):
        return True
    # The database may have gone away between its commit and its word of it.
    return chat_messages.was_ended(PROCESS, ended)


class Keeper:
    """Looks after the answers of one event loop."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._places: Counter[int] = Counter()  # by owner: what is asked and does not run yet
        self._task: asyncio.Task[None] | None = None
        self._beat_at = 0.0

    def add(self, answer: Answer) -> None:
        """Look after an answer until it has ended."""
        self._answers[answer.message_id] = answer
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())

    def find(self, owner_id: int, message_id: str) -> Answer | None:
        """Return an answer of somebody's that is here."""
        answer = self._answers.get(message_id)
        return answer if answer is not None and answer.owner_id == owner_id else None

    def is_only_here(self, message_id: str) -> bool:
        """Whether no other process can tell of an answer: it is temporary."""
        answer = self._answers.get(message_id)
        return answer is not None and answer.is_temporary

    @contextmanager
    def place(self, owner_id: int) -> Iterator[None]:
        """Hold one of somebody's places while an answer is asked for. Raises TooManyAnswers."""
        if self._count(owner_id) + self._places[owner_id] >= MAX_RUNNING:
            raise TooManyAnswers(f"{MAX_RUNNING} answers are being written already: wait for one")
        self._places[owner_id] += 1
        try:
            yield
        finally:
            self._places[owner_id] -= 1
            self._places += Counter()  # without those who have none

    def _count(self, owner_id: int) -> int:
        mine = (one for one in self._answers.values() if one.owner_id == owner_id)
        return sum(not answer.has_ended for answer in mine)

    async def wait_for_ends(self) -> None:
        """Wait until nothing runs."""
        while any(not answer.has_ended for answer in self._answers.values()):  # noqa: ASYNC110 - once, at the very end
            await asyncio.sleep(0.02)

    async def _look(self) -> None:
        while self._answers:
            await asyncio.sleep(LOOK_EVERY_S)
            self._drop_ended()
            try:
                await self._keep()
                outages.answers.ends()
            except (DatabaseError, InterfaceError) as error:
                outages.answers.begins(error)
            except Exception:  # whatever it is, it must not be the last look
                logger.exception("answers could not be looked after")

    def _drop_ended(self) -> None:
        now = time.monotonic()
        for answer in list(self._answers.values()):
            is_left = not answer.followers and now - answer.left_at > KEPT_S
            if answer.has_ended and (is_left or not answer.is_temporary):
                del self._answers[answer.message_id]
            elif answer.is_temporary and is_left:
                answer.stop()

    async def _keep(self) -> None:
        now = time.monotonic()
        stored = {
            answer.message_id: answer
            for answer in self._answers.values()
            if not answer.is_temporary and answer.state == chat_messages.RUNNING
        }
        if not stored:
            return
        due = [answer.so_far() for answer in stored.values() if answer.is_due(now)]
        is_beat = now - self._beat_at >= BEAT_EVERY_S
        wanted = await database_sync_to_async(_keep)(list(stored), due, is_beat=is_beat)
        self._beat_at = now if is_beat else self._beat_at
        for so_far in due:
            stored[so_far.message_id].saved(so_far.version, now)
        for message_id, answer in stored.items():
            if message_id not in wanted:
                answer.end_gone()
            elif not wanted[message_id]:
                answer.stop()


def _keep(message_ids: list[str], due: list[AnswerSoFar], *, is_beat: bool) -> dict[str, bool]:
    if due:
        chat_messages.save_answers(PROCESS, due)
    if is_beat:
        chat_messages.beat(PROCESS, message_ids)
    return chat_messages.still_wanted(message_ids)


_keepers: "WeakKeyDictionary[asyncio.AbstractEventLoop, Keeper]" = WeakKeyDictionary()


def keeper() -> Keeper:
    """Return this event loop's."""
    loop = asyncio.get_running_loop()
    found = _keepers.get(loop)
    if found is None:
        found = _keepers[loop] = Keeper()
    return found


async def wait_for_ends() -> None:
    """Wait for the ends of this process' answers, however long they take."""
    await keeper().wait_for_ends()


async def finish() -> None:
    """Wait a moment for the ends of this process' answers, when it goes."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS_S):
            await keeper().wait_for_ends()

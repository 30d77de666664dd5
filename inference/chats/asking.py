"""Asking: the engine first, then the rows, then an answer that runs.

The engine is asked before anything is stored: a question that is refused (no such model, a limit,
an image for a model that cannot see) leaves nothing behind. What has been asked goes on though its
asker is gone before it has begun. Async. Knows no socket.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from channels.db import database_sync_to_async
from django.db import transaction

from inference import generation
from inference.chats import questions
from inference.chats.answers import Answer, keeper
from inference.chats.frames import AskFrame, RegenerateFrame, ResultFrame
from inference.chats.questions import Question
from inference.messages import Priority
from inference.requests import Caller
from models_app import chat_messages
from models_app.chat_messages import Added, MessageRecord, NewMessages
from models_app.chats import new_id
from models_app.permissions import Principal

Frame = AskFrame | RegenerateFrame | ResultFrame
_KINDS: Final[Mapping[type, Callable[..., Question]]] = {
    AskFrame: questions.of_ask,
    RegenerateFrame: questions.of_regenerate,
    ResultFrame: questions.of_results,
}


_under_way: Final[set[asyncio.Task["Begun"]]] = set()  # an event loop holds its tasks weakly


@dataclass(frozen=True, slots=True)
class Begun:
    """An answer that runs. `added` None: nothing is stored; `question` None: it had one before."""

    answer: Answer
    added: Added | None
    question: MessageRecord | None
    record: MessageRecord | None


async def ask(principal: Principal, frame: Frame) -> Begun:
    """Ask. Raises what `generation.start`, `questions` and `chat_messages.add_messages` raise."""
    # Shielded: a page that is closed now must not leave a row that nobody answers.
    asked = asyncio.create_task(_ask(principal, frame))
    _under_way.add(asked)
    asked.add_done_callback(_forget)
    return await asyncio.shield(asked)


def _forget(asked: asyncio.Task[Begun]) -> None:
    _under_way.discard(asked)
    if not asked.cancelled():
        asked.exception()  # told to the page, if there is one


async def _ask(principal: Principal, frame: Frame) -> Begun:
    with keeper().place(principal.user_id):
        return await _start(principal, frame)


async def _start(principal: Principal, frame: Frame) -> Begun:
    question = await database_sync_to_async(_KINDS[type(frame)])(principal, frame)
    caller = Caller(principal=principal, priority=Priority.INTERACTIVE)
    running = await generation.start(caller, question.request)
    try:
        begun = await _begin(principal, question)
    except BaseException:
        running.close()
        raise
    begun.answer.run(running)
    keeper().add(begun.answer)
    return begun


async def _begin(principal: Principal, question: Question) -> Begun:
    model = question.request.model
    if question.new is None:
        answer = Answer(new_id(), owner_id=principal.user_id, model_name=model, is_temporary=True)
        return Begun(answer, None, None, None)
    added, asked, record = await database_sync_to_async(_store)(principal, question.new)
    answer = Answer(added.answer_id, owner_id=principal.user_id, model_name=model)
    return Begun(answer, added, asked, record)


def _store(
    principal: Principal, new: NewMessages
) -> tuple[Added, MessageRecord | None, MessageRecord]:
    # All or nothing: a database that goes away here must not leave a row that nobody answers.
    with transaction.atomic():
        added = chat_messages.add_messages(principal, new)
        asked = None
        if new.role == "user":
            asked = chat_messages.find_message(principal, added.question_id)
        return added, asked, chat_messages.find_message(principal, added.answer_id)

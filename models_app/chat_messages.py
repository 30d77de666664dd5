"""What is said in a chat: branches of a tree, questions and answers added, answers that run.

A running answer's row is written to by the process it runs in and by nobody else, and `beat_at`
says when that was last alive; whoever looks at a row whose process is gone, ends it as interrupted.
Nothing is written to a row that has ended or is gone. Who sees what: `models_app.chats`. Knows
nothing of HTTP, of the engine and of what an answer looks like.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from models_app import chats
from models_app.chats import ChatRecord, ChatSettings, is_id, new_id, without_nul
from models_app.errors import (
    ChatImageNotFound,
    ChatMessageNotFound,
    ChatNotFound,
    ChatsFull,
    TooManyAnswers,
)
from models_app.models import Chat, ChatImage, ChatMessage
from models_app.permissions import Principal

MAX_CHATS: Final = 5_000
MAX_RUNNING: Final = 8
# How long a process may be silent before its answers are taken for lost.
SILENCE_S: Final = 10.0
# Further ahead than clocks of a site's machines are: it was set back since that beat.
_AHEAD_S: Final = 60.0
RUNNING: Final = "running"
INTERRUPTED: Final = "interrupted"
_INTERRUPTED_TEXT: Final = (
    "the service stopped while it was answering; ask again for another answer"
)
_ROW_BYTES: Final = 512  # what a row takes besides its texts
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """An image of a question."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image without its bytes."""

    image_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRecord:
    """A message. `siblings` are the ids of all that stand in its place, itself among them."""

    message_id: str
    chat_id: str
    parent: str
    role: str
    created_at: datetime
    text: str
    thinking: str
    calls: str
    model_name: str
    state: str
    error: str
    error_id: str
    figures: str
    version: int
    shown: str
    siblings: tuple[str, ...] = ()
    images: tuple[ImageRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessages:
    """A question and the row of its answer. `role` empty: another answer to `parent` alone.

    `chat_id` empty: a new chat, in a folder or none. `calls` are the results of a "tool" message.
    """

    chat_id: str = ""
    folder_id: str = ""
    parent: str = ""
    role: str = ""
    text: str = ""
    calls: str = "[]"
    images: tuple[NewImage, ...] = ()
    settings: ChatSettings = field(default_factory=ChatSettings)
    process: str = ""

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        texts = len(self.text.encode()) + len(self.calls)
        return 2 * _ROW_BYTES + texts + sum(len(image.data) for image in self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The ids of what was added; `question_id` empty: only an answer."""

    chat_id: str
    title: str
    question_id: str
    answer_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSoFar:
    """What an answer's row is to hold."""

    message_id: str
    text: str
    thinking: str
    calls: str
    version: int
    state: str = RUNNING
    error: str = ""
    error_id: str = ""
    figures: str = "{}"
    shown: str = ""


# ------------------------------------------------------------------ reading


def read_branch(
    principal: Principal, chat_id: str, *, leaf: str | None = None
) -> tuple[ChatRecord, list[MessageRecord]]:
    """Return a chat and its messages from the first to `leaf`; None: to the chat's head.

    Raises ChatNotFound; ChatMessageNotFound where `leaf` is no message of the chat.
    """
    row = chats.own_chats(principal, chat_id).select_related("folder").first()
    if row is None:
        raise ChatNotFound
    tree = _Tree(row)
    wanted = row.head if leaf is None else leaf
    if leaf and leaf not in tree.parents:
        raise ChatMessageNotFound
    return chats.record_of(row), _records(tree, tree.path(wanted))


def find_message(principal: Principal, message_id: str) -> MessageRecord:
    """Return a message of the principal's. Raises ChatMessageNotFound."""
    row = _own_messages(principal, message_id).select_related("chat").first()
    if row is None:
        raise ChatMessageNotFound
    return _records(_Tree(row.chat), [message_id])[0]


def newest_leaf(principal: Principal, chat_id: str, message_id: str) -> str:
    """Return the end of the branch that was last added to below a message.

    Raises ChatNotFound, ChatMessageNotFound.
    """
    row = chats.own_chats(principal, chat_id).first()
    if row is None:
        raise ChatNotFound
    tree = _Tree(row)
    if message_id not in tree.parents:
        raise ChatMessageNotFound
    return tree.leaf_below(message_id)


def set_head(principal: Principal, chat_id: str, message_id: str) -> None:
    """Show the branch of a message. Raises ChatNotFound, ChatMessageNotFound."""
    leaf = newest_leaf(principal, chat_id, message_id)
    chats.own_chats(principal, chat_id).update(head=leaf)


def read_tree(principal: Principal, chat_id: str) -> tuple[ChatRecord, list[MessageRecord]]:
    """Return a chat with all of its messages, of every branch, the oldest first."""
    row = chats.own_chats(principal, chat_id).select_related("folder").first()
    if row is None:
        raise ChatNotFound
    tree = _Tree(row)
    return chats.record_of(row), _records(tree, list(tree.parents))


def find_image(principal: Principal, image_id: str) -> NewImage:
    """Return an image of the principal's. Raises ChatImageNotFound."""
    if is_id(image_id):
        own = ChatImage.objects.filter(chat__owner_id=principal.user_id, image_id=image_id)
        if (row := own.first()) is not None:
            return NewImage(name=row.name, media_type=row.media_type, data=bytes(row.data))
    raise ChatImageNotFound


def read_images(principal: Principal, image_ids: Sequence[str]) -> dict[str, bytes]:
    """Return the bytes of images by their ids."""
    own = ChatImage.objects.filter(chat__owner_id=principal.user_id, image_id__in=image_ids)
    return {found: bytes(data) for found, data in own.values_list("image_id", "data")}


class _Tree:
    """Which message hangs below which, in the order in which they came."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        rows = chat.messages.order_by("pk").values_list("message_id", "parent", "role")
        self.parents: dict[str, str] = {}
        self._below: dict[str, list[str]] = {}
        self._siblings: dict[tuple[str, str], list[str]] = {}
        self._roles: dict[str, str] = {}
        for message_id, parent, role in rows:
            self.parents[message_id] = parent
            self._roles[message_id] = role
            self._below.setdefault(parent, []).append(message_id)
            self._siblings.setdefault((parent, role), []).append(message_id)

    def path(self, leaf: str) -> list[str]:
        found: list[str] = []
        while leaf in self.parents:
            found.append(leaf)
            leaf = self.parents[leaf]
        return found[::-1]

    def leaf_below(self, message_id: str) -> str:
        while below := self._below.get(message_id):
            message_id = below[-1]
        return message_id

    def siblings(self, message_id: str) -> tuple[str, ...]:
        return tuple(self._siblings[self.parents[message_id], self._roles[message_id]])


def _records(tree: _Tree, message_ids: Sequence[str]) -> list[MessageRecord]:
    rows: dict[str, ChatMessage] = {}
    for start in range(0, len(message_ids), _AT_ONCE):
        part = message_ids[start : start + _AT_ONCE]
        rows |= {row.message_id: row for row in tree.chat.messages.filter(message_id__in=part)}
    _end_lost(rows.values())
    images: dict[str, list[ImageRecord]] = {}
    found = tree.chat.images.order_by("pk").values_list("message", "image_id", "name")
    for message_id, image_id, name in found:
        images.setdefault(message_id, []).append(ImageRecord(image_id=image_id, name=name))
    return [
        _record(rows[message_id], tree, tuple(images.get(message_id, ())))
        for message_id in message_ids
        if message_id in rows
    ]


def _record(row: ChatMessage, tree: _Tree, images: tuple[ImageRecord, ...]) -> MessageRecord:
    return MessageRecord(
        message_id=row.message_id,
        chat_id=tree.chat.chat_id,
        parent=row.parent,
        role=row.role,
        created_at=row.created_at,
        text=row.text,
        thinking=row.thinking,
        calls=row.calls,
        model_name=row.model_name,
        state=row.state,
        error=row.error,
        error_id=row.error_id,
        figures=row.figures,
        version=row.version,
        shown=row.shown,
        siblings=tree.siblings(row.message_id),
        images=images,
    )


def _own_messages(principal: Principal, message_id: str) -> QuerySet[ChatMessage]:
    if not is_id(message_id):
        return ChatMessage.objects.none()
    return ChatMessage.objects.filter(chat__owner_id=principal.user_id, message_id=message_id)


def _end_lost(rows: Iterable[ChatMessage]) -> None:
    """End those whose process is gone, with the text that it has saved."""
    oldest, newest = _lively()
    for row in rows:
        if row.state != RUNNING or (row.beat_at and oldest < row.beat_at < newest):
            continue
        lost = ChatMessage.objects.filter(pk=row.pk, state=RUNNING, beat_at=row.beat_at)
        lost.update(state=INTERRUPTED, error=_INTERRUPTED_TEXT, version=F("version") + 1)
        row.refresh_from_db()


def _lively() -> tuple[datetime, datetime]:
    """Return between which times a process that lives has beaten last."""
    now = timezone.now()
    return now - timedelta(seconds=SILENCE_S), now + timedelta(seconds=_AHEAD_S)


# ------------------------------------------------------------------ asking


def add_messages(principal: Principal, new: NewMessages) -> Added:
    """Add a question and the row of its answer, which runs from now on.

    Raises ChatNotFound, ChatMessageNotFound, ChatFolderNotFound, ChatsFull, TooManyAnswers.
    """
    with transaction.atomic():
        # Held, so that two questions at once do not both take the last place, and the owner stays.
        chats.hold_owner(principal)
        _require_room(principal, new)
        chat = _chat_of(principal, new)
        growth = new.size_bytes + new.settings.size_bytes - chats.settings_of(chat).size_bytes
        question_id = _add_question(chat, new) if new.role else ""
        answer = ChatMessage.objects.create(
            message_id=new_id(),
            chat=chat,
            parent=question_id or new.parent,
            role="assistant",
            model_name=without_nul(new.settings.model_name)[:700],
            state=RUNNING,
            process=new.process,
            beat_at=timezone.now(),
        )
        Chat.objects.filter(pk=chat.pk).update(
            head=answer.message_id,
            updated_at=timezone.now(),
            size_bytes=chats.grown(growth),
            **chats.columns_of(new.settings),
        )
    return Added(
        chat_id=chat.chat_id,
        title=chat.title,
        question_id=question_id,
        answer_id=answer.message_id,
    )


def _require_room(principal: Principal, new: NewMessages) -> None:
    own = Chat.objects.filter(owner_id=principal.user_id)
    if not new.chat_id and own.count() >= MAX_CHATS:
        raise ChatsFull(f"you have {MAX_CHATS} chats, which are the most: delete some first")
    chats.require_space(principal, new.size_bytes + new.settings.size_bytes)
    running = ChatMessage.objects.filter(
        state=RUNNING, chat__owner_id=principal.user_id, beat_at__range=_lively()
    )
    if running.count() >= MAX_RUNNING:
        raise TooManyAnswers(f"{MAX_RUNNING} answers are being written already: wait for one")


def _chat_of(principal: Principal, new: NewMessages) -> Chat:
    if not new.chat_id:
        folder = chats.find_folder(principal, new.folder_id) if new.folder_id else None
        title = chats.make_title(new.text) or "Image"
        return Chat.objects.create(
            chat_id=new_id(), owner_id=principal.user_id, folder=folder, title=title
        )
    chat = chats.own_chats(principal, new.chat_id).first()
    if chat is None:
        raise ChatNotFound
    if new.parent and not chat.messages.filter(message_id=new.parent).exists():
        raise ChatMessageNotFound
    return chat


def _add_question(chat: Chat, new: NewMessages) -> str:
    question = ChatMessage.objects.create(
        message_id=new_id(),
        chat=chat,
        parent=new.parent,
        role=new.role,
        text=without_nul(new.text),
        calls=new.calls,
    )
    ChatImage.objects.bulk_create(
        ChatImage(
            image_id=new_id(),
            chat=chat,
            message=question.message_id,
            name=without_nul(image.name)[:255],
            media_type=image.media_type,
            size_bytes=len(image.data),
            data=image.data,
        )
        for image in new.images
    )
    return question.message_id


# ------------------------------------------------------------------ answers that run


def save_answers(process: str, answers: Collection[AnswerSoFar]) -> frozenset[str]:
    """Write down what answers of a process have so far; return the ids of those that were there.

    An answer that has ended or is deleted is not written to, and not among them.
    """
    written = set()
    with transaction.atomic():
        for answer in answers:
            if _save(process, answer):
                written.add(answer.message_id)
    return frozenset(written)


def _save(process: str, answer: AnswerSoFar) -> bool:
    row = ChatMessage.objects.filter(message_id=answer.message_id, state=RUNNING, process=process)
    is_there = row.update(
        text=without_nul(answer.text),
        thinking=without_nul(answer.thinking),
        calls=answer.calls,
        version=answer.version,
        state=answer.state,
        error=without_nul(answer.error),
        error_id=answer.error_id,
        figures=answer.figures,
        shown=answer.shown,
        beat_at=timezone.now(),
    )
    if is_there and answer.state != RUNNING:
        texts = (answer.text, answer.thinking, answer.calls, answer.shown)
        Chat.objects.filter(messages__message_id=answer.message_id).update(
            size_bytes=F("size_bytes") + sum(len(text.encode()) for text in texts),
            updated_at=timezone.now(),
        )
    return bool(is_there)


def was_ended(process: str, answer: AnswerSoFar) -> bool:
    """Whether a row has ended as a process wanted it to, at a try of which it has not heard."""
    rows = ChatMessage.objects.filter(message_id=answer.message_id, process=process)
    return rows.filter(state=answer.state, version=answer.version).exists()


def beat(process: str, message_ids: Collection[str]) -> None:
    """Say that a process still answers these."""
    rows = ChatMessage.objects.filter(message_id__in=message_ids, state=RUNNING, process=process)
    rows.update(beat_at=timezone.now())


def still_wanted(message_ids: Collection[str]) -> dict[str, bool]:
    """Return which of these run, and whether each is still wanted or is to be stopped."""
    rows = ChatMessage.objects.filter(message_id__in=message_ids, state=RUNNING)
    return {found: not asked for found, asked in rows.values_list("message_id", "is_stop_asked")}


def ask_to_stop(principal: Principal, message_id: str) -> None:
    """Have an answer stopped, wherever it runs; one that has ended stays as it is.

    Raises ChatMessageNotFound.
    """
    own = _own_messages(principal, message_id)
    if not own.update(is_stop_asked=True):
        raise ChatMessageNotFound

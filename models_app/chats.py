"""Somebody's chats and folders: found, named, sorted, deleted; what one asks with next.

They hold people's prompts, so nobody but their owner can read them or tell that they are there, the
site's admin included, and nothing of them is logged or audited. What is said in them is
`models_app.chat_messages`'. Knows nothing of HTTP and of the engine.
"""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings as django_settings
from django.db import transaction
from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Greatest

from models_app.errors import ChatFolderNotFound, ChatNotFound, ChatsFull
from models_app.models import Chat, ChatFolder, User
from models_app.permissions import Principal
from ollamasite.errors import BadRequest, Conflict

MAX_TITLE: Final = 200
MAX_FOLDER_NAME: Final = 100
MAX_FOLDERS: Final = 200
_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """What questions of a chat are asked with. `options`, `tools` and `think` are JSON text."""

    model_name: str = ""
    system: str = ""
    options: str = "{}"
    tools: str = "[]"
    think: str = "null"

    @property
    def size_bytes(self) -> int:
        """What they take."""
        return sum(len(text.encode()) for text in (self.system, self.options, self.tools))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRecord:
    """A chat without what is said in it; `folder_id` empty: in none."""

    chat_id: str
    title: str
    folder_id: str
    is_pinned: bool
    head: str
    created_at: datetime
    updated_at: datetime
    settings: ChatSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRecord:
    """A folder."""

    folder_id: str
    name: str


def new_id() -> str:
    """Return an id that nobody can guess."""
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Whether a text can be an id at all: what else is asked for does not reach the database."""
    return _ID.fullmatch(text) is not None


def without_nul(text: str) -> str:
    """Return a text as every database takes it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def find_chat(principal: Principal, chat_id: str) -> ChatRecord:
    """Return a chat of the principal's. Raises ChatNotFound."""
    row = own_chats(principal, chat_id).select_related("folder").first()
    if row is None:
        raise ChatNotFound
    return record_of(row)


def own_chats(principal: Principal, chat_id: str) -> QuerySet[Chat]:
    """Return the row of a chat, if there is one and it is the principal's."""
    if not is_id(chat_id):
        return Chat.objects.none()
    return Chat.objects.filter(owner_id=principal.user_id, chat_id=chat_id)


def record_of(row: Chat, *, has_settings: bool = True) -> ChatRecord:
    """Return what is told of a row; its folder has been read with it.

    Without its settings but the model where they are not to be read: they may be a megabyte.
    """
    return ChatRecord(
        chat_id=row.chat_id,
        title=row.title,
        folder_id=row.folder.folder_id if row.folder else "",
        is_pinned=row.is_pinned,
        head=row.head,
        created_at=row.created_at,
        updated_at=row.updated_at,
        settings=settings_of(row) if has_settings else ChatSettings(model_name=row.model_name),
    )


def settings_of(row: Chat) -> ChatSettings:
    """Return what questions of a chat are asked with."""
    return ChatSettings(
        model_name=row.model_name,
        system=row.system,
        options=row.options,
        tools=row.tools,
        think=row.think,
    )


def make_title(text: str) -> str:
    """Return the title that a chat gets from its first question."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    words = " ".join(without_nul(line).split())
    return words if len(words) <= MAX_TITLE else words[: MAX_TITLE - 1] + "…"


def rename_chat(principal: Principal, chat_id: str, title: str) -> None:
    """Give a chat another title. Raises ChatNotFound, BadRequest."""
    find_chat(principal, chat_id)
    _change(principal, chat_id, title=_name(title, MAX_TITLE, "a title"))


def pin_chat(principal: Principal, chat_id: str, *, is_pinned: bool) -> None:
    """Keep a chat at the top, or no longer. Raises ChatNotFound."""
    _change(principal, chat_id, is_pinned=is_pinned)


def move_chat(principal: Principal, chat_id: str, folder_id: str) -> None:
    """Put a chat into a folder; empty: into none. Raises ChatNotFound, ChatFolderNotFound."""
    folder = find_folder(principal, folder_id) if folder_id else None
    _change(principal, chat_id, folder=folder)


def set_settings(principal: Principal, chat_id: str, settings: ChatSettings) -> None:
    """Note what the next question of a chat is asked with. Raises ChatNotFound, ChatsFull."""
    with transaction.atomic():
        hold_owner(principal)
        row = own_chats(principal, chat_id).first()
        if row is None:
            raise ChatNotFound
        growth = settings.size_bytes - settings_of(row).size_bytes
        if growth > 0:
            require_space(principal, growth)
        _change(principal, chat_id, size_bytes=grown(growth), **columns_of(settings))


def hold_owner(principal: Principal) -> None:
    """Hold the owner's row, so that two do not both take the last place. Raises ChatNotFound."""
    owner = User.objects.select_for_update(no_key=True).filter(pk=principal.user_id)
    if not owner.values_list("pk").first():
        raise ChatNotFound


def require_space(principal: Principal, size_bytes: int) -> None:
    """Raise ChatsFull where so much more is too much; the owner is held."""
    own = Chat.objects.filter(owner_id=principal.user_id)
    used = own.aggregate(total=Sum("size_bytes"))["total"] or 0
    if used + size_bytes > django_settings.CHATS_BYTES:
        raise ChatsFull("your chats take up all the space there is for them: delete some first")


def grown(size_bytes: int) -> Greatest:
    """Return the size of a chat with so much more, or less."""
    return Greatest(F("size_bytes") + size_bytes, 0)


def columns_of(settings: ChatSettings) -> dict[str, str]:
    """Return a chat's settings by column."""
    return {
        "model_name": without_nul(settings.model_name)[:700],
        "system": without_nul(settings.system),
        "options": settings.options,
        "tools": settings.tools,
        "think": settings.think[:16],
    }


def delete_chat(principal: Principal, chat_id: str) -> None:
    """Delete a chat with all that is in it. Raises ChatNotFound.

    An answer that runs finds its row gone, and ends.
    """
    count, _ = own_chats(principal, chat_id).delete()
    if not count:
        raise ChatNotFound


def _change(principal: Principal, chat_id: str, **columns: object) -> None:
    if not own_chats(principal, chat_id).update(**columns):
        raise ChatNotFound


# ------------------------------------------------------------------ folders


def create_folder(principal: Principal, name: str) -> FolderRecord:
    """Make a folder. Raises BadRequest, Conflict."""
    name = _name(name, MAX_FOLDER_NAME, "a folder's name")
    own = ChatFolder.objects.filter(owner_id=principal.user_id)
    with transaction.atomic():
        if own.count() >= MAX_FOLDERS:
            raise Conflict(f"{MAX_FOLDERS} folders are the most")
        if own.filter(name=name).exists():
            raise Conflict("there is a folder of this name already")
        row = ChatFolder.objects.create(folder_id=new_id(), owner_id=principal.user_id, name=name)
    return FolderRecord(folder_id=row.folder_id, name=row.name)


def rename_folder(principal: Principal, folder_id: str, name: str) -> None:
    """Give a folder another name. Raises ChatFolderNotFound, BadRequest."""
    folder = find_folder(principal, folder_id)
    folder.name = _name(name, MAX_FOLDER_NAME, "a folder's name")
    folder.save(update_fields=["name"])


def delete_folder(principal: Principal, folder_id: str) -> None:
    """Delete a folder; its chats stay, in none. Raises ChatFolderNotFound."""
    find_folder(principal, folder_id).delete()


def find_folder(principal: Principal, folder_id: str) -> ChatFolder:
    """Return the row of a folder of the principal's. Raises ChatFolderNotFound."""
    if is_id(folder_id):
        own = ChatFolder.objects.filter(owner_id=principal.user_id, folder_id=folder_id)
        if (row := own.first()) is not None:
            return row
    raise ChatFolderNotFound


def _name(text: str, most: int, what: str) -> str:
    words = " ".join(without_nul(text).split())
    if not words:
        raise BadRequest(f"{what} cannot be empty")
    if len(words) > most:
        raise BadRequest(f"{what} has {most} characters at most")
    return words

"""What the chat page shows beside the messages: the list of chats, the models, a chat's settings.

Pure but for `load_page`, `load_list` and `load_branch`, which read. Knows no HTTP.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import Any, Final

import msgspec
from django.conf import settings
from django.utils import timezone

from inference import overview
from inference.chats import questions
from inference.chats.shown import MessageShown, shown_branch
from inference.image_headers import MAX_FILE_BYTES
from inference.loaded import visible_loaded
from inference.messages import LoadedModel
from models_app import chat_list, chat_messages
from models_app.chat_list import ChatPage
from models_app.chats import ChatRecord
from models_app.permissions import Principal
from registry import library
from registry.library import ListedModel

_WEEK_DAYS: Final = 7
_MONTH_DAYS: Final = 30
_LIMITS: Final = {
    "text_bytes": questions.MAX_TEXT_BYTES,
    "images": questions.MAX_QUESTION_IMAGES,
    "image_bytes": MAX_FILE_BYTES,
    "answers": chat_messages.MAX_RUNNING,
    "frame_bytes": settings.MAX_BODY_BYTES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatShown:
    """The chat that is open."""

    id: str
    title: str
    folder_id: str
    is_pinned: bool
    model_name: str
    system: str
    options: dict[str, Any]
    options_text: str
    tools_text: str
    think: bool | str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatListed:
    """A chat in the list."""

    id: str
    title: str
    folder_id: str
    is_pinned: bool
    updated_at: datetime
    model_name: str
    is_running: bool


@dataclass(frozen=True, slots=True)
class ChatGroup:
    """Chats under one heading; `label` may be empty."""

    label: str
    chats: Sequence[ChatListed]


@dataclass(frozen=True, slots=True)
class FolderShown:
    """A folder."""

    id: str
    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A model that one may talk to."""

    name: str
    is_loaded: bool
    context: str
    context_tokens: int | None
    capabilities: tuple[str, ...]
    parameter_size: str
    quantization: str
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListWish:
    """Which part of the list is asked for, and which chat is open."""

    query: str = ""
    folder_id: str = ""
    before: str = ""
    open_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageWish:
    """What the page is opened with; `chat_id` empty: a new chat."""

    chat_id: str = ""
    model: str = ""
    draft: str = ""


def load_page(
    principal: Principal, wish: PageWish, in_memory: Sequence[LoadedModel] | None
) -> dict[str, Any]:
    """Return the page's context; `in_memory` None: the engine does not answer.

    Raises ChatNotFound.
    """
    opened = (
        load_branch(principal, wish.chat_id) if wish.chat_id else {"chat": None, "messages": []}
    )
    chat = opened["chat"]
    listed = library.list_models(principal)
    loaded = visible_loaded(principal, in_memory or (), listed)
    models = model_choices(listed, loaded)
    wanted = wish.model or (chat.model_name if chat else "")
    return {
        **opened,
        **load_list(principal, ListWish(open_id=wish.chat_id)),
        "models": models,
        "selected_model": _selected(models, wanted),
        "draft": wish.draft[: questions.MAX_TEXT_BYTES],
        "is_engine_available": in_memory is not None,
        "is_admin": principal.is_admin,
        "limits": _LIMITS,
    }


def load_branch(principal: Principal, chat_id: str) -> dict[str, Any]:
    """Return a chat and the articles of the branch that is shown. Raises ChatNotFound."""
    chat, records = chat_messages.read_branch(principal, chat_id)
    messages: list[MessageShown] = shown_branch(records)
    return {"chat": _chat_shown(chat), "messages": messages}


def load_list(principal: Principal, wish: ListWish) -> dict[str, Any]:
    """Return the list's context."""
    page = chat_list.list_chats(
        principal, query=wish.query, folder_id=wish.folder_id, before=wish.before
    )
    folders = [
        FolderShown(folder.folder_id, folder.name, folder.count)
        for folder in chat_list.folders_of(principal)
    ]
    is_narrowed = bool(wish.query or wish.folder_id)
    return {
        "folders": folders,
        "groups": chat_groups(page, is_narrowed=is_narrowed, today=timezone.localdate()),
        "next_before": page.before,
        "query": wish.query,
        "q": wish.query,
        "folder_id": wish.folder_id,
        "open_id": wish.open_id,
        "is_first": not wish.before,
    }


def chat_groups(page: ChatPage, *, is_narrowed: bool, today: date) -> list[ChatGroup]:
    """Return the chats under headings by age; those of a folder or a search under none."""
    groups = [ChatGroup("Pinned", _listed(page.pinned, page))] if page.pinned else []
    if is_narrowed:
        return [*groups, ChatGroup("", _listed(page.chats, page))] if page.chats else groups
    by_age = groupby(page.chats, key=lambda chat: _age(chat.updated_at, today))
    return groups + [ChatGroup(label, _listed(chats, page)) for label, chats in by_age]


def model_choices(
    listed: Iterable[ListedModel], loaded: Iterable[LoadedModel]
) -> list[ModelChoice]:
    """Return the models that can talk, those in memory first."""
    in_memory = {model.digest for model in loaded}
    choices = [
        ModelChoice(
            name=model.name,
            is_loaded=model.digest in in_memory,
            context=overview.format_context(model.context_length) if model.context_length else "",
            context_tokens=model.context_length,
            capabilities=model.capabilities,
            parameter_size=model.parameter_size,
            quantization=model.quantization_level,
            size=overview.format_bytes(model.size_bytes),
        )
        for model in listed
        if "completion" in model.capabilities
    ]
    return sorted(choices, key=lambda choice: not choice.is_loaded)


def _selected(models: Sequence[ModelChoice], wanted: str) -> str:
    names = [model.name for model in models]
    if wanted in names:
        return wanted
    return names[0] if names else ""


def _chat_shown(chat: ChatRecord) -> ChatShown:
    asked_with = chat.settings
    return ChatShown(
        id=chat.chat_id,
        title=chat.title,
        folder_id=chat.folder_id,
        is_pinned=chat.is_pinned,
        model_name=asked_with.model_name,
        system=asked_with.system,
        options=msgspec.json.decode(asked_with.options),
        options_text=asked_with.options,
        tools_text=asked_with.tools,
        think=msgspec.json.decode(asked_with.think),
        created_at=chat.created_at,
        updated_at=chat.updated_at,
    )


def _listed(chats: Iterable[ChatRecord], page: ChatPage) -> list[ChatListed]:
    return [
        ChatListed(
            id=chat.chat_id,
            title=chat.title,
            folder_id=chat.folder_id,
            is_pinned=chat.is_pinned,
            updated_at=chat.updated_at,
            model_name=chat.settings.model_name,
            is_running=chat.chat_id in page.running,
        )
        for chat in chats
    ]


def _age(moment: datetime, today: date) -> str:
    day = timezone.localtime(moment).date()
    days = (today - day).days
    if days <= 0:
        return "Today"
    if days == 1:
        return "Yesterday"
    if days < _WEEK_DAYS:
        return f"Last {_WEEK_DAYS} days"
    if days < _MONTH_DAYS:
        return f"Last {_MONTH_DAYS} days"
    return f"{day:%B %Y}"

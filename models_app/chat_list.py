"""The list of somebody's chats: pages, folders, search in titles and texts.

A fixed number of queries however many chats there are. Knows nothing of HTTP.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from models_app.chats import ChatRecord, is_id, record_of, without_nul
from models_app.models import Chat, ChatFolder, ChatMessage
from models_app.permissions import Principal

PAGE_LENGTH: Final = 50
MAX_PINNED: Final = 100
_MAX_QUERY: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderCount:
    """A folder and how many chats are in it."""

    folder_id: str
    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPage:
    """A part of the list. `before` leads to the next one; empty: there is none.

    `running` are the ids of chats in which an answer runs.
    """

    pinned: tuple[ChatRecord, ...]
    chats: tuple[ChatRecord, ...]
    running: frozenset[str]
    before: str


def folders_of(principal: Principal) -> list[FolderCount]:
    """Return somebody's folders by name."""
    rows = ChatFolder.objects.filter(owner_id=principal.user_id).annotate(count=Count("chats"))
    return [
        FolderCount(folder_id=row.folder_id, name=row.name, count=row.count)
        for row in rows.order_by("name", "pk")
    ]


def list_chats(
    principal: Principal, *, query: str = "", folder_id: str = "", before: str = ""
) -> ChatPage:
    """Return a page of the chats, the ones used last first.

    Those of a folder, or those that a search finds in all, or else those that are in no folder;
    pinned ones are apart, on the first page.
    """
    own = Chat.objects.filter(owner_id=principal.user_id)
    query = without_nul(query.strip())[:_MAX_QUERY]
    if query:
        rows, pinned = _found(own, query, principal), own.none()
    elif folder_id:
        named = folder_id if is_id(folder_id) else ""
        rows, pinned = own.filter(folder__folder_id=named), own.none()
    else:
        rows = own.filter(folder=None, is_pinned=False)
        pinned = own.none() if before else own.filter(is_pinned=True)
    page = list(_for_list(_behind(rows, before))[: PAGE_LENGTH + 1])
    on_top = list(_for_list(pinned.order_by("-updated_at", "-pk"))[:MAX_PINNED])
    shown = page[:PAGE_LENGTH]
    return ChatPage(
        pinned=tuple(record_of(row, has_settings=False) for row in on_top),
        chats=tuple(record_of(row, has_settings=False) for row in shown),
        running=_running(principal),
        before=_place(shown[-1]) if len(page) > PAGE_LENGTH else "",
    )


def _for_list(rows: QuerySet[Chat]) -> QuerySet[Chat]:
    return rows.select_related("folder").defer("system", "options", "tools", "think")


def _found(own: QuerySet[Chat], query: str, principal: Principal) -> QuerySet[Chat]:
    said = ChatMessage.objects.filter(chat__owner_id=principal.user_id, text__icontains=query)
    return own.filter(Q(title__icontains=query) | Q(pk__in=said.values("chat_id")))


def _behind(rows: QuerySet[Chat], before: str) -> QuerySet[Chat]:
    ordered = rows.order_by("-updated_at", "-pk")
    place = _read_place(before)
    if place is None:
        return ordered
    at, number = place
    return ordered.filter(updated_at__lte=at).exclude(updated_at=at, pk__gte=number)


def _place(row: Chat) -> str:
    return f"{row.updated_at.isoformat()}_{row.pk}"


def _read_place(text: str) -> tuple[datetime, int] | None:
    at, _, number = text.rpartition("_")
    try:
        moment = datetime.fromisoformat(at)
        moment = (moment if moment.tzinfo else timezone.make_aware(moment)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    if not number.isdecimal() or not number.isascii() or len(number) > 18:  # noqa: PLR2004 - of 2^63
        return None
    return moment, int(number)


def _running(principal: Principal) -> frozenset[str]:
    rows = ChatMessage.objects.filter(state="running", chat__owner_id=principal.user_id)
    return frozenset(rows.values_list("chat__chat_id", flat=True))

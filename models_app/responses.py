"""Stored answers of `/v1/responses`: kept for a while, seen by their owner alone.

They hold people's prompts, so nobody else can read them, the site's admin included, and nothing of
them is logged. How long and how much: the settings RESPONSES_KEPT_S and RESPONSES_BYTES. Knows
nothing of HTTP and of what an item or an answer looks like: both are JSON text here.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from models_app.errors import (
    ConversationTooLong,
    PreviousResponseNotFound,
    ResponseNotFound,
)
from models_app.models import StoredResponse, User
from models_app.permissions import Principal

# What one request may read of the conversation before it. A context of a million tokens is a
# tenth of this in text; the rest is room for images.
MAX_CONVERSATION_LENGTH: Final = 1000
MAX_CONVERSATION_BYTES: Final = 64 * 1024 * 1024
_MAX_ID: Final = 64
_MAX_MODEL_NAME: Final = 700
_AT_ONCE: Final = 200  # rows per query; databases limit the parameters of one
_FOR_EVER_S: Final = 100 * 365 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRecord:
    """A stored answer: `input` is a JSON list of items, `body` a JSON object."""

    response_id: str
    model_name: str
    previous_id: str = ""  # empty: the first of its conversation
    input: str
    body: str


@dataclass(frozen=True, slots=True)
class _Link:
    previous_id: str
    size_bytes: int


def keeps_responses() -> bool:
    """Whether the site stores answers at all."""
    return bool(settings.RESPONSES_KEPT_S and settings.RESPONSES_BYTES)


def find_response(principal: Principal, response_id: str) -> ResponseRecord:
    """Return an answer of the principal's. Raises ResponseNotFound."""
    row = _named(principal, response_id).first()
    if row is None:
        raise ResponseNotFound(response_id)
    return _record(row)


def read_conversation(principal: Principal, last_id: str) -> list[ResponseRecord]:
    """Return an answer of the principal's and all that it goes on from, the first one first.

    Raises PreviousResponseNotFound, ConversationTooLong.
    """
    path = _path(principal, last_id)
    found: dict[str, ResponseRecord] = {}
    for start in range(0, len(path), _AT_ONCE):
        rows = _visible(principal).filter(response_id__in=path[start : start + _AT_ONCE])
        found |= {row.response_id: _record(row) for row in rows}
    missing = next((response_id for response_id in path if response_id not in found), None)
    if missing is not None:  # deleted a moment ago
        raise PreviousResponseNotFound(missing)
    return [found[response_id] for response_id in reversed(path)]


def find_responses(principal: Principal, response_ids: Collection[str]) -> list[ResponseRecord]:
    """Return those of the named answers that are the principal's, in no order.

    Raises ConversationTooLong where they are more than one request may read.
    """
    if len(response_ids) > MAX_CONVERSATION_LENGTH:
        raise ConversationTooLong("input")
    wanted = list(response_ids)
    parts = [
        _visible(principal).filter(response_id__in=wanted[start : start + _AT_ONCE])
        for start in range(0, len(wanted), _AT_ONCE)
    ]
    sizes = (part.aggregate(total=Sum("size_bytes"))["total"] or 0 for part in parts)
    if sum(sizes) > MAX_CONVERSATION_BYTES:
        raise ConversationTooLong("input")
    return [_record(row) for part in parts for row in part]


def keep_response(principal: Principal, record: ResponseRecord) -> None:
    """Store an answer, and let go of what is too old or, of this owner, too much.

    Where the site keeps nothing, or the owner is gone meanwhile, nothing is stored.
    """
    if not keeps_responses():
        return
    with transaction.atomic():
        # The row is held, so that the owner stays until the end and no other answer of theirs is
        # added between counting and deleting.
        owner = User.objects.select_for_update(no_key=True).filter(pk=principal.user_id)
        if not owner.values_list("pk").first():
            return
        StoredResponse.objects.create(
            response_id=record.response_id,
            owner_id=principal.user_id,
            model_name=record.model_name[:_MAX_MODEL_NAME],
            previous_id=record.previous_id,
            root_id=_root_of(principal, record),
            size_bytes=len(record.input.encode()) + len(record.body.encode()),
            input=record.input,
            body=record.body,
        )
        _drop_expired()
        _drop_surplus(principal.user_id, record.response_id)


def delete_response(principal: Principal, response_id: str) -> None:
    """Delete an answer of the principal's. Raises ResponseNotFound."""
    count, _ = _named(principal, response_id).delete()
    if not count:
        raise ResponseNotFound(response_id)


def _visible(principal: Principal) -> QuerySet[StoredResponse]:
    # The one place that says who sees what.
    own = StoredResponse.objects.filter(owner_id=principal.user_id)
    kept_s = _kept_s()
    if math.isinf(kept_s):
        return own
    return own.filter(created_at__gt=timezone.now() - timedelta(seconds=kept_s))


def _named(principal: Principal, response_id: str) -> QuerySet[StoredResponse]:
    # PostgreSQL does not even look for a text with a NUL in it.
    if len(response_id) > _MAX_ID or not response_id.isprintable():
        return StoredResponse.objects.none()
    return _visible(principal).filter(response_id=response_id)


def _kept_s() -> float:
    kept_s: float = settings.RESPONSES_KEPT_S
    return math.inf if kept_s > _FOR_EVER_S else kept_s


def _path(principal: Principal, last_id: str) -> list[str]:
    """Return the ids of a conversation from its end to its start."""
    own = _visible(principal)
    root_id = _named(principal, last_id).values_list("root_id", flat=True).first()
    links = {
        response_id: _Link(previous_id, size_bytes)
        for response_id, previous_id, size_bytes in own.filter(root_id=root_id).values_list(
            "response_id", "previous_id", "size_bytes"
        )
    }
    path: list[str] = []
    size_bytes = 0
    wanted = last_id
    while wanted:
        if wanted not in links:
            raise PreviousResponseNotFound(wanted)
        path.append(wanted)
        size_bytes += links[wanted].size_bytes
        if len(path) > MAX_CONVERSATION_LENGTH or size_bytes > MAX_CONVERSATION_BYTES:
            raise ConversationTooLong
        wanted = links[wanted].previous_id
    return path


def _root_of(principal: Principal, record: ResponseRecord) -> str:
    if not record.previous_id:
        return record.response_id
    before = StoredResponse.objects.filter(
        owner_id=principal.user_id, response_id=record.previous_id
    )
    return before.values_list("root_id", flat=True).first() or record.previous_id


def _drop_expired() -> None:
    kept_s = _kept_s()
    if not math.isinf(kept_s):
        oldest = timezone.now() - timedelta(seconds=kept_s)
        StoredResponse.objects.filter(created_at__lte=oldest).delete()


def _drop_surplus(user_id: int, newest_id: str) -> None:
    """Delete an owner's oldest answers until the rest is within the limit; the newest stays."""
    own = StoredResponse.objects.filter(owner_id=user_id)
    surplus = (own.aggregate(total=Sum("size_bytes"))["total"] or 0) - settings.RESPONSES_BYTES
    if surplus <= 0:
        return
    doomed: list[int] = []
    oldest_first = own.exclude(response_id=newest_id).order_by("created_at", "pk")
    for pk, size_bytes in oldest_first.values_list("pk", "size_bytes").iterator():
        if surplus <= 0:
            break
        doomed.append(pk)
        surplus -= size_bytes
    for start in range(0, len(doomed), _AT_ONCE):
        own.filter(pk__in=doomed[start : start + _AT_ONCE]).delete()


def _record(row: StoredResponse) -> ResponseRecord:
    return ResponseRecord(
        response_id=row.response_id,
        model_name=row.model_name,
        previous_id=row.previous_id,
        input=row.input,
        body=row.body,
    )

"""All that the site knows of one person: to take along, and to have forgotten.

    {"account": {…}, "keys": […], …, "responses": […], "requests": […], "acts": […]}

Secrets and hashes are not in it. Whoever is forgotten goes with their keys, models, jobs, chats and
stored answers; what was counted stays, under `deleted-<id>` in place of the name, and what was
audited stays as it is. Who may ask has been decided before. Knows no HTTP.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from django.db import DatabaseError
from django.db.models import QuerySet

from models_app import audit, forgetting, people
from models_app.errors import UserNotFound
from models_app.models import (
    AuditEntry,
    ChatImage,
    ChatMessage,
    LedgerEntry,
    LedgerHour,
    StoredResponse,
    Tag,
    User,
)
from models_app.permissions import Principal
from models_app.row_pages import pages
from models_app.usage import REQUEST_COLUMNS
from ollamasite.http import encode_json

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Section = tuple[str, Iterable[Row]]

_BATCH: Final = 500
_RESPONSES_BATCH: Final = 8  # each may be megabytes
_PIECE_BYTES: Final = 64 * 1024
_ACCOUNT: Final = (
    "id",
    "username",
    "first_name",
    "last_name",
    "email",
    "date_joined",
    "last_login",
    "is_superuser",
    "site_role",
)
_KEYS: Final = (
    "name",
    "prefix",
    "scopes",
    "model_patterns",
    "networks",
    "team__name",
    "created_at",
    "expires_at",
    "last_used_at",
    "last_used_address",
    "revoked_at",
)
_SESSIONS: Final = ("began_at", "seen_at", "address", "agent")
_JOBS: Final = ("job_id", "kind", "state", "model_name", "created_at", "ended_at", "error")
_TAGS: Final = (
    "model__host",
    "model__namespace",
    "model__name",
    "name",
    "model__visibility",
    "modified_at",
    "manifest__digest",
    "manifest__size_bytes",
)
_RESPONSES: Final = ("response_id", "model_name", "created_at", "previous_id", "input", "body")
_CHATS: Final = (
    "chat_id",
    "title",
    "folder__name",
    "is_pinned",
    "created_at",
    "updated_at",
    "head",
    "model_name",
    "system",
    "options",
    "tools",
    "think",
)
_MESSAGES: Final = (
    "message_id",
    "chat__chat_id",
    "parent",
    "role",
    "created_at",
    "text",
    "thinking",
    "calls",
    "model_name",
    "state",
    "error",
    "figures",
)
_IMAGES: Final = ("image_id", "chat__chat_id", "message", "name", "media_type", "data")
_COUNTED: Final = (
    "team_name",
    "key_name",
    "model_name",
    "dialect",
    "tokens_in",
    "tokens_out",
    "tokens_cached",
    "compute_us",
)
_HOURS: Final = ("hour", *_COUNTED, "requests", "failed")
_REQUESTS: Final = tuple(name for name in REQUEST_COLUMNS if name != "user_name")
_ACTS: Final = ("sequence", "at", "credential", "address", "action", "subject", "details")


def export(name: str) -> Iterator[bytes]:
    """Return the pieces of a JSON document with all that is known of a user.

    Reads the database while it is iterated, a few rows at a time. Raises UserNotFound at once.
    """
    return _pieces(_sections(_user(name)))


def forget(name: str, *, by: Principal | None) -> None:
    """Delete an account with its models and all that is its own, then its name in the ledger.

    By themselves and by administrators. Where the second fails or is killed, a worker goes on with
    it. Raises UserNotFound, and Conflict for the last administrator.
    """
    user_id = _delete(name, by)
    try:
        forgetting.take_out(user_id)
    except DatabaseError:  # such as a deadlock with who writes the last requests just now
        logger.warning("the name of user %d is taken out of the ledger later", user_id)


@audit.act()
def _delete(name: str, by: Principal | None) -> int:
    user = _user(name)
    forgetting.note(user.pk)
    people.delete_user(user.username, with_models=True, by=by)
    return user.pk


def _user(name: str) -> User:
    user = User.objects.filter(username__iexact=name).first()
    if user is None:
        raise UserNotFound(name)
    return user


def _sections(user: User) -> Iterator[Section]:
    account = User.objects.filter(pk=user.pk)
    yield "account", _rows(account, (*_ACCOUNT, "home_team__name"))
    yield "teams", _rows(user.memberships.all(), ("team__name", "role", "created_at"))
    yield "keys", _rows(user.api_keys.all(), _KEYS)
    clients = ("name", "public_key", "fingerprint", "created_at", "last_used_at")
    yield "client_keys", _rows(user.client_keys.all(), clients)
    yield "sessions", _rows(user.browser_sessions.all(), _SESSIONS)
    invites = ("team__name", "role", "note", "created_at", "expires_at", "used_at", "revoked_at")
    yield "invites", _rows(user.invites_made.all(), invites)
    yield "models", _rows(Tag.objects.filter(model__in=people.owned_models(user)), _TAGS)
    yield "jobs", _rows(user.jobs.all(), _JOBS)
    yield "responses", _responses(user)
    yield "chat_folders", _rows(user.chat_folders.all(), ("name", "created_at"))
    yield "chats", _rows(user.chats.all(), _CHATS)
    messages = ChatMessage.objects.filter(chat__owner=user)
    yield "chat_messages", _rows(messages, _MESSAGES, batch=_RESPONSES_BATCH)
    images = ChatImage.objects.filter(chat__owner=user)
    yield "chat_images", _rows(images, _IMAGES, batch=1)  # each may be many megabytes
    requests = LedgerEntry.objects.filter(user_id=user.pk)
    yield "requests", _rows(requests, _REQUESTS, by="began_at")
    yield "hours", _rows(LedgerHour.objects.filter(user_id=user.pk), _HOURS, by="hour")
    yield "acts", _rows(AuditEntry.objects.filter(actor_id=user.pk), _ACTS, by="sequence")


def _responses(user: User) -> Iterator[Row]:
    rows = StoredResponse.objects.filter(owner_id=user.pk)
    for row in _rows(rows, _RESPONSES, batch=_RESPONSES_BATCH):
        texts = {name: msgspec.Raw(row[name].encode()) for name in ("input", "body")}
        yield row | texts


def _rows(
    rows: QuerySet[Any], columns: tuple[str, ...], *, by: str = "pk", batch: int = _BATCH
) -> Iterator[Row]:
    for page in pages(rows, *columns, by=by, at_once=batch):
        for row in page:
            yield {name.replace("__", "_"): row[name] for name in columns}


def _pieces(sections: Iterable[Section]) -> Iterator[bytes]:
    gathered = bytearray()
    for part in _parts(sections):
        gathered += part
        if len(gathered) >= _PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


def _parts(sections: Iterable[Section]) -> Iterator[bytes]:
    before = b"{"
    for name, rows in sections:
        yield before + encode_json(name).strip() + b":["
        comma = b"\n"
        for row in rows:
            yield comma + encode_json(row).strip()
            comma = b",\n"
        yield b"]"
        before = b",\n"
    yield b"}\n"

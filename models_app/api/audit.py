"""`/api/audit`: what administrators did and who signed in, for administrators and auditors. Ours.

Knows no row of the database.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpResponse

from models_app.audit_log import AuditQuestion, AuditRecord, find_entries
from ollamasite.api_views import ReadView
from ollamasite.errors import BadRequest
from ollamasite.http import json_response
from ollamasite.moments import parse_moment
from ollamasite.query_fields import line, number

DEFAULT_LISTED: Final = 50
MAX_LISTED: Final = 500
_LAST: Final = 10**18 - 1


class AuditEntryReply(msgspec.Struct, kw_only=True):
    """One act. `digest` covers it and, by way of the row before it, all that came before."""

    sequence: int
    at: str
    actor: str
    credential: str
    address: str | None
    action: str
    subject: str
    details: dict[str, Any]
    digest: str


class AuditReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/audit`, the newest first. `next`: the `before` of the next page."""

    entries: list[AuditEntryReply]
    next: int | None


class AuditView(ReadView):
    """`GET /api/audit`."""

    async def get(self, request: Any) -> HttpResponse:
        """Tell what was done, the newest first; `action=key` finds `key.create` and the like."""
        limit = number(request.query_params, "limit", default=DEFAULT_LISTED, most=MAX_LISTED)
        question = _question(request.query_params)
        found = await sync_to_async(find_entries)(question, limit=limit + 1)
        has_more = len(found) > limit
        entries = [_reply(record) for record in found[:limit]]
        reply = AuditReply(entries=entries, next=entries[-1].sequence if has_more else None)
        return json_response(reply)


def _question(query: Mapping[str, str]) -> AuditQuestion:
    return AuditQuestion(
        actor=line(query, "actor"),
        action=line(query, "action"),
        text=line(query, "q"),
        since=_moment(query, "since"),
        until=_moment(query, "until"),
        before=number(query, "before", default=0, most=_LAST) or None,
    )


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name, "")
    try:
        return parse_moment(text) if text else None
    except ValueError as error:
        raise BadRequest(f'"{name}" must be a day or a time, such as 2026-01-31') from error


def _reply(record: AuditRecord) -> AuditEntryReply:
    return AuditEntryReply(
        sequence=record.sequence,
        at=record.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        actor=record.actor,
        credential=record.credential,
        address=record.address,
        action=record.action,
        subject=record.subject,
        details=record.details,
        digest=record.digest,
    )

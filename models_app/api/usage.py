"""`/api/usage`: what was used, in sums, in rows and as a file to take along. Ours.

One's own; with `team=lab` what counts to a team, for its maintainers and owners; with `all=1`
everybody's, for auditors and administrators. Knows no row of the database.
"""

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.utils import timezone

from models_app import usage, usage_export
from models_app.ledger_export import Form
from models_app.permissions import Principal
from models_app.usage import GROUPS, Place, RequestRecord, Usage, UsageQuestion
from ollamasite import query_fields
from ollamasite.api_views import ReadView
from ollamasite.errors import BadRequest
from ollamasite.http import json_response
from ollamasite.moments import parse_moment

DEFAULT_LISTED: Final = 50
MAX_LISTED: Final = 500
# Where nobody says since when.
_LATELY: Final = timedelta(days=30)
_GROUP_CHOICES: Final = {"": "", **{group: group for group in GROUPS}}
_FORMS: Final = {"": Form.JSON, **{form.value: form for form in Form}}


class UsageRow(msgspec.Struct, kw_only=True):
    """Sums of a group; `group` is a day, a model and so on, empty for the whole."""

    group: str
    requests: int
    failed: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    compute_us: int


class UsageReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/usage`. `since` is the beginning of the first hour that counts."""

    since: datetime
    until: datetime | None
    group_by: str
    usage: list[UsageRow]
    total: UsageRow


class RequestsReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/usage/requests`, the newest first. `next`: `after` of the next page."""

    requests: list[RequestRecord]
    next: str | None


class UsageView(ReadView):
    """`GET /api/usage`."""

    async def get(self, request: Any) -> HttpResponse:
        """Tell the sums of whole hours, of the last 30 days where no time is named."""
        reply = await sync_to_async(_sums)(request.user, request.query_params)
        return json_response(reply)


class RequestsView(ReadView):
    """`GET /api/usage/requests`."""

    async def get(self, request: Any) -> HttpResponse:
        """Tell the requests one by one, the newest first."""
        reply = await sync_to_async(_page)(request.user, request.query_params)
        return json_response(reply)


class ExportView(ReadView):
    """`GET /api/usage/export`."""

    http_method_names = ["get"]

    async def get(self, request: Any) -> StreamingHttpResponse:
        """Hand out the requests as a file, with `format=csv` in CSV, else in JSON."""
        form = query_fields.choice(request.query_params, "format", _FORMS)
        read = partial(usage.all_pages, request.user, _question(request.query_params))
        return await usage_export.file_of(request.user, read, form, RequestRecord)


def _sums(principal: Principal, query: Mapping[str, str]) -> UsageReply:
    group_by = query_fields.choice(query, "group_by", _GROUP_CHOICES)
    question = _question(query)
    if question.since is None:
        question = dataclasses.replace(question, since=timezone.now() - _LATELY)
    found = usage.sums(principal, question, group_by=group_by)
    since = question.since or timezone.now()
    return UsageReply(
        since=since.replace(minute=0, second=0, microsecond=0),
        until=question.until,
        group_by=group_by,
        usage=[_usage_row(row) for row in found],
        total=_usage_row(usage.total(found)),
    )


def _page(principal: Principal, query: Mapping[str, str]) -> RequestsReply:
    limit = query_fields.number(query, "limit", default=DEFAULT_LISTED, most=MAX_LISTED)
    after = Place.parse(query.get("after", ""))
    found, more = usage.page(principal, _question(query), limit=limit, after=after)
    return RequestsReply(requests=found, next=str(more) if more else None)


def _question(query: Mapping[str, str]) -> UsageQuestion:
    return UsageQuestion(
        since=_moment(query, "since"),
        until=_moment(query, "until"),
        team=query_fields.line(query, "team"),
        is_everybodys=query_fields.choice(query, "all", query_fields.YES_OR_NO),
        user=query_fields.line(query, "user"),
        key=query_fields.line(query, "key"),
        model=query_fields.line(query, "model"),
    )


def _moment(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name, "")
    try:
        return parse_moment(text) if text else None
    except ValueError as error:
        raise BadRequest(f'"{name}" must be a day or a time, such as 2026-01-31') from error


def _usage_row(row: Usage) -> UsageRow:
    return UsageRow(**dataclasses.asdict(row))

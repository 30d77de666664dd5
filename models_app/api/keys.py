"""`/api/keys`: one's API keys, and those of the service accounts that one looks after.

Ours; Ollama has no such. For people who have signed in and for keys without limits; a limited key
may look at itself, rotate itself and end itself. Knows no row of the database.
"""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.utils import timezone

from models_app import keys
from models_app.keys import KeyRecord, KeyRules, NewKey
from models_app.limit_rules import NewLimit
from models_app.permissions import Principal, Scope
from ollamasite import query_fields
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, raw_body, read_body
from ollamasite.durations import parse_duration_s
from ollamasite.errors import BadRequest
from ollamasite.http import json_response
from ollamasite.moments import print_moment

# Nobody else keeps what is shown once.
_SECRET_HEADERS: Final = {"Cache-Control": "no-store"}
# Farther than dates go.
_MAX_LIFE: Final = timedelta(days=36_500)


class KeyLimitBody(msgspec.Struct):
    """A limit of a key's use: a unit, a period and an amount as in `PUT /api/limit-rules`."""

    unit: str = ""
    period: str = ""
    amount: int = 0


class NewKeyBody(msgspec.Struct):
    """The body of `POST /api/keys`. Empty: no such limit.

    `models`: patterns of names; `networks`: CIDR blocks; `team`: to which its use counts;
    `expires_in`: such as `30d`; `owner`: a service account of a team that the caller maintains.
    """

    name: str = ""
    scopes: list[str] = msgspec.field(default_factory=list)
    models: list[str] = msgspec.field(default_factory=list)
    networks: list[str] = msgspec.field(default_factory=list)
    team: str = ""
    expires_in: str = ""
    owner: str = ""
    limits: list[KeyLimitBody] = msgspec.field(default_factory=list)

    def to_rules(self) -> KeyRules:
        """Return what the key may be used for. Raises BadRequest."""
        return KeyRules(
            scopes=tuple(_scope(text) for text in self.scopes),
            models=tuple(self.models),
            networks=tuple(self.networks),
            expires_at=_expiry(self.expires_in),
            team=self.team,
        )


class ChangeKeyBody(msgspec.Struct):
    """The body of `PATCH /api/keys/<prefix>`."""

    name: str = ""


class RotateKeyBody(msgspec.Struct):
    """The body of `POST /api/keys/<prefix>/rotate`. `overlap`: how long the old one stays good."""

    overlap: str = "24h"


class KeyReply(msgspec.Struct, kw_only=True):
    """One key. Empty lists: no such limit. `successor`: the prefix of what it was rotated to."""

    prefix: str
    name: str
    owner: str
    state: Literal["active", "rotated", "expired", "revoked", "ended"]
    scopes: list[str]
    models: list[str]
    networks: list[str]
    team: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    last_used_address: str | None
    successor: str


class KeysReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/keys`."""

    keys: list[KeyReply]


class NewKeyReply(KeyReply, kw_only=True):
    """A key that has just been made. `key` is its secret: shown now and never again."""

    key: str


class KeysView(CallView):
    """`GET` and `POST /api/keys`."""

    http_method_names = ["get", "head", "post"]

    async def get(self, request: Any) -> HttpResponse:
        """List one's keys; with `owner`, somebody's whose keys one looks after."""
        owner = query_fields.line(request.query_params, "owner")
        found = await sync_to_async(keys.list_keys)(request.user, owner_name=owner)
        return json_response(KeysReply(keys=[key_reply(record) for record in found]))

    async def post(self, request: Any) -> HttpResponse:
        """Make a key; the answer has its secret, once."""
        body = await read_body(request, NewKeyBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        return _new_key_response(await sync_to_async(_make)(request.user, body))


class KeyView(CallView):
    """`GET`, `PATCH` and `DELETE /api/keys/<prefix>`."""

    http_method_names = ["get", "head", "patch", "delete"]

    async def get(self, request: Any, prefix: str) -> HttpResponse:
        """Tell about a key."""
        return json_response(key_reply(await sync_to_async(keys.find_key)(request.user, prefix)))

    async def patch(self, request: Any, prefix: str) -> HttpResponse:
        """Call a key something else."""
        body = await read_body(request, ChangeKeyBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        record = await sync_to_async(keys.rename_key)(request.user, prefix, body.name)
        return json_response(key_reply(record))

    async def delete(self, request: Any, prefix: str) -> HttpResponse:
        """End a key now; its successors too, unless `keep_successors=1`, and all open by them."""
        keeps = query_fields.choice(request.query_params, "keep_successors", query_fields.YES_OR_NO)
        await sync_to_async(keys.revoke)(request.user, prefix, keeps_successors=keeps)
        return HttpResponse(status=204)


class RotateKeyView(CallView):
    """`POST /api/keys/<prefix>/rotate`."""

    async def post(self, request: Any, prefix: str) -> HttpResponse:
        """Make a key that takes another's place; the answer has its secret, once."""
        body = RotateKeyBody()
        if raw_body(request):
            body = await read_body(request, RotateKeyBody, "Request", empty_message="")
        overlap = _duration("overlap", body.overlap)
        new = await sync_to_async(keys.rotate_key)(request.user, prefix, overlap=overlap)
        return _new_key_response(new)


def key_reply(record: KeyRecord) -> KeyReply:
    """Return what is told about a key."""
    return KeyReply(**_fields(record))


def _make(principal: Principal, body: NewKeyBody) -> NewKey:
    limits = [NewLimit(**msgspec.structs.asdict(limit)) for limit in body.limits]
    return keys.make_key(
        principal, body.name, body.to_rules(), owner_name=body.owner, limits=limits
    )


def _new_key_response(new: NewKey) -> HttpResponse:
    reply = NewKeyReply(**_fields(new.record), key=new.secret)
    return json_response(reply, status=201, headers=_SECRET_HEADERS)


def _fields(record: KeyRecord) -> dict[str, Any]:
    rules = record.rules
    return {
        "prefix": record.prefix,
        "name": record.name,
        "owner": record.owner,
        "state": record.state,
        "scopes": [scope.value for scope in rules.scopes],
        "models": list(rules.models),
        "networks": list(rules.networks),
        "team": rules.team,
        "created_at": print_moment(record.created_at),
        "expires_at": _moment(rules.expires_at),
        "revoked_at": _moment(record.revoked_at),
        "last_used_at": _moment(record.last_used_at),
        "last_used_address": record.last_used_address,
        "successor": record.successor,
    }


def _moment(at: datetime | None) -> str | None:
    return None if at is None else print_moment(at)


def _scope(text: str) -> Scope:
    if text not in set(Scope):
        raise BadRequest(f'"scopes" may have: {", ".join(Scope)}')
    return Scope(text)


def _expiry(text: str) -> datetime | None:
    return timezone.now() + _duration("expires_in", text) if text else None


def _duration(name: str, text: str) -> timedelta:
    try:
        seconds = parse_duration_s(text.strip())
    except ValueError as error:
        raise BadRequest(f'"{name}" must be a duration such as 12h or 30d') from error
    if seconds > _MAX_LIFE.total_seconds():
        raise BadRequest(f'"{name}" must be at most {_MAX_LIFE.days} days')
    return timedelta(seconds=seconds)

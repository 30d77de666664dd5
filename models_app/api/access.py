"""`/api/access`: who may see and use a model, for those who may change that. Ours.

    GET   /api/access?model=alice/tuned
    PATCH /api/access
    {"model": "alice/tuned", "visibility": "everyone", "add": [{"to": "bob", "verb": "push"}],
     "remove": [{"to": "vision", "verb": "use"}], "pinned": false, "cache_scope": "user"}

`to` is a user or a team: no two have one name. What a body leaves out stays; all of it is done or
nothing. A tag in the name means nothing. Knows no row of the database.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpResponse

from models_app.grants import AccessChange, Granted, ModelAccess, change_access, read_access
from models_app.model_access import GRANTED_VERBS
from models_app.models import CacheScope, Visibility
from models_app.names import ModelName
from models_app.permissions import Principal, Verb
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from ollamasite.errors import BadRequest
from ollamasite.http import json_response

E = TypeVar("E", Visibility, CacheScope, Verb)


class GrantBody(msgspec.Struct):
    """A right that somebody is given, or has: `verb` is `use`, `pull`, `push` or `manage`."""

    to: str = ""
    verb: str = ""


class AccessBody(msgspec.Struct):
    """The body of `PATCH /api/access`; what is empty or null stays."""

    model: str = ""
    visibility: str = ""
    cache_scope: str = ""
    pinned: bool | None = None
    add: list[GrantBody] = msgspec.field(default_factory=list)
    remove: list[GrantBody] = msgspec.field(default_factory=list)


class GrantReply(msgspec.Struct, kw_only=True):
    """A right that a user or a team has been given."""

    to: str
    kind: str
    verb: str


class UsedByReply(msgspec.Struct, kw_only=True):
    """Who may use it: everyone, or these users and the members of these teams."""

    everyone: bool
    users: list[str]
    teams: list[str]


class AccessReply(msgspec.Struct, kw_only=True):
    """What holds for a model; `owner` and `team` are null for none."""

    model: str
    owner: str | None
    team: str | None
    visibility: str
    cache_scope: str
    pinned: bool
    grants: list[GrantReply]
    used_by: UsedByReply


class AccessView(CallView):
    """`GET` and `PATCH /api/access`."""

    http_method_names = ["get", "head", "patch"]

    async def get(self, request: Any) -> HttpResponse:
        """Tell who may see and use a model."""
        name = ModelName.parse(request.query_params.get("model", ""))
        access = await sync_to_async(read_access)(name, by=request.user)
        return json_response(_reply(access))

    async def patch(self, request: Any) -> HttpResponse:
        """Change who may see and use a model, and tell what holds now."""
        body = await read_body(
            request, AccessBody, "AccessRequest", empty_message=NATIVE_EMPTY_BODY
        )
        return json_response(_reply(await sync_to_async(_change)(request.user, body)))


def _change(principal: Principal, body: AccessBody) -> ModelAccess:
    change = AccessChange(
        visibility=_chosen(Visibility, "visibility", body.visibility),
        cache_scope=_chosen(CacheScope, "cache_scope", body.cache_scope),
        is_pinned=body.pinned,
        add=tuple(_granted(body.add)),
        remove=tuple(_granted(body.remove)),
    )
    return change_access(ModelName.parse(body.model), change, by=principal)


def _granted(grants: Iterable[GrantBody]) -> Iterable[Granted]:
    for grant in grants:
        if grant.verb not in list(GRANTED_VERBS):
            raise BadRequest(f'"verb" must be one of {", ".join(GRANTED_VERBS)}')
        if not grant.to or not (grant.to.isascii() and grant.to.isprintable()):
            raise BadRequest('"to" must be the name of a user or a team')
        yield Granted(grant.to, Verb(grant.verb))


def _chosen(kind: type[E], name: str, text: str) -> E | None:
    if not text:
        return None
    if text not in [str(choice) for choice in kind]:
        raise BadRequest(f'"{name}" must be one of {", ".join(map(str, kind))}')
    return kind(text)


def _reply(access: ModelAccess) -> AccessReply:
    return AccessReply(
        model=access.name,
        owner=access.owner or None,
        team=access.team or None,
        visibility=str(access.visibility),
        cache_scope=str(access.cache_scope),
        pinned=access.is_pinned,
        grants=[
            GrantReply(to=grant.to, kind="team" if grant.is_team else "user", verb=str(grant.verb))
            for grant in access.grants
        ],
        used_by=UsedByReply(
            everyone=access.visibility is Visibility.EVERYONE,
            users=access.using_users,
            teams=access.using_teams,
        ),
    )

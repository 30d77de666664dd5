"""`/api/me`: who the caller is, to this site. Ours. Knows no row of the database."""

from typing import Any, Final, cast

from asgiref.sync import sync_to_async
from django.http import HttpResponse

from models_app import directory, keys, people
from models_app.api.people_schemas import ChangeMeBody, MeReply, OwnKeyReply, PlaceReply
from models_app.permissions import CredentialKind, Principal
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from ollamasite.http import json_response
from ollamasite.moments import print_moment

_KINDS: Final = {
    CredentialKind.KEY: "key",
    CredentialKind.SESSION: "session",
    CredentialKind.SIGNATURE: "signature",
}


class MeView(CallView):
    """`GET` and `PATCH /api/me`."""

    http_method_names = ["get", "head", "patch"]

    async def get(self, request: Any) -> HttpResponse:
        """Tell who one is: roles, teams, and what the key is good for that one has presented."""
        return json_response(await sync_to_async(_told)(request.user))

    async def patch(self, request: Any) -> HttpResponse:
        """Choose the team that one's use counts to where a key names none."""
        body = await read_body(request, ChangeMeBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        return json_response(await sync_to_async(_change)(request.user, body))


def _change(principal: Principal, body: ChangeMeBody) -> MeReply:
    if body.home_team is not None:
        people.set_home_team(principal.username, body.home_team, by=principal)
    return _told(principal)


def _told(principal: Principal) -> MeReply:
    record = directory.find_user(principal.username, by=principal)
    key = keys.presented_key(principal)
    return MeReply(
        name=record.username,
        is_admin=record.is_admin,
        site_role=record.site_role.value,
        service_of=record.service_of,
        home_team=record.home_team,
        team=(key.rules.team if key else "") or record.home_team,
        teams=[PlaceReply(team=place.team, role=place.role.value) for place in record.teams],
        credential=cast("Any", _KINDS[principal.kind]),
        key=_key_reply(key) if key else None,
    )


def _key_reply(key: keys.KeyRecord) -> OwnKeyReply:
    rules = key.rules
    return OwnKeyReply(
        name=key.name,
        prefix=key.prefix,
        scopes=[scope.value for scope in rules.scopes],
        models=list(rules.models),
        networks=list(rules.networks),
        team=rules.team,
        expires_at=print_moment(rules.expires_at) if rules.expires_at else None,
    )

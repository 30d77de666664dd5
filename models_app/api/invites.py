"""`/api/invites`: links by which people come in. Ours; Ollama has no such.

Administrators make them for the site and every team, owners for their teams. Knows no row of the
database.
"""

from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponse

from models_app import invites
from models_app.api.pages import DEFAULT_LISTED, MAX_LISTED
from models_app.api.people_schemas import (
    InvitesReply,
    NewInviteBody,
    NewInviteReply,
    invite_reply,
    team_role,
)
from models_app.invites import NewInvite
from models_app.permissions import Principal
from ollamasite import query_fields
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from ollamasite.challenges import asked_of_request
from ollamasite.http import json_response

_DAY_S: Final = 86400.0
_MAX_ID: Final = 2**31
_OPEN_OR_ALL: Final = {"": True, "open": True, "all": False}


class InvitesView(CallView):
    """`GET` and `POST /api/invites`."""

    http_method_names = ["get", "head", "post"]

    async def get(self, request: Any) -> HttpResponse:
        """List invites that one may revoke, the newest first: the open ones, or `state=all`."""
        query = request.query_params
        limit = query_fields.number(query, "limit", default=DEFAULT_LISTED, most=MAX_LISTED)
        found = await sync_to_async(invites.list_invites)(
            team_name=query_fields.line(query, "team"),
            only_open=query_fields.choice(query, "state", _OPEN_OR_ALL),
            limit=limit + 1,
            before=query_fields.number(query, "before", default=_MAX_ID, most=_MAX_ID),
            by=request.user,
        )
        shown = [invite_reply(record) for record in found[:limit]]
        following = shown[-1].id if len(found) > limit else None
        return json_response(InvitesReply(invites=shown, next=following))

    async def post(self, request: Any) -> HttpResponse:
        """Make an invite; the answer has its address, which is shown this once."""
        body = await read_body(request, NewInviteBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        made = await sync_to_async(_make)(request.user, body)
        origin = asked_of_request(request._request).origin  # noqa: SLF001 - DRF's own
        reply = NewInviteReply(invite=invite_reply(made.record), url=origin + made.path)
        return json_response(reply, status=201, headers={"Cache-Control": "no-store"})


class InviteView(CallView):
    """`DELETE /api/invites/<id>`."""

    http_method_names = ["delete"]

    async def delete(self, request: Any, invite_id: str) -> HttpResponse:
        """End an invite that nobody has used."""
        await sync_to_async(invites.revoke_invite)(_number(invite_id), by=request.user)
        return HttpResponse(status=204)


def _make(principal: Principal, body: NewInviteBody) -> NewInvite:
    return invites.create_invite(
        team_name=body.team,
        role=team_role(body.role),
        note=body.note,
        kept_s=None if body.days is None else body.days * _DAY_S,
        by=principal,
    )


def _number(text: str) -> int:
    """Return the id in a path; what is none stands for an invite that does not exist."""
    is_number = text.isascii() and text.isdigit() and len(text) < len(str(_MAX_ID))
    return int(text) if is_number else 0

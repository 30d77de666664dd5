"""`/api/teams`: teams, who is in them, their service accounts. Ours; Ollama has no such.

A team that one does not belong to is not found, like one that does not exist. Knows no row of the
database.
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponse

from models_app import directory, teams
from models_app.api import pages
from models_app.api.people_schemas import (
    ChangeTeamBody,
    MembersReply,
    NewServiceAccountBody,
    NewTeamBody,
    RoleBody,
    TeamReply,
    TeamsReply,
    member_reply,
    team_reply,
    team_role,
)
from models_app.permissions import Principal
from ollamasite import query_fields
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, ReadView, read_body
from ollamasite.http import json_response


class TeamsView(CallView):
    """`GET` and `POST /api/teams`."""

    http_method_names = ["get", "head", "post"]

    async def get(self, request: Any) -> HttpResponse:
        """List one's teams by name; administrators and auditors see all."""
        page = pages.read(request)
        found = await sync_to_async(directory.list_teams)(
            search=query_fields.line(request.query_params, "q"),
            limit=page.limit + 1,
            after=page.after,
            by=request.user,
        )
        shown = [team_reply(record) for record in found[: page.limit]]
        return json_response(TeamsReply(teams=shown, next=page.next_name(found, shown)))

    async def post(self, request: Any) -> HttpResponse:
        """Make a team; administrators do."""
        body = await read_body(request, NewTeamBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        return json_response(await sync_to_async(_add)(request.user, body), status=201)


class TeamView(CallView):
    """`GET`, `PATCH` and `DELETE /api/teams/<name>`."""

    http_method_names = ["get", "head", "patch", "delete"]

    async def get(self, request: Any, name: str) -> HttpResponse:
        """Tell about a team."""
        record = await sync_to_async(directory.find_team)(name, by=request.user)
        return json_response(team_reply(record))

    async def patch(self, request: Any, name: str) -> HttpResponse:
        """Change a team's description or, for administrators, what its members may use."""
        body = await read_body(request, ChangeTeamBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        return json_response(await sync_to_async(_change)(request.user, name, body))

    async def delete(self, request: Any, name: str) -> HttpResponse:
        """Delete a team; with `with_models=1` also where it has models."""
        with_models = query_fields.choice(
            request.query_params, "with_models", query_fields.YES_OR_NO
        )
        await sync_to_async(teams.delete_team)(name, with_models=with_models, by=request.user)
        return HttpResponse(status=204)


class MembersView(ReadView):
    """`GET /api/teams/<name>/members`."""

    async def get(self, request: Any, name: str) -> HttpResponse:
        """List who is in a team, by name."""
        return await _members(request, name, only_services=False)


class MemberView(CallView):
    """`PUT` and `DELETE /api/teams/<name>/members/<user>`."""

    http_method_names = ["put", "delete"]

    async def put(self, request: Any, name: str, user: str) -> HttpResponse:
        """Change a member's role, by owners; administrators take others in, too."""
        body = await read_body(request, RoleBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        await sync_to_async(teams.set_member)(name, user, team_role(body.role), by=request.user)
        return HttpResponse(status=204)

    async def delete(self, request: Any, name: str, user: str) -> HttpResponse:
        """Put somebody out of a team; everybody may leave."""
        await sync_to_async(teams.remove_member)(name, user, by=request.user)
        return HttpResponse(status=204)


class ServiceAccountsView(CallView):
    """`GET` and `POST /api/teams/<name>/service-accounts`."""

    http_method_names = ["get", "head", "post"]

    async def get(self, request: Any, name: str) -> HttpResponse:
        """List a team's service accounts, by name."""
        return await _members(request, name, only_services=True)

    async def post(self, request: Any, name: str) -> HttpResponse:
        """Make an account for a team's programs; its maintainers make keys for it."""
        body = await read_body(
            request, NewServiceAccountBody, "Request", empty_message=NATIVE_EMPTY_BODY
        )
        await sync_to_async(teams.create_service_account)(
            name, body.name, team_role(body.role), by=request.user
        )
        return HttpResponse(status=201)


async def _members(request: Any, name: str, *, only_services: bool) -> HttpResponse:
    page = pages.read(request)
    found = await sync_to_async(directory.list_members)(
        name,
        only_services=only_services,
        limit=page.limit + 1,
        after=page.after,
        by=request.user,
    )
    shown = [member_reply(record) for record in found[: page.limit]]
    return json_response(MembersReply(members=shown, next=page.next_name(found, shown)))


def _add(principal: Principal, body: NewTeamBody) -> TeamReply:
    teams.create_team(body.name, description=body.description, owner=body.owner, by=principal)
    return team_reply(directory.find_team(body.name, by=principal))


def _change(principal: Principal, name: str, body: ChangeTeamBody) -> TeamReply:
    patterns = body.allowed_models
    teams.change_team(
        name,
        description=body.description,
        allowed_models=None if patterns is None else " ".join(patterns),
        by=principal,
    )
    return team_reply(directory.find_team(name, by=principal))

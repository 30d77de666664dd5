"""`/api/users`: accounts, for administrators and, to look at, auditors. Ours; Ollama has no such.

Knows no row of the database.
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpResponse

from models_app import directory, people
from models_app.api import pages
from models_app.api.people_schemas import (
    ChangeUserBody,
    NewUserBody,
    PasswordLinkReply,
    UserReply,
    UsersReply,
    site_role,
    user_reply,
)
from models_app.permissions import Principal
from ollamasite import query_fields
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from ollamasite.challenges import asked_of_request
from ollamasite.http import json_response

_STATES = {word: word for word in directory.USER_STATES}


class UsersView(CallView):
    """`GET` and `POST /api/users`."""

    http_method_names = ["get", "head", "post"]

    async def get(self, request: Any) -> HttpResponse:
        """List accounts by name; `q` is a part of it, `state` one of active, waiting and others."""
        query, page = request.query_params, pages.read(request)
        found = await sync_to_async(directory.list_users)(
            search=query_fields.line(query, "q"),
            state=query_fields.choice(query, "state", _STATES),
            limit=page.limit + 1,
            after=page.after,
            by=request.user,
        )
        shown = [user_reply(record) for record in found[: page.limit]]
        return json_response(UsersReply(users=shown, next=page.next_name(found, shown)))

    async def post(self, request: Any) -> HttpResponse:
        """Make an account; the answer has a link by which its owner chooses a password."""
        body = await read_body(request, NewUserBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        path = await sync_to_async(_add)(request.user, body)
        return _link_response(request, body.name, path, status=201)


class UserView(CallView):
    """`GET`, `PATCH` and `DELETE /api/users/<name>`."""

    http_method_names = ["get", "head", "patch", "delete"]

    async def get(self, request: Any, name: str) -> HttpResponse:
        """Tell about an account."""
        record = await sync_to_async(directory.find_user)(name, by=request.user)
        return json_response(user_reply(record))

    async def patch(self, request: Any, name: str) -> HttpResponse:
        """Change somebody's roles or home team."""
        body = await read_body(request, ChangeUserBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        return json_response(await sync_to_async(_change)(request.user, name, body))

    async def delete(self, request: Any, name: str) -> HttpResponse:
        """Delete an account; with `with_models=1` also where it has models."""
        with_models = query_fields.choice(
            request.query_params, "with_models", query_fields.YES_OR_NO
        )
        await sync_to_async(people.delete_user)(name, with_models=with_models, by=request.user)
        return HttpResponse(status=204)


class ApproveView(CallView):
    """`POST /api/users/<name>/approve`."""

    async def post(self, request: Any, name: str) -> HttpResponse:
        """Let somebody in who has signed up. To refuse them, delete the account."""
        await sync_to_async(people.approve)(name, by=request.user)
        return await _shown(request, name)


class DeactivateView(CallView):
    """`POST /api/users/<name>/deactivate`."""

    async def post(self, request: Any, name: str) -> HttpResponse:
        """End keys, sessions, streams and jobs of an account; a team's service account's too."""
        await sync_to_async(people.deactivate)(name, by=request.user)
        return HttpResponse(status=204)


class ActivateView(CallView):
    """`POST /api/users/<name>/activate`."""

    async def post(self, request: Any, name: str) -> HttpResponse:
        """Let somebody in again; keys that have ended stay ended."""
        await sync_to_async(people.activate)(name, by=request.user)
        return HttpResponse(status=204)


class EndSessionsView(CallView):
    """`POST /api/users/<name>/sessions/end`."""

    async def post(self, request: Any, name: str) -> HttpResponse:
        """Sign somebody out of every browser; one may do so to oneself."""
        await sync_to_async(people.end_sessions)(name, by=request.user)
        return HttpResponse(status=204)


class PasswordLinkView(CallView):
    """`POST /api/users/<name>/password-link`."""

    async def post(self, request: Any, name: str) -> HttpResponse:
        """Make a link by which somebody chooses a new password, once."""
        path = await sync_to_async(people.password_link)(name, by=request.user)
        return _link_response(request, name, path, status=201)


def _add(principal: Principal, body: NewUserBody) -> str:
    role = site_role(body.site_role)
    return people.add_user_with_link(
        body.name, is_admin=body.is_admin, site_role=role, by=principal
    )


def _change(principal: Principal, name: str, body: ChangeUserBody) -> UserReply:
    role = None if body.site_role is None else site_role(body.site_role)
    people.change_user(
        name,
        is_admin=body.is_admin,
        site_role=role,
        home_team=body.home_team,
        by=principal,
    )
    return user_reply(directory.find_user(name, by=principal))


async def _shown(request: Any, name: str) -> HttpResponse:
    record = await sync_to_async(directory.find_user)(name, by=request.user)
    return json_response(user_reply(record))


def _link_response(request: Any, name: str, path: str, *, status: int) -> HttpResponse:
    origin = asked_of_request(request._request).origin  # noqa: SLF001 - DRF's own
    reply = PasswordLinkReply(
        name=name, url=origin + path, expires_in_seconds=settings.PASSWORD_RESET_TIMEOUT
    )
    return json_response(reply, status=status, headers={"Cache-Control": "no-store"})

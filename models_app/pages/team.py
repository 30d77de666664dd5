"""The page of one team, and what is done there. Async, as what is left of limits is asked.

Knows no row of the database.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from models_app import directory, limits, page_forms, people, team_overview, teams
from models_app.directory import TeamRecord
from models_app.errors import LimitsUnavailable
from models_app.limits import LimitState
from models_app.page_forms import PageForm
from models_app.page_requests import allow, principal_of
from models_app.pages.teams import show_link
from models_app.permissions import Principal, TeamPlace, TeamRole
from models_app.team_forms import (
    AllowedModelsForm,
    DeleteTeamForm,
    DescriptionForm,
    InviteForm,
    MemberForm,
    RoleForm,
    ServiceAccountForm,
    TeamForm,
)


@never_cache
@allow("GET")
async def team(request: HttpRequest, name: str) -> HttpResponse:
    """Show a team."""
    return await _shown(request, name)


@never_cache
@allow("POST")
async def describe(request: HttpRequest, name: str) -> HttpResponse:
    """Change what is said of a team."""
    return await _saved(request, name, DescriptionForm(request.POST), "It says so now.")


@never_cache
@allow("POST")
async def allow_models(request: HttpRequest, name: str) -> HttpResponse:
    """Change which shared models a team's members may use."""
    return await _saved(request, name, AllowedModelsForm(request.POST), "The list is changed.")


@never_cache
@allow("POST")
async def add_member(request: HttpRequest, name: str) -> HttpResponse:
    """Take somebody in."""
    return await _saved(request, name, MemberForm(request.POST), "They are in the team.")


@never_cache
@allow("POST")
async def change_role(request: HttpRequest, name: str, user: str) -> HttpResponse:
    """Make a member something else."""
    form = RoleForm(request.POST, username=user)
    return await _saved(request, name, form, f"The role of {user} is changed.")


@never_cache
@allow("POST")
async def remove_member(request: HttpRequest, name: str, user: str) -> HttpResponse:
    """Put somebody out, or leave."""
    principal = principal_of(request)
    is_done = await _done(
        request, lambda: teams.remove_member(name, user, by=principal), f"{user} has left {name}."
    )
    has_left = is_done and user.lower() == principal.username.lower()
    return redirect("teams") if has_left else redirect("team", name)


@never_cache
@allow("POST")
async def add_service(request: HttpRequest, name: str) -> HttpResponse:
    """Make an account for a team's programs."""
    said = "The account is there. Make a key for it, as one of its maintainers."
    return await _saved(request, name, ServiceAccountForm(request.POST), said)


@never_cache
@allow("POST")
async def stop_service(request: HttpRequest, name: str, user: str) -> HttpResponse:
    """Deactivate a service account: its keys end."""
    principal = principal_of(request)
    account = await sync_to_async(directory.find_service)(name, user, by=principal)
    await _done(
        request,
        lambda: people.deactivate(account.username, by=principal),
        f"{account.username} is deactivated, and its keys have ended.",
    )
    return redirect("team", name)


@never_cache
@allow("POST")
async def start_service(request: HttpRequest, name: str, user: str) -> HttpResponse:
    """Let a service account in again; it needs new keys."""
    principal = principal_of(request)
    account = await sync_to_async(directory.find_service)(name, user, by=principal)
    await _done(
        request,
        lambda: people.activate(account.username, by=principal),
        f"{account.username} is active again: it needs new keys.",
    )
    return redirect("team", name)


@never_cache
@allow("POST")
async def invite(request: HttpRequest, name: str) -> HttpResponse:
    """Make an invite to a team; the answer has its link, this once."""
    form = InviteForm(request.POST)
    made = await sync_to_async(form.make)(principal_of(request), name)
    if made is None:
        return await _shown(request, name, status=400, invite_form=form)
    return show_link(request, made)


@never_cache
@allow("POST")
async def delete(request: HttpRequest, name: str) -> HttpResponse:
    """Delete a team whose name was typed."""
    form = DeleteTeamForm(request.POST)
    if not await sync_to_async(form.save)(principal_of(request), name):
        return await _shown(request, name, status=400, delete_form=form)
    messages.success(request, f"The team {name} is deleted.")
    return redirect("teams")


async def _saved(request: HttpRequest, name: str, form: TeamForm, said: str) -> HttpResponse:
    if not await sync_to_async(form.save)(principal_of(request), name):
        return await _shown(request, name, status=400, **{form.place: form})
    messages.success(request, said)
    return redirect("team", name)


async def _done(request: HttpRequest, act: page_forms.Act, said: str) -> bool:
    """Do what has no form, and say so, or why it cannot be done."""
    fault = await sync_to_async(page_forms.fault_of)(act)
    messages.add_message(request, messages.ERROR if fault else messages.SUCCESS, fault or said)
    return not fault


async def _shown(
    request: HttpRequest, name: str, *, status: int = 200, **forms: PageForm
) -> HttpResponse:
    principal = principal_of(request)
    after = request.GET.get("after", "").replace("\0", "")
    found = await sync_to_async(team_overview.read)(name, by=principal, after=after)
    context: dict[str, Any] = {
        "found": found,
        "limits": await _limits(principal, found.team),
        "roles": list(TeamRole),
        "description_form": DescriptionForm(initial={"description": found.team.description}),
        "allowed_form": AllowedModelsForm(
            initial={"allowed_models": " ".join(found.team.allowed_models)}
        ),
        "member_form": MemberForm(),
        "service_form": ServiceAccountForm(),
        "invite_form": InviteForm(),
        "delete_form": DeleteTeamForm(),
        **forms,
    }
    # On a thread: with many members it takes as long as many tokens of others' answers.
    answer = partial(render, request, "models_app/team.html", context, status=status)
    return await sync_to_async(answer)()


async def _limits(principal: Principal, found: TeamRecord) -> list[LimitState] | None:
    """Return what a team's limits leave; None: nobody can tell now."""
    place = TeamPlace(team_id=found.team_id, name=found.name, role=TeamRole.VIEWER)
    try:
        states = await limits.look(replace(principal, team=place))
    except LimitsUnavailable:
        return None
    return [state for state in states if state.limit.kind == "team"]

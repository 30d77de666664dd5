"""The page of one's teams, and of invites to the site. Know no row of the database."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from models_app import authority, directory, invites
from models_app.invites import NewInvite
from models_app.page_requests import allow, principal_of
from models_app.team_forms import InviteForm, NewTeamForm

_A_PAGE = 100
_MOST_INVITES = 200


@never_cache
@allow("GET", "POST")
def team_list(request: HttpRequest) -> HttpResponse:
    """Show one's teams, to administrators and auditors all; POST makes one."""
    principal = principal_of(request)
    form = NewTeamForm(request.POST if request.method == "POST" else None)
    if form.is_bound and (name := form.save(principal)):
        messages.success(request, f"The team {name} is there. Invite its people.")
        return redirect("team", name)
    after = request.GET.get("after", "").replace("\0", "")
    teams = directory.list_teams(limit=_A_PAGE + 1, after=after, by=principal)
    context = {"form": form, "teams": teams[:_A_PAGE], "is_admin": authority.is_admin(principal)}
    context["following"] = teams[_A_PAGE - 1].name if len(teams) > _A_PAGE else ""
    return render(request, "models_app/teams.html", context, status=400 if form.is_bound else 200)


@never_cache
@allow("GET", "POST")
def invite_list(request: HttpRequest) -> HttpResponse:
    """Show invites that one may end; POST makes one to the site, whose link is shown this once."""
    principal = principal_of(request)
    form = InviteForm(request.POST if request.method == "POST" else None)
    made = form.make(principal) if form.is_bound else None
    if made is not None:
        return show_link(request, made)
    found = invites.list_invites(limit=_MOST_INVITES, by=principal)
    context = {
        "form": form,
        "open": [invite for invite in found if invite.state == "open"],
        "over": [invite for invite in found if invite.state != "open"],
        "is_admin": authority.is_admin(principal),
    }
    return render(request, "models_app/invites.html", context, status=400 if form.is_bound else 200)


@never_cache
@allow("POST")
def revoke_invite(request: HttpRequest, invite_id: int) -> HttpResponse:
    """End an invite that nobody has used, and go back to the list it was in."""
    team = invites.revoke_invite(invite_id, by=principal_of(request)).team
    messages.success(request, "The invite is revoked: its link is good for nothing.")
    return redirect("team", team) if team and "at_team" in request.POST else redirect("invites")


def show_link(request: HttpRequest, made: NewInvite) -> HttpResponse:
    """Answer with an invite that has just been made. Nobody keeps this answer."""
    link = request.build_absolute_uri(made.path)
    context = {"invite": made.record, "link": link}
    return render(request, "models_app/invite_made.html", context, status=201)

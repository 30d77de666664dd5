"""The page about oneself: account, teams, sessions, one's data. Knows no row of the database."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from models_app import browser_sessions, directory
from models_app.browser_names import browser_name
from models_app.page_requests import allow, principal_of
from models_app.profile_forms import HomeTeamForm


@never_cache
@allow("GET")
def profile(request: HttpRequest) -> HttpResponse:
    """Show what one is here, and where one is signed in."""
    return _shown(request)


@never_cache
@allow("POST")
def home_team(request: HttpRequest) -> HttpResponse:
    """Choose the team that one's use counts to."""
    form = HomeTeamForm(request.POST, by=principal_of(request))
    if not form.save():
        return _shown(request, status=400, home_form=form)
    messages.success(request, "Your use counts there from now on.")
    return redirect("profile")


def _shown(request: HttpRequest, *, status: int = 200, **forms: HomeTeamForm) -> HttpResponse:
    principal = principal_of(request)
    record = directory.find_user(principal.username, by=principal)
    sessions = browser_sessions.list_sessions(principal)
    context: dict[str, Any] = {
        "record": record,
        "email": getattr(request.user, "email", ""),
        "sessions": [(session, browser_name(session.agent)) for session in sessions],
        "home_form": HomeTeamForm(by=principal, initial={"team": record.home_team}),
        **forms,
    }
    return render(request, "models_app/profile.html", context, status=status)

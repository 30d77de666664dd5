"""The end of one's sessions in other browsers. Knows no row of the database."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache

from models_app import browser_sessions, sign_ins
from models_app.page_requests import allow, principal_of


@never_cache
@allow("POST")
def end(request: HttpRequest, session_id: int) -> HttpResponse:
    """End one of one's sessions."""
    browser_sessions.end_session(session_id, by=principal_of(request))
    messages.success(request, "The session is over: whoever has it must sign in again.")
    return redirect("profile")


@never_cache
@allow("POST")
def end_others(request: HttpRequest) -> HttpResponse:
    """End all of one's sessions but this one."""
    sign_ins.end_other_sessions(request, principal_of(request))
    messages.success(request, "You are signed out everywhere else.")
    return redirect("profile")

"""The page of one API key, and what is done to it there. Knows no row of the database."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from models_app import day_chart, key_overview, keys
from models_app.key_forms import RenameKeyForm, RotateKeyForm
from models_app.page_requests import allow, principal_of
from models_app.pages.keys import show_secret


@never_cache
@allow("GET")
def key(request: HttpRequest, prefix: str) -> HttpResponse:
    """Show a key: what it is for, what it was used for."""
    return _shown(request, prefix)


@never_cache
@allow("POST")
def rename(request: HttpRequest, prefix: str) -> HttpResponse:
    """Call a key something else."""
    form = RenameKeyForm(request.POST)
    renamed = form.rename(principal_of(request), prefix)
    if renamed is None:
        return _shown(request, prefix, status=400, rename_form=form)
    messages.success(request, f"The key is called {renamed.name} now.")
    return redirect("key", prefix)


@never_cache
@allow("POST")
def rotate(request: HttpRequest, prefix: str) -> HttpResponse:
    """Make a key that takes another's place; the answer has its secret, this once."""
    form = RotateKeyForm(request.POST)
    made = form.rotate(principal_of(request), prefix)
    if made is None:
        return _shown(request, prefix, status=400, rotate_form=form)
    return show_secret(request, made, replaced=prefix)


@never_cache
@allow("POST")
def revoke(request: HttpRequest, prefix: str) -> HttpResponse:
    """End a key now, with those that have taken its place unless they are to stay."""
    keeps = "keep_successors" in request.POST
    keys.revoke(principal_of(request), prefix, keeps_successors=keeps)
    messages.success(request, "The key is revoked: nothing is answered to it any longer.")
    return redirect("key", prefix)


def _shown(request: HttpRequest, prefix: str, *, status: int = 200, **forms: Any) -> HttpResponse:
    principal = principal_of(request)
    card = key_overview.key_card(principal, prefix)
    days = key_overview.days_of_use(principal, prefix)
    context = {
        "card": card,
        "may_change": keys.may_change(principal, card.key),
        "days": days,
        "chart": day_chart.bars([(day.day, day.tokens) for day in days]),
        "rename_form": RenameKeyForm(initial={"name": card.key.name}),
        "rotate_form": RotateKeyForm(),
        **forms,
    }
    return render(request, "models_app/key.html", context, status=status)

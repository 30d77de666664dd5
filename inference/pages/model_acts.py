"""What is done with a model from its page: load, unload, pin, copy, delete, share.

Each act is a form post and leads back to a page with a line that says what has happened. Those that
need words or a name typed have a page of their own. Async, as the engine is asked.
"""

from collections.abc import Awaitable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from inference import nodes
from inference.pages import model_forms
from inference.pages.model_forms import (
    CopyForm,
    DeleteForm,
    GrantForm,
    LoadForm,
    RevokeForm,
    VisibilityForm,
)
from models_app import grants
from models_app.page_forms import sentence_of
from models_app.page_requests import allow, principal_of
from models_app.permissions import Principal, Verb
from ollamasite.errors import ServiceError
from registry import catalogue
from registry.catalogue import Sheet


@allow("POST")
async def load(request: HttpRequest, name: str) -> HttpResponse:
    """Bring a model into memory; the answer comes when it is there."""
    principal = principal_of(request)
    sheet = await sync_to_async(_sheet_for)(principal, name, Verb.USE)
    wish = LoadForm(request.POST)
    act = nodes.load(principal, sheet.link, keep_alive_s=wish.keep_alive_s)
    await _tell(request, act, f"{sheet.model.name} is in memory.")
    return redirect("model", name=sheet.link)


@allow("POST")
async def unload(request: HttpRequest, name: str) -> HttpResponse:
    """Send a model out of memory when what it is doing has ended."""
    principal = principal_of(request)
    sheet = await sync_to_async(_sheet_for)(principal, name, Verb.USE)
    told = f"{sheet.model.name} leaves memory when its answers have ended."
    await _tell(request, nodes.unload(principal, sheet.link), told)
    return redirect("model", name=sheet.link)


@allow("POST")
async def pin(request: HttpRequest, name: str) -> HttpResponse:
    """Keep a model in memory for good, or no longer; for those who look after the site."""
    principal = principal_of(request)
    is_pinned = request.POST.get("pinned") == "1"
    sheet = await sync_to_async(_pin)(principal, name, is_pinned=is_pinned)
    told = f"{sheet.base_name} {'stays in memory' if is_pinned else 'leaves memory like others'}."
    is_loaded = sheet.model.digest in (await nodes.loaded_digests() or ())
    # The node learns of it by the next request: by this one.
    await _tell(
        request, nodes.load(principal, sheet.link) if is_pinned or is_loaded else None, told
    )
    return redirect("model", name=sheet.link)


@never_cache
@allow("GET", "POST")
def copy(request: HttpRequest, name: str) -> HttpResponse:
    """Give a model one more name."""
    principal = principal_of(request)
    sheet = _sheet_for(principal, name, Verb.PULL)
    form = CopyForm(request.POST or None, sheet=sheet, by=principal)
    if request.method == "POST" and form.do():
        messages.success(request, f"{sheet.model.name} is now {form.made} as well.")
        return redirect("model", name=form.made)
    return _page(request, "inference/model_copy.html", {"sheet": sheet, "form": form})


@never_cache
@allow("GET", "POST")
def delete(request: HttpRequest, name: str) -> HttpResponse:
    """Delete a tag or a model, once its name has been typed."""
    principal = principal_of(request)
    sheet = _sheet_for(principal, name, Verb.MANAGE)
    form = DeleteForm(request.POST or None, sheet=sheet, by=principal)
    if request.method == "POST" and form.do():
        messages.success(request, f"{form.cleaned_data['typed']} is deleted.")
        return redirect("models")
    return _page(request, "inference/model_delete.html", {"sheet": sheet, "form": form})


@never_cache
@allow("GET", "POST")
def access(request: HttpRequest, name: str) -> HttpResponse:
    """Show and change who sees and uses a model."""
    principal = principal_of(request)
    sheet = _sheet_for(principal, name, Verb.MANAGE)
    forms = _access_forms(request, sheet, principal)
    asked = forms.get(request.POST.get("act", ""))
    if request.method == "POST" and asked is not None and asked.do():
        messages.success(request, "It is changed, for everybody, from now on.")
        return redirect("model-access", name=sheet.link)
    granted = [(each, model_forms.granted_words(each.verb)) for each in _granted(sheet)]
    context = {"sheet": sheet, "forms": forms, "granted": granted}
    return _page(request, "inference/model_access.html", context)


async def _tell(request: HttpRequest, act: Awaitable[None] | None, done: str) -> None:
    """Wait for an act, and have the next page say how it went."""
    try:
        if act is not None:
            await act
        messages.success(request, done)
    except ServiceError as error:
        messages.error(request, sentence_of(error))


def _access_forms(
    request: HttpRequest, sheet: Sheet, by: Principal
) -> dict[str, VisibilityForm | GrantForm | RevokeForm]:
    """Return the page's forms by what they do; the one that was sent has what was typed."""
    act = request.POST.get("act", "")
    who: dict[str, Any] = {"sheet": sheet, "by": by}
    seen = {"visibility": sheet.place.visibility}
    return {
        "see": VisibilityForm(request.POST if act == "see" else None, initial=seen, **who),
        "grant": GrantForm(request.POST if act == "grant" else None, **who),
        "revoke": RevokeForm(request.POST if act == "revoke" else None, **who),
    }


def _granted(sheet: Sheet) -> tuple[grants.Granted, ...]:
    return sheet.access.grants if sheet.access else ()


def _sheet_for(principal: Principal, name: str, verb: Verb) -> Sheet:
    """Return all about a model with which one may do this. Raises ModelNotFound, NotYourModel."""
    sheet = catalogue.read_sheet(principal, name)
    catalogue.require(sheet, verb)
    return sheet


def _pin(principal: Principal, name: str, *, is_pinned: bool) -> Sheet:
    sheet = _sheet_for(principal, name, Verb.USE)
    grants.set_pinned(sheet.model_id, is_pinned=is_pinned, by=principal)
    return sheet


def _page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    return render(request, template, context, status=400 if request.method == "POST" else 200)

"""The list of models, and the page of each. Thin: what is shown is made elsewhere.

Async, as the engine is asked what is in memory.
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from inference import nodes, overview
from inference.pages import model_list, model_sheet
from inference.pages.model_list import Wish
from models_app.names import ModelName
from models_app.page_requests import allow, principal_of
from models_app.permissions import Principal, Verb
from ollamasite.errors import NotFound
from ollamasite.http import PLAIN
from registry import catalogue, library


@never_cache
@allow("GET")
async def models(request: HttpRequest) -> HttpResponse:
    """Show the models that one may see, narrowed as the query string says."""
    wish = Wish.read(request.GET)
    entries = await sync_to_async(catalogue.list_entries)(principal_of(request))
    loaded = await nodes.loaded_digests()
    shown = model_list.show(entries, wish, loaded=loaded or (), now=timezone.now())
    context = {"shown": shown, "wish": wish, "is_engine_available": loaded is not None} | _CHOICES
    return await sync_to_async(render)(request, "inference/models.html", context)


@never_cache
@allow("GET")
async def model(request: HttpRequest, name: str) -> HttpResponse:
    """Show all about a model."""
    principal = principal_of(request)
    sheet = await sync_to_async(catalogue.read_sheet)(principal, name)
    memories = await nodes.memories()
    shown = await sync_to_async(model_sheet.shown_sheet)(
        sheet, memories or (), may_pin=principal.may_operate, now=timezone.now()
    )
    words = _page_words(request) | {"is_engine_available": memories is not None}
    context = {"model": shown, "access": sheet.access, **words}
    return await sync_to_async(render)(request, "inference/model.html", context)


@never_cache
@allow("GET")
async def model_text(request: HttpRequest, name: str, part: str) -> HttpResponse:
    """Hand out a text of a model as a whole, as a file of plain text."""
    asked = ModelName.parse(name)
    text = await sync_to_async(_text)(principal_of(request), asked, part)
    kept_as = f'attachment; filename="{asked.model}-{asked.tag}-{part}.txt"'
    headers = {"Content-Disposition": kept_as}
    return HttpResponse(text, content_type=f"{PLAIN}; charset=utf-8", headers=headers)


_CHOICES: dict[str, Any] = {
    "capability_choices": model_list.CAPABILITIES,
    "whose_choices": model_list.WHOSE,
    "sort_choices": model_list.SORTS,
}


def _page_words(request: HttpRequest) -> dict[str, Any]:
    return {
        "base_url": request.build_absolute_uri("/").rstrip("/"),
        "keep_alive": overview.format_duration(settings.KEEP_ALIVE_S),
    }


def _text(principal: Principal, name: ModelName, part: str) -> str:
    text = model_sheet.whole_text(library.resolve(principal, name, Verb.READ), part)
    if not text:
        raise NotFound("The model has no such text.")
    return text

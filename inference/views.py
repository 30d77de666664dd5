"""The home page: what is in memory, the models one may use, and how to call them.

Async, as the engine is asked; models come through `registry.library`, so one only sees what one
may. Knows no dialect and no row of the database.
"""

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from inference import generation, overview
from inference.errors import EngineUnavailable
from inference.loaded import visible_loaded
from inference.messages import LoadedModel
from ollamasite.errors import MethodNotAllowed
from registry import library


@never_cache
async def home(request: HttpRequest) -> HttpResponse:
    """Show the home page."""
    if request.method not in {"GET", "HEAD"}:
        raise MethodNotAllowed(headers={"Allow": "GET, HEAD"})
    principal = request.principal  # type: ignore[attr-defined] # set by the gate
    listed = await sync_to_async(library.list_models)(principal)
    in_memory = await _loaded_models()
    loaded = visible_loaded(principal, in_memory or (), listed)
    context = {
        "is_engine_available": in_memory is not None,
        "loaded": overview.loaded_rows(loaded),
        "models": overview.model_rows(listed, loaded=loaded, now=timezone.now()),
        "example_model": overview.example_model(listed),
        "base_url": request.build_absolute_uri("/").rstrip("/"),
        "keep_alive": overview.format_duration(settings.KEEP_ALIVE_S),
    }
    return render(request, "inference/home.html", context)


async def _loaded_models() -> tuple[LoadedModel, ...] | None:
    """Return what is in memory, or None where the engine does not answer."""
    try:
        return await generation.loaded_models()
    except EngineUnavailable:
        return None

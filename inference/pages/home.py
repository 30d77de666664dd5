"""The home page: what needs attention, the nodes, requests, what is left, models, how to call them.

Async, as the engine is asked. With `HX-Request` only the parts that change are answered.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from inference import home, limit_rows, overview, request_rows
from inference.home import Home, Nodes
from inference.overview import MemoryBar
from inference.pages.parts import is_part
from models_app.page_requests import allow, principal_of

_MOST_REQUESTS: Final = 6
_MOST_MODELS: Final = 8


@dataclass(frozen=True, slots=True)
class LostNode:
    """A node that does not answer. `since` None: nobody knows; `is_today`: the time is enough."""

    name: str
    since: datetime | None
    is_today: bool


@never_cache
@allow("GET")
async def show(request: HttpRequest) -> HttpResponse:
    """Show the home page."""
    seen = await home.look(principal_of(request))
    context = _told(seen) | {
        "base_url": request.build_absolute_uri("/").rstrip("/"),
        "is_part": is_part(request),
    }
    template = "inference/home_live.html" if is_part(request) else "inference/home.html"
    return render(request, template, context)


def _told(seen: Home) -> dict[str, Any]:
    nodes = seen.nodes
    loaded = nodes.loaded if nodes else []
    bars = _bars(nodes) if nodes else []
    others_bytes = sum(bar.others_bytes for bar in bars)
    return {
        "is_engine_available": nodes is not None,
        "notices": seen.notices,
        "memories": bars,
        "lost_nodes": _lost(nodes) if nodes else [],
        "others": overview.format_bytes(others_bytes) if others_bytes else "",
        "loaded": overview.loaded_rows(loaded),
        "requests": request_rows.first_rows(nodes.queue, _MOST_REQUESTS) if nodes else [],
        "running_count": nodes.queue.running_count if nodes else 0,
        "waiting_count": nodes.queue.waiting_count if nodes else 0,
        "limits": None if seen.left is None else limit_rows.limit_rows(seen.left),
        "models": overview.model_rows(seen.listed, loaded=loaded, now=timezone.now()),
        "most_models": _MOST_MODELS,
        "example_model": overview.example_model(seen.listed),
        "keep_alive": overview.format_duration(settings.KEEP_ALIVE_S),
    }


def _bars(nodes: Nodes) -> list[MemoryBar]:
    bars, before = [], 0
    for memory in nodes.memories:
        bars.append(overview.memory_bar(memory.told, memory.loaded, before=before))
        before += len(memory.loaded)
    return bars


def _lost(nodes: Nodes) -> list[LostNode]:
    now = timezone.localtime()
    lost = []
    for node in nodes.lost:
        since = None if node.lost_s is None else now - timedelta(seconds=node.lost_s)
        is_today = since is not None and since.date() == now.date()
        lost.append(LostNode(node.name, since, is_today))
    return lost

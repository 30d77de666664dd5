"""What the admin's pages know of nodes: what is in memory and who waits, loading and unloading.

Pages are served in threads; a node is asked on the event loop, which has the connection.
"""

from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from inference import nodes, overview
from inference.nodes import NodeState
from models_app.admin.acts import Act, Doing
from models_app.admin.library import TagAdmin
from models_app.admin.site import ExtraPage, principal_of, site
from models_app.permissions import Principal
from ollamasite.errors import Forbidden
from registry.admin import reached_name


def _operators(principal: Principal) -> bool:
    return principal.is_operator


def _load(doing: Doing, tag: Any) -> None:
    async_to_sync(nodes.load)(doing.by, reached_name(doing.by, tag))


def _unload(doing: Doing, tag: Any) -> None:
    async_to_sync(nodes.unload)(doing.by, reached_name(doing.by, tag))


def nodes_page(request: HttpRequest) -> HttpResponse:
    """Show what the node does."""
    principal = principal_of(request)
    if not principal.is_operator:
        raise Forbidden
    state = async_to_sync(nodes.look)(principal)
    context = {
        **site.each_context(request),
        "title": "Running now",
        "is_there": state is not None,
        **(_told(state) if state else {}),
    }
    return TemplateResponse(request, "inference/admin/nodes.html", context)


def _told(state: NodeState) -> dict[str, Any]:
    counters = state.counters
    return {
        "loaded": {
            "headers": ["Model", "Memory", "Runs on", "Context", "Leaves in"],
            "rows": [
                [row.name, row.memory, row.processor, row.context, row.leaves_in or "stays"]
                for row in overview.loaded_rows(state.loaded)
            ],
        },
        "memory": overview.format_bytes(sum(model.size_bytes for model in state.loaded)),
        "running": state.queue.running_count,
        "slots": state.queue.slot_count,
        "waiting_count": state.queue.waiting_count,
        "waiting": {
            "headers": ["Place", "User", "Model", "Why", "Waits for"],
            "rows": [
                [
                    str(waiting.entry.position),
                    waiting.entry.user,
                    waiting.model or "private",
                    waiting.entry.reason,
                    overview.format_duration(waiting.entry.waited_s),
                ]
                for waiting in state.queue.waiting
            ],
        },
        "counters": {
            "headers": ["Requests", "Failed", "Tokens in", "of these cached", "Tokens out"],
            "rows": [
                [
                    f"{count:,}"
                    for count in (
                        counters.ended,
                        counters.failed,
                        counters.prompt_tokens,
                        counters.cached_tokens,
                        counters.completion_tokens,
                    )
                ]
            ],
        },
    }


__all__ = ["site"]

TagAdmin.loaded_digests = staticmethod(async_to_sync(nodes.loaded_digests))
TagAdmin.offer(
    Act(
        name="load",
        label="Load",
        explains="The model is brought into memory; that may take a while.",
        do=_load,
        is_of=_operators,
        is_single=True,  # whoever asks waits for the end
    ),
    Act(
        name="unload",
        label="Unload",
        explains="The model leaves memory when what it is doing has ended.",
        do=_unload,
        is_of=_operators,
        is_single=True,
    ),
)
site.add_page(
    ExtraPage(
        name="nodes", title="Running now", view=nodes_page, is_for=lambda who: who.is_operator
    )
)

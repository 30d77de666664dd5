"""`GET /api/queue`: one's own waiting requests, and how many there are in all.

    {"queue": [{"request_id": "…", "model": "smollm2:135m", "position": 2, "reason": "loading",
                "waited_ms": 1200, "estimate_ms": 3400}],
     "running": 4, "waiting": 7, "slots": 4}

`position` counts from 1 and is that in the whole queue; `estimate_ms` is null where nobody can
tell yet. An administrator sees everybody's requests, each with its `user`, and null for a model
that is somebody's private one. Knows no engine and no row of the database.
"""

from typing import Any, Final

from django.http import HttpResponse

from inference import queue
from inference.queue import Waiting
from ollamasite.api_views import ReadView
from ollamasite.http import json_response

_MS: Final = 1000


class QueueView(ReadView):
    """`GET /api/queue`."""

    async def get(self, request: Any) -> HttpResponse:
        """Tell who waits, as far as the caller may know."""
        seen = await queue.queue_of(request.user)
        shows_user = queue.sees_all(request.user)
        return json_response(
            {
                "queue": [_entry(waiting, shows_user=shows_user) for waiting in seen.waiting],
                "running": seen.running_count,
                "waiting": seen.waiting_count,
                "slots": seen.slot_count,
            }
        )


def _entry(waiting: Waiting, *, shows_user: bool) -> dict[str, Any]:
    entry = waiting.entry
    estimate_s = entry.estimate_s
    return {
        "request_id": entry.request_id,
        "model": waiting.model,
        "position": entry.position,
        "reason": entry.reason,
        "waited_ms": round(entry.waited_s * _MS),
        "estimate_ms": None if estimate_s is None else round(estimate_s * _MS),
        **({"user": entry.user} if shows_user else {}),
    }

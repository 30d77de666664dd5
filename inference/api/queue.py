"""`GET /api/queue`: one's own requests, and how many there are in all; a way to end one. Ours.

    {"queue": [{"request_id": "…", "model": "smollm2:135m", "position": 2, "reason": "loading",
                "waited_ms": 1200, "estimate_ms": 3400}],
     "on_slots": [{"request_id": "…", "model": "smollm2:135m", "age_ms": 5100,
                   "prompt_tokens": 31, "completion_tokens": 84, "tokens_per_s": 21.5}],
     "running": 4, "waiting": 7, "slots": 4}

    POST /api/queue/<request_id>/cancel     204

`position` counts from 1 and is that among those who wait for the model; `estimate_ms` is null where
nobody can tell yet. An operator sees everybody's requests, each with its `user`, and null for a
model that is somebody's private one, and may end them. Somebody else's request is not found, like
one that does not exist. Knows no engine and no row of the database.
"""

from typing import Any, Final

from django.http import HttpResponse

from inference import queue
from inference.queue import Running, Waiting
from ollamasite.api_views import CallView, ReadView
from ollamasite.http import json_response

_MS: Final = 1000


class QueueView(ReadView):
    """`GET /api/queue`."""

    async def get(self, request: Any) -> HttpResponse:
        """Tell who runs and who waits, as far as the caller may know."""
        seen = await queue.queue_of(request.user)
        shows_user = queue.sees_all(request.user)
        return json_response(
            {
                "queue": [_waiting(waiting, shows_user=shows_user) for waiting in seen.waiting],
                "on_slots": [_running(running, shows_user=shows_user) for running in seen.running],
                "running": seen.running_count,
                "waiting": seen.waiting_count,
                "slots": seen.slot_count,
            }
        )


class CancelRequestView(CallView):
    """`POST /api/queue/<request_id>/cancel`."""

    async def post(self, request: Any, request_id: str) -> HttpResponse:
        """End a request that runs or waits; whoever has sent it is told that it was cancelled."""
        await queue.cancel(request.user, request_id)
        return HttpResponse(status=204)


def _waiting(waiting: Waiting, *, shows_user: bool) -> dict[str, Any]:
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


def _running(running: Running, *, shows_user: bool) -> dict[str, Any]:
    entry = running.entry
    return {
        "request_id": entry.request_id,
        "model": running.model,
        "age_ms": round(entry.age_s * _MS),
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "tokens_per_s": round(entry.tokens_per_s, 1),
        **({"user": entry.user} if shows_user else {}),
    }

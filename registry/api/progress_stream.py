"""A long job's progress → an HTTP answer: NDJSON lines, or only the last one.

The job blocks, so it runs in a thread when its user has a turn, and goes on to its end when its
client leaves: what it writes is whole or not there. An error before the first event keeps its
status, a later one becomes the last line (contract/ollama.md 1.0, 2.6). Knows no job.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from django.db import connections
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from ollamasite.error_responses import Dialect, to_payload, to_service_error
from ollamasite.http import JSON, NDJSON, encode_json, json_response
from registry.job_turns import JobTurns
from registry.progress import Progress, Report

# A job may take hours: several users who make the most of it leave threads for the others.
_turns: Final = JobTurns(threads=16, running_each=2, waiting_each=16)

_Event = Progress | Exception | None
_Events = asyncio.Queue[_Event]


async def respond(
    job: Callable[[Report], object], *, user_id: int, is_streamed: bool
) -> HttpResponseBase:
    """Run a user's job and return the answer with what it reports. Raises TooManyJobs."""
    events = _start(job, user_id)
    if not is_streamed:
        return await _last(events)
    first = await events.get()
    if isinstance(first, Exception):
        return _refusal(first)
    return StreamingHttpResponse(
        _lines(first, events),
        content_type=NDJSON,
        # Proxies that buffer would turn a stream into one late answer.
        headers={"X-Accel-Buffering": "no"},
    )


def _start(job: Callable[[Report], object], user_id: int) -> _Events:
    """Start a job; the queue gets what it reports, then its exception, or None at its good end."""
    loop = asyncio.get_running_loop()
    events: _Events = asyncio.Queue()

    def put(event: _Event) -> None:
        # The loop is gone where the site has stopped meanwhile: then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(events.put_nowait, event)

    def run() -> None:
        end: _Event = None
        try:
            job(put)
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            end = error
        finally:
            connections.close_all()
        put(end)

    _turns.submit(user_id, run)
    return events


async def _last(events: _Events) -> HttpResponse:
    last: Progress | None = None
    while True:
        match await events.get():
            case Exception() as error:
                return _refusal(error)
            case Progress() as event:
                last = event
            case None:
                return json_response(last or {}, content_type=JSON)


async def _lines(first: _Event, events: _Events) -> AsyncIterator[bytes]:
    event = first
    while event is not None:
        if isinstance(event, Exception):
            yield _line(to_payload(to_service_error(event), Dialect.NATIVE))
            return
        yield _line(event)
        event = await events.get()


def _line(value: object) -> bytes:
    return encode_json(value) + b"\n"


def _refusal(error: Exception) -> HttpResponse:
    refusal = to_service_error(error)
    return json_response(
        to_payload(refusal, Dialect.NATIVE),
        status=refusal.status,
        content_type=JSON,
        headers=refusal.headers,
    )

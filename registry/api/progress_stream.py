"""A job's progress → an HTTP answer: NDJSON lines, or only the last one.

The job runs in the worker; here its row is followed. What its log has is told in order and once,
however late somebody begins to look. An error before the first event keeps its status, a later one
becomes the last line (contract/ollama.md 1.0, 2.3, 2.6). Knows no kind of work.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from models_app.access_watch import while_access
from models_app.jobs import JobKind, JobRecord, JobState
from models_app.permissions import Principal
from ollamasite.error_responses import Dialect, to_payload, to_service_error
from ollamasite.errors import ServiceError
from ollamasite.http import JSON, NDJSON, encode_json, json_response
from registry.errors import JobCancelled, JobNotFound
from registry.jobs.watch import follow

_Records = AsyncGenerator[JobRecord, None]
_Event = Mapping[str, Any]

# These answer 500 whatever goes wrong, once they have told anything (contract 2.3).
_TRANSFERS: Final = frozenset({JobKind.PULL, JobKind.PUSH})
_SERVER_ERROR: Final = 500
_closing: Final[set[asyncio.Future[None]]] = set()


async def start(make: Callable[[], JobRecord]) -> JobRecord:
    """Make a job on a thread. What refuses it has the content type of Ollama (contract 11, 1.0)."""
    try:
        return await sync_to_async(make)()
    except ServiceError as error:
        error.headers.setdefault("Content-Type", JSON)
        raise


async def respond(
    principal: Principal, job: JobRecord, *, is_starter: bool, is_streamed: bool
) -> HttpResponseBase:
    """Follow a job for as long as the caller's access lasts; return the answer with its reports.

    `is_starter`: whoever leaves this answer leaves the job, which is cancelled if nobody else
    watches it.
    """
    records = _follow(principal, job, is_starter=is_starter)
    if not is_streamed:
        return _whole(await _last(job, records))
    first = await _first_told(job, records)
    if not first.events and _error_of(first) is not None:
        return _refusal(first)
    return _streamed(_lines(_with_first(first, records)))


def tell(principal: Principal, job: JobRecord) -> StreamingHttpResponse:
    """Return an answer that only looks on until the job has ended, however it ends."""
    return _streamed(_lines(_follow(principal, job, is_starter=False)))


def _follow(principal: Principal, job: JobRecord, *, is_starter: bool) -> _Records:
    records = while_access(principal, follow(job.job_id, is_starter=is_starter))
    task = asyncio.current_task()
    if task is not None:
        # A client may leave before anything iterates, and Django does not close the inner
        # iterators of a response whose sending was cancelled.
        task.add_done_callback(lambda _task: _close(records))
    return records


def _close(records: _Records) -> None:
    closing = asyncio.ensure_future(records.aclose())
    _closing.add(closing)
    closing.add_done_callback(_closing.discard)


async def _first_told(job: JobRecord, records: _Records) -> JobRecord:
    """Return the first record that has something to tell, or the last one."""
    async for record in records:
        if record.events or record.is_ended:
            return record
    raise JobNotFound(job.job_id)


async def _last(job: JobRecord, records: _Records) -> JobRecord:
    async with aclosing(records):
        async for record in records:
            if record.is_ended:
                return record
    raise JobNotFound(job.job_id)


async def _with_first(first: JobRecord, others: _Records) -> _Records:
    yield first
    async for record in others:
        yield record


async def _lines(records: _Records) -> AsyncIterator[bytes]:
    told: Sequence[_Event] = ()
    try:
        async with aclosing(records):
            async for record in records:
                for event in _news(told, record.events):
                    yield _line(event)
                told = record.events
                error = _error_of(record)
                if error is not None:
                    yield _line(to_payload(error, Dialect.NATIVE))
    except Exception as error:  # noqa: BLE001 - behind the first byte no one else can answer
        yield _line(to_payload(to_service_error(error), Dialect.NATIVE))


def _news(known: Sequence[_Event], events: Sequence[_Event]) -> list[_Event]:
    """Return the events that are not known yet, or not with these figures."""
    return [
        event
        for number, event in enumerate(events)
        if number >= len(known) or known[number] != event
    ]


def _streamed(lines: AsyncIterator[bytes]) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        lines,
        content_type=NDJSON,
        # Proxies that buffer would turn a stream into one late answer.
        headers={"X-Accel-Buffering": "no"},
    )


def _line(value: object) -> bytes:
    return encode_json(value) + b"\n"


def _whole(ended: JobRecord) -> HttpResponse:
    if _error_of(ended) is not None:
        return _refusal(ended)
    return json_response(ended.events[-1] if ended.events else {}, content_type=JSON)


def _refusal(ended: JobRecord) -> HttpResponse:
    error = _error_of(ended) or ServiceError()
    status: int = (ended.error or {}).get("status", error.status)
    if ended.kind in _TRANSFERS and (ended.events or status > _SERVER_ERROR):
        status = _SERVER_ERROR
    return json_response(to_payload(error, Dialect.NATIVE), status=status, content_type=JSON)


def _error_of(record: JobRecord) -> ServiceError | None:
    """Return what went wrong, or None where nothing did so far."""
    if record.state == JobState.CANCELLED:
        return JobCancelled()
    if record.state == JobState.FAILED:
        return ServiceError((record.error or {}).get("message", ""))
    return None

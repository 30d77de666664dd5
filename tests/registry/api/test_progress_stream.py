"""Progress of a job as an answer: lines or the last one, errors before and after the first."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from django.http import StreamingHttpResponse

from models_app.jobs import JobKind, JobRecord, JobState
from models_app.permissions import CredentialKind, Principal
from registry.api import progress_stream
from registry.api.progress_stream import respond, tell

PRINCIPAL = Principal(user_id=1, username="a", is_admin=False, kind=CredentialKind.SESSION)
QUEUED = JobRecord(
    job_id="a" * 32,
    kind=JobKind.CREATE,
    state=JobState.QUEUED,
    owner_id=1,
    owner_name="alice",
    model_name="mine:latest",
    is_detached=False,
    events=(),
    version=0,
    total_bytes=0,
    completed_bytes=0,
    bytes_per_s=0,
    error=None,
    attempt=0,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    started_at=None,
    ended_at=None,
)
NO = {"code": "invalid_create", "status": 400, "message": "no"}
DOWN = {"code": "registry_failed", "status": 502, "message": "down"}

Follow = Callable[..., None]


def running(*events: str | dict[str, Any], kind: JobKind = JobKind.CREATE) -> JobRecord:
    """Return a job that has reported some events; a text is one with this status."""
    told = tuple({"status": event} if isinstance(event, str) else event for event in events)
    return replace(QUEUED, state=JobState.RUNNING, events=told, kind=kind)


def done(record: JobRecord) -> JobRecord:
    return replace(record, state=JobState.SUCCEEDED)


def failed(record: JobRecord, error: dict[str, Any] = NO) -> JobRecord:
    return replace(record, state=JobState.FAILED, error=error)


class Watched:
    """Stands where a job's row is followed: yields what it is told to, and says who looked."""

    def __init__(self) -> None:
        self.records: list[JobRecord | Exception] = []
        self.starters: list[bool] = []
        self.is_held = False
        self.left = asyncio.Event()

    async def follow(self, job_id: str, *, is_starter: bool) -> AsyncGenerator[JobRecord, None]:
        assert job_id == QUEUED.job_id
        self.starters.append(is_starter)
        try:
            for record in self.records:
                if isinstance(record, Exception):
                    raise record
                yield record
            if self.is_held:
                await asyncio.Event().wait()
        finally:
            self.left.set()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watching = Watched()
    monkeypatch.setattr(progress_stream, "follow", watching.follow)
    return watching


async def answer_to(watched: Watched, *records: JobRecord | Exception, is_streamed: bool) -> Any:
    watched.records = list(records)
    return await respond(PRINCIPAL, QUEUED, is_starter=True, is_streamed=is_streamed)


async def lines_of(response: Any) -> bytes:
    assert isinstance(response, StreamingHttpResponse)
    chunks = cast("AsyncIterator[bytes]", response.streaming_content)
    return b"".join([chunk async for chunk in chunks])


async def test_every_event_is_a_line(watched: Watched) -> None:
    records = (QUEUED, running("a"), done(running("a", "success")))
    response = await answer_to(watched, *records, is_streamed=True)
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert await lines_of(response) == b'{"status":"a"}\n{"status":"success"}\n'


async def test_events_that_came_between_two_looks_are_all_told(watched: Watched) -> None:
    records = (QUEUED, running("a", "b"), done(running("a", "b", "c", "d", "success")))
    response = await answer_to(watched, *records, is_streamed=True)
    statuses = [line.split(b'"')[3] for line in (await lines_of(response)).splitlines()]
    assert statuses == [b"a", b"b", b"c", b"d", b"success"]


async def test_event_is_told_again_when_its_figures_have_changed(watched: Watched) -> None:
    half, whole = ({"status": "p", "digest": "d", "total": 2, "completed": n} for n in (1, 2))
    records = (running(half), running(half), done(running(whole, "success")))
    response = await answer_to(watched, *records, is_streamed=True)
    assert await lines_of(response) == (
        b'{"status":"p","digest":"d","total":2,"completed":1}\n'
        b'{"status":"p","digest":"d","total":2,"completed":2}\n'
        b'{"status":"success"}\n'
    )


async def test_without_streaming_the_last_event_is_the_answer(watched: Watched) -> None:
    records = (QUEUED, running("a"), done(running("a", "success")))
    response = await answer_to(watched, *records, is_streamed=False)
    assert response.headers["Content-Type"] == "application/json"
    assert response.content == b'{"status":"success"}'


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_early_error_keeps_its_status(watched: Watched, is_streamed: bool) -> None:
    response = await answer_to(watched, QUEUED, failed(QUEUED), is_streamed=is_streamed)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/json"
    assert response.content == b'{"error":"no"}'


async def test_late_error_is_the_last_line(watched: Watched) -> None:
    records = (running("a"), failed(running("a")))
    response = await answer_to(watched, *records, is_streamed=True)
    assert response.status_code == 200
    assert await lines_of(response) == b'{"status":"a"}\n{"error":"no"}\n'


async def test_late_error_without_streaming_keeps_its_status(watched: Watched) -> None:
    response = await answer_to(watched, failed(running("a")), is_streamed=False)
    assert (response.status_code, response.content) == (400, b'{"error":"no"}')


@pytest.mark.parametrize("kind", [JobKind.PULL, JobKind.PUSH])
async def test_late_error_of_a_transfer_is_a_500(watched: Watched, kind: JobKind) -> None:
    response = await answer_to(watched, failed(running("a", kind=kind)), is_streamed=False)
    assert (response.status_code, response.content) == (500, b'{"error":"no"}')


async def test_early_refusal_of_a_transfer_keeps_its_status(watched: Watched) -> None:
    response = await answer_to(watched, failed(running(kind=JobKind.PULL)), is_streamed=False)
    assert response.status_code == 400


async def test_early_failure_of_a_transfer_is_a_500(watched: Watched) -> None:
    ended = failed(running(kind=JobKind.PULL), DOWN)
    response = await answer_to(watched, ended, is_streamed=False)
    assert (response.status_code, response.content) == (500, b'{"error":"down"}')


async def test_cancelled_job_ends_in_a_line_that_says_so(watched: Watched) -> None:
    records = (running("a"), replace(running("a"), state=JobState.CANCELLED))
    response = await answer_to(watched, *records, is_streamed=True)
    assert await lines_of(response) == b'{"status":"a"}\n{"error":"the job was cancelled"}\n'


async def test_unknown_error_while_looking_tells_no_detail(watched: Watched) -> None:
    response = await answer_to(watched, running("a"), RuntimeError("secret"), is_streamed=True)
    last = (await lines_of(response)).splitlines()[-1]
    assert last.startswith(b'{"error":"internal server error (id ')
    assert b"secret" not in last


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_job_that_is_gone_is_an_error(watched: Watched, is_streamed: bool) -> None:
    with pytest.raises(Exception, match="not found"):
        await answer_to(watched, QUEUED, is_streamed=is_streamed)


async def test_first_line_does_not_wait_for_the_end(watched: Watched) -> None:
    watched.is_held = True
    response = await answer_to(watched, running("first"), is_streamed=True)
    async with aclosing(response.streaming_content) as chunks:
        assert await anext(chunks) == b'{"status":"first"}\n'


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_who_leaves_stops_looking(watched: Watched, is_streamed: bool) -> None:
    watched.is_held = True
    records = (running("first"),)

    async def serve() -> None:
        await lines_of(await answer_to(watched, *records, is_streamed=is_streamed))

    request = asyncio.create_task(serve())
    while not watched.starters:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    request.cancel()
    await asyncio.wait_for(watched.left.wait(), 60)


async def test_who_leaves_before_the_first_line_is_sent_stops_looking(watched: Watched) -> None:
    watched.is_held = True

    async def serve() -> Any:
        return await answer_to(watched, running("first"), is_streamed=True)

    response = await asyncio.create_task(serve())
    await asyncio.wait_for(watched.left.wait(), 60)
    assert isinstance(response, StreamingHttpResponse)


async def test_who_only_looks_on_has_started_nothing(watched: Watched) -> None:
    watched.records = [running("a"), done(running("a", "success"))]
    assert await lines_of(tell(PRINCIPAL, QUEUED)) == b'{"status":"a"}\n{"status":"success"}\n'
    assert watched.starters == [False]


async def test_error_is_a_line_for_who_only_looks_on(watched: Watched) -> None:
    watched.records = [failed(QUEUED)]
    response = tell(PRINCIPAL, QUEUED)
    assert (response.status_code, await lines_of(response)) == (200, b'{"error":"no"}\n')

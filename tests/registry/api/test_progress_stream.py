"""Progress of a job as an answer: lines or the last one, errors before and after the first."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from django.http import StreamingHttpResponse

from registry.api.progress_stream import respond
from registry.errors import InvalidCreate
from registry.progress import Progress, Report


def job_that(*steps: str | Exception) -> Callable[[Report], None]:
    """Return a job that reports the texts and raises the exceptions."""

    def run(report: Report) -> None:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            report(Progress(status=step))

    return run


async def lines_of(response: Any) -> bytes:
    assert isinstance(response, StreamingHttpResponse)
    chunks = cast("AsyncIterator[bytes]", response.streaming_content)
    return b"".join([chunk async for chunk in chunks])


async def test_every_event_is_a_line() -> None:
    response = await respond(job_that("a", "success"), user_id=1, is_streamed=True)
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert await lines_of(response) == b'{"status":"a"}\n{"status":"success"}\n'


async def test_fields_of_an_event_are_in_ollamas_order() -> None:
    event = Progress(status="pulling", digest="sha256:ab", total=9, completed=3)
    response = await respond(lambda report: report(event), user_id=1, is_streamed=True)
    assert await lines_of(response) == (
        b'{"status":"pulling","digest":"sha256:ab","total":9,"completed":3}\n'
    )


async def test_without_streaming_the_last_event_is_the_answer() -> None:
    response = await respond(job_that("a", "success"), user_id=1, is_streamed=False)
    assert response.headers["Content-Type"] == "application/json"
    assert cast("Any", response).content == b'{"status":"success"}'


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_early_error_keeps_its_status(is_streamed: bool) -> None:
    response = await respond(job_that(InvalidCreate("no")), user_id=1, is_streamed=is_streamed)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/json"
    assert cast("Any", response).content == b'{"error":"no"}'


async def test_late_error_is_the_last_line() -> None:
    response = await respond(job_that("a", InvalidCreate("no")), user_id=1, is_streamed=True)
    assert response.status_code == 200
    assert await lines_of(response) == b'{"status":"a"}\n{"error":"no"}\n'


async def test_late_error_without_streaming_keeps_its_status() -> None:
    response = await respond(job_that("a", InvalidCreate("no")), user_id=1, is_streamed=False)
    assert (response.status_code, cast("Any", response).content) == (400, b'{"error":"no"}')


async def test_unknown_error_tells_no_detail() -> None:
    response = await respond(job_that(RuntimeError("secret")), user_id=1, is_streamed=False)
    assert response.status_code == 500
    assert b"internal server error (id " in cast("Any", response).content


async def test_events_arrive_while_the_job_runs() -> None:
    may_go_on = threading.Event()

    def job(report: Report) -> None:
        report(Progress(status="first"))
        may_go_on.wait(timeout=10)
        report(Progress(status="second"))

    response = await respond(job, user_id=1, is_streamed=True)
    chunks = cast("AsyncIterator[bytes]", cast("Any", response).streaming_content)
    assert await anext(chunks) == b'{"status":"first"}\n'
    may_go_on.set()
    assert [chunk async for chunk in chunks] == [b'{"status":"second"}\n']


async def test_job_goes_on_when_its_client_has_left() -> None:
    may_go_on, is_done = threading.Event(), threading.Event()

    def job(report: Report) -> None:
        report(Progress(status="first"))
        may_go_on.wait(timeout=10)
        report(Progress(status="second"))
        is_done.set()

    request = asyncio.ensure_future(respond(job, user_id=1, is_streamed=False))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    may_go_on.set()
    assert await asyncio.to_thread(is_done.wait, 10)


def test_job_goes_on_when_the_loop_is_gone() -> None:
    may_go_on, is_done = threading.Event(), threading.Event()

    def job(report: Report) -> None:
        report(Progress(status="first"))
        may_go_on.wait(timeout=10)
        report(Progress(status="second"))
        is_done.set()

    asyncio.run(respond(job, user_id=1, is_streamed=True))
    may_go_on.set()
    assert is_done.wait(timeout=10)

"""Tests of ollamasite.request_threads: a few threads for all requests, lent for one call each."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import DatabaseError, connection
from pytest_django.fixtures import Settings

from ollamasite import request_threads
from ollamasite.request_threads import lent_threads


@pytest.fixture(params=[3])
def threads(request: pytest.FixtureRequest, settings: Settings) -> Iterator[None]:
    """As many threads as the test says."""
    settings.WEB_THREADS = request.param
    request_threads._threads.cache_clear()
    yield
    request_threads._threads().shutdown()
    request_threads._threads.cache_clear()


pytestmark = pytest.mark.usefixtures("threads")
only_one = pytest.mark.parametrize("threads", [1], indirect=True)


async def _request(pause_s: float = 0.0) -> set[int]:
    async with lent_threads():
        return {await sync_to_async(_ident)(pause_s) for _ in range(3)}


def _ident(pause_s: float = 0.0) -> int:
    time.sleep(pause_s)
    return threading.get_ident()


async def test_many_requests_at_once_share_a_few_threads() -> None:
    used = await asyncio.gather(*(_request(0.005) for _ in range(50)))

    assert len(set[int]().union(*used)) == 3


async def test_request_that_waits_for_something_else_holds_no_thread() -> None:
    over = asyncio.Event()

    async def stream() -> None:
        async with lent_threads():
            await sync_to_async(_ident)()
            await over.wait()
            await sync_to_async(_ident)()

    streams = [asyncio.create_task(stream()) for _ in range(20)]
    async with asyncio.timeout(30):
        await asyncio.sleep(0.05)
        await _request()
        over.set()
        await asyncio.gather(*streams)


async def test_calls_of_one_request_keep_their_order_and_never_overlap() -> None:
    seen: list[str] = []

    def call(number: int) -> None:
        seen.append(f"begin {number}")
        time.sleep(0.002)
        seen.append(f"end {number}")

    async with lent_threads():
        await asyncio.gather(*(sync_to_async(call)(number) for number in range(10)))

    assert seen == [f"{what} {number}" for number in range(10) for what in ("begin", "end")]


@only_one
async def test_request_with_many_calls_lets_others_in_between() -> None:
    seen: list[str] = []

    async def request(name: str) -> None:
        async with lent_threads():
            calls = [sync_to_async(_noted)(seen, name) for _ in range(10)]
            await asyncio.gather(*calls)

    await asyncio.gather(*(request(name) for name in "abcd"))

    assert {*seen[:8]} == {*"abcd"}


def _noted(seen: list[str], name: str) -> None:
    seen.append(name)
    time.sleep(0.005)


async def test_failure_comes_to_whoever_has_called() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async with lent_threads():
        with pytest.raises(ZeroDivisionError):
            await sync_to_async(fail)()
        assert await sync_to_async(_ident)()


async def test_request_that_is_cut_off_leaves_no_thread_busy() -> None:
    cut = [asyncio.create_task(_request(0.1)) for _ in range(10)]
    await asyncio.sleep(0.05)
    for task in cut:
        task.cancel()
    await asyncio.gather(*cut, return_exceptions=True)

    async with asyncio.timeout(30):
        assert await _request()


@only_one
async def test_task_that_outlives_its_request_uses_the_same_threads() -> None:
    over = asyncio.Event()

    async def later() -> int:
        await over.wait()
        return await sync_to_async(_ident)()

    async with lent_threads():
        task = asyncio.create_task(later())
        of_request = await sync_to_async(_ident)()
    over.set()

    assert await task == of_request


async def test_what_is_asynchronous_may_be_waited_for_in_a_thread() -> None:
    async def inner() -> int:
        await asyncio.sleep(0)
        return await sync_to_async(_ident)()

    async def request() -> bool:
        async with lent_threads():
            return await sync_to_async(lambda: async_to_sync(inner)() == threading.get_ident())()

    async with asyncio.timeout(30):
        assert all(await asyncio.gather(*(request() for _ in range(12))))


async def test_context_around_it_stays_in_charge() -> None:
    left = set(SyncToAsync.context_to_thread_executor)  # by other tests, until they are collected
    async with ThreadSensitiveContext() as outer:
        own = await sync_to_async(_ident)()
        assert await _request() == {own}
        assert set(SyncToAsync.context_to_thread_executor) <= {outer, *left}


def _ask() -> int:
    """Return by which connection this thread asks the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 7")
        cursor.fetchone()
    return id(connection.connection)


def _connection_is_old() -> None:
    connection.close_at = time.monotonic() - 1
    request_threads._looked.at_s = 0.0


def _hang_up() -> None:
    connection.close()  # looked up here: each thread has its own


def _end_connection() -> None:
    with connection.cursor() as cursor, contextlib.suppress(DatabaseError):
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@only_one
@pytest.mark.django_db(transaction=True)
async def test_thread_keeps_its_connection_until_it_is_old() -> None:
    async with lent_threads():
        first = await sync_to_async(_ask)()
        assert await sync_to_async(_ask)() == first
        kept = await sync_to_async(lambda: connection.connection)()
        await sync_to_async(_connection_is_old)()
        assert await sync_to_async(_ask)() != id(kept)
        await sync_to_async(_hang_up)()


@only_one
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="a file does not hang up")
async def test_connection_that_the_server_has_ended_is_made_anew_for_the_next_call() -> None:
    async with lent_threads():
        await sync_to_async(_ask)()
        await sync_to_async(_end_connection)()
        assert await sync_to_async(_ask)()
        await sync_to_async(_hang_up)()


async def test_call_is_made_also_where_a_connection_cannot_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr(request_threads, "_look_at_connections", fail)
    async with asyncio.timeout(30):
        assert await _request()
    assert "could not be looked at" in caplog.text

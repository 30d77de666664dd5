"""Tests of ollamasite.request_threads: one thread for each request, and for the next one."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async

from ollamasite import request_threads
from ollamasite.request_threads import lent_thread


@pytest.fixture(autouse=True)
def no_idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    idle: list[Any] = []
    monkeypatch.setattr(request_threads, "_idle", idle)
    yield
    for thread in idle:
        thread.shutdown()


async def _request(pause_s: float = 0.0) -> set[int]:
    async with lent_thread():
        return {await sync_to_async(_ident)(pause_s) for _ in range(3)}


async def _idle_are(count: int) -> None:
    async with asyncio.timeout(10):
        while len(request_threads._idle) != count:
            await asyncio.sleep(0.01)


def _ident(pause_s: float = 0.0) -> int:
    time.sleep(pause_s)
    return threading.get_ident()


async def test_request_has_one_thread_and_the_next_request_has_it_again() -> None:
    first, second = await _request(), await _request()

    assert len(first) == 1
    assert first == second


async def test_requests_at_once_have_threads_of_their_own() -> None:
    used = await asyncio.gather(*(_request(0.02) for _ in range(4)))

    assert [len(threads) for threads in used] == [1] * 4
    assert len(set[int]().union(*used)) == 4


async def test_no_more_threads_wait_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_threads, "_MOST_IDLE", 2)
    before = threading.active_count()
    await asyncio.gather(*(_request(0.02) for _ in range(6)))

    async with asyncio.timeout(10):
        while threading.active_count() > before + 2:
            await asyncio.sleep(0.01)


async def test_request_that_does_nothing_synchronously_borrows_none() -> None:
    async with lent_thread():
        pass

    assert request_threads._idle == []


async def test_thread_comes_back_from_a_request_that_fails_or_is_cut_off() -> None:
    with pytest.raises(ZeroDivisionError):
        async with lent_thread():
            await sync_to_async(_ident)()
            raise ZeroDivisionError
    cut = asyncio.create_task(_request(0.2))
    await asyncio.sleep(0.05)
    cut.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut

    await _idle_are(1)
    assert len(await _request()) == 1


async def test_task_that_outlives_its_request_has_another_thread() -> None:
    over = asyncio.Event()

    async def later() -> int:
        await over.wait()
        return await sync_to_async(_ident)()

    async with lent_thread():
        task = asyncio.create_task(later())
        of_request = await sync_to_async(_ident)()
    over.set()

    assert await task != of_request


async def test_nobody_waits_behind_work_that_outlives_its_request() -> None:
    may_end = threading.Event()
    async with lent_thread():
        work = asyncio.create_task(sync_to_async(may_end.wait)(30))
        await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        await _request()
    assert not work.done()

    may_end.set()
    assert await work
    await _idle_are(2)


async def test_context_around_it_stays_in_charge() -> None:
    async with ThreadSensitiveContext() as outer:
        own = await sync_to_async(_ident)()
        assert await _request() == {own}
        assert list(SyncToAsync.context_to_thread_executor) == [outer]

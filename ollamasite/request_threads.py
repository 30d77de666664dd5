"""Threads that requests borrow for what they do synchronously, the database above all.

Each request has one thread to itself, as under Django's own handler, which makes a new one and with
it a new connection to the database for each: with SQLite that is 3 ms, with PostgreSQL more. Here
the thread and its connection (`CONN_MAX_AGE`) go to the next request instead. Knows no route.
"""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import connections

# So many wait for their next request; what a burst has needed beyond them ends with it.
_MOST_IDLE: Final = 16

_idle: Final[list[ThreadPoolExecutor]] = []


class _Lent(Executor):
    """One thread, from the first call until it is given back."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._running: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._thread is None:
            self._thread = _idle.pop() if _idle else _new_thread()
        work = self._thread.submit(fn, *args, **kwargs)
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        return work

    def give_back(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._running:
            # Of a task that goes on: nobody is to wait behind it.
            thread.submit(_keep, thread)
        else:
            _keep(thread)


def _keep(thread: ThreadPoolExecutor) -> None:
    if len(_idle) < _MOST_IDLE:
        _idle.append(thread)
        return
    thread.submit(connections.close_all)
    thread.shutdown(wait=False)


def _new_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="request")


@asynccontextmanager
async def lent_thread() -> AsyncIterator[None]:
    """Have all `sync_to_async` inside run on one thread, which is borrowed for the first call.

    Inside a `ThreadSensitiveContext` it leaves all as it is. Tasks that go on behind the block's
    end get a thread of their own.
    """
    async with ThreadSensitiveContext() as context:
        if context.token is None:
            yield
            return
        lent = SyncToAsync.context_to_thread_executor[context] = _Lent()
        try:
            yield
        finally:
            # Taken out before the context ends: it would start a thread to wait for this one.
            del SyncToAsync.context_to_thread_executor[context]
            lent.give_back()

"""Threads on which requests do what is synchronous, the database above all.

Under Django's own handler each request has a thread, and with it a connection to the database, of
its own until its answer has ended: 500 streams are 500 connections. Here a request borrows a thread
for one call at a time. There are `settings.WEB_THREADS` of them, each keeps its connection
(`CONN_MAX_AGE`), and who comes when all are busy waits for one. Knows no route.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.conf import settings
from django.db import connections

logger = logging.getLogger(__name__)

# A thread asks so often whether its connection is too old or gone.
_LOOK_EVERY_S: Final = 1.0


class _Turns(Executor):
    """What one request does synchronously: one call after the other, each on whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._has_turn = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        result: Future[Any] = Future()
        with self._lock:
            self._waiting.append(partial(_run, result, partial(fn, *args, **kwargs)))
            is_waiting_already, self._has_turn = self._has_turn, True
        if not is_waiting_already:
            _threads().submit(self._take_turn)
        return result

    def _take_turn(self) -> None:
        """Make one call. What comes behind it waits again, so that a long row holds no thread."""
        try:
            _look_at_connections()
        except Exception:  # whoever waits for this turn must have it all the same
            logger.exception("a connection to the database could not be looked at")
        self._waiting.popleft()()
        with self._lock:
            self._has_turn = bool(self._waiting)
        if self._has_turn:
            _threads().submit(self._take_turn)


class _Looked(threading.local):
    at_s = 0.0


_looked: Final = _Looked()


@lru_cache(1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings.WEB_THREADS, thread_name_prefix="request")


def _run(result: Future[Any], call: Callable[[], Any]) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        value = call()
    except BaseException as error:  # noqa: BLE001 - it is whoever waits for the result who handles it
        result.set_exception(error)
    else:
        result.set_result(value)


def _look_at_connections() -> None:
    """Close what is too old or has failed: at a request's end Django does so on one thread."""
    now_s = time.monotonic()
    is_time = now_s - _looked.at_s > _LOOK_EVERY_S
    for connection in connections.all(initialized_only=True):
        if is_time or connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
    if is_time:
        _looked.at_s = now_s


@asynccontextmanager
async def lent_threads() -> AsyncIterator[None]:
    """Have all `sync_to_async` inside run one after the other, on threads that are lent for a call.

    Inside a `ThreadSensitiveContext` it leaves all as it is. Tasks that go on behind the block's
    end have their turns as before.
    """
    executors = SyncToAsync.context_to_thread_executor
    turns = _Turns()
    async with ThreadSensitiveContext() as context:
        if context.token is None:
            yield
            return
        executors[context] = turns
        try:
            yield
        finally:
            # Taken out for the end of the context, which would start a thread to shut it down.
            del executors[context]
            asyncio.get_running_loop().call_soon(executors.__setitem__, context, turns)

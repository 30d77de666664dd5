"""Whose jobs have changed, for all in a process who look at their own: one look for all of them.

    with follow(owner_id) as news:
        await news.wait()       a job of theirs is another now, or is new

News come over the channel layer; once in `LOOK_EVERY_S`, and where there is no layer, one query
asks for everybody who is there. Whoever looks at nothing that changes costs nothing. Async; knows
no socket, and not who may see what.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Final
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection

from models_app import job_lists
from ollamasite import outages
from ollamasite.request_threads import lent_threads
from registry.jobs.notices import EVERYBODY, Listener

logger = logging.getLogger(__name__)

# Where news are lost, they are this late.
LOOK_EVERY_S: Final = 2.0
_LISTEN_AGAIN_S: Final = 10.0

_Marks = dict[int, object]  # by owner; another one after each change
_UNKNOWN: Final = object()


class News:
    """One who looks: is there anything to look at?"""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Say that there is something."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for something that has changed since it was waited for last."""
        await self._event.wait()
        self._event.clear()


class _Watch:
    """Everybody of one event loop who looks, by owner."""

    def __init__(self) -> None:
        self._news: dict[int, set[News]] = {}
        self._marks: _Marks = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, owner_id: int) -> Iterator[News]:
        news = News()
        self._news.setdefault(owner_id, set()).add(news)
        if self._task is None or self._task.done():
            # Nothing of the socket that happens to be the first: not its thread, nor its id.
            self._task = asyncio.create_task(self._run(), context=Context())
        try:
            yield news
        finally:
            self._news[owner_id].discard(news)
            if not self._news[owner_id]:
                del self._news[owner_id]
                self._marks.pop(owner_id, None)

    async def _run(self) -> None:
        async with lent_threads():
            while self._news:
                async with Listener(EVERYBODY) as listener:
                    await self._listen(listener)

    async def _listen(self, listener: Listener) -> None:
        """Pass news on, as long as anybody looks; where there is no layer, for a while."""
        until_s = time.monotonic() + _LISTEN_AGAIN_S
        look_s = time.monotonic()
        while self._news and (listener.is_open or time.monotonic() < until_s):
            left_s = look_s + LOOK_EVERY_S - time.monotonic()
            if left_s <= 0:
                await self._look()
                look_s = time.monotonic()
                continue
            owner_id = await listener.wait(left_s)
            if owner_id is not None:
                self._tell(owner_id)

    async def _look(self) -> None:
        asked = list(self._news)
        found = await sync_to_async(_read)(asked)
        if found is None:
            return
        for owner_id in asked:
            mark = found.get(owner_id)
            # Also at the first look: something may have changed since they read it, unheard.
            if self._marks.get(owner_id, _UNKNOWN) != mark:
                self._tell(owner_id)
            if owner_id in self._news:
                self._marks[owner_id] = mark

    def _tell(self, owner_id: int) -> None:
        for news in self._news.get(owner_id, ()):
            news.tell()


def _read(owner_ids: Collection[int]) -> _Marks | None:
    """Return what owners' jobs are like now; None where nobody can tell."""
    try:
        found = job_lists.read_marks(owner_ids)
    except (DatabaseError, InterfaceError) as error:
        connection.close()
        outages.job_rows.begins(error)
        return None
    except Exception:  # whatever it is, it must not be the last look
        logger.exception("changes of jobs could not be asked for")
        return None
    outages.job_rows.ends()
    return found


_watches: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch]" = WeakKeyDictionary()


@contextmanager
def follow(owner_id: int) -> Iterator[News]:
    """Tell of changes of somebody's jobs from now on; what is before is theirs to read."""
    watch = _watches.setdefault(asyncio.get_running_loop(), _Watch())
    with watch.follow(owner_id) as news:
        yield news

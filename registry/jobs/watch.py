"""Following a job until it has ended, for whoever waits in front of an open request.

Somebody who asked for the job and leaves cancels it, unless somebody else watches it or it goes on
by itself (contract/registry.md 1.10). Where the site itself closes its requests because it stops,
nobody has left: the job goes on when the worker is back; nor where the database does not answer.
Async; knows no HTTP.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError

from models_app import job_watchers, jobs
from models_app.jobs import JobRecord
from registry.jobs import notices
from registry.jobs.notices import Listener, job_group

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.25
_SEEN_EVERY_S: Final = 5.0
_site: Final = {"is_stopping": False}
# Tasks that say good-bye for requests that are gone; kept, or they could be collected half-way.
_leaving: Final[set[asyncio.Task[None]]] = set()


def site_stops() -> None:
    """Say that requests that are closed from now on have not been left by their clients."""
    _site["is_stopping"] = True


async def follow(job_id: str, *, is_starter: bool) -> AsyncGenerator[JobRecord]:
    """Yield a job now and after every change; the last one has ended. Close it with `aclosing`.

    `is_starter`: whoever follows has asked for the job, alone or as one of several. Yields nothing
    where the job is gone.
    """
    watcher_id = await sync_to_async(job_watchers.begin_watching)(job_id, is_starter=is_starter)
    if watcher_id is None:
        return
    staying = asyncio.create_task(_stay(watcher_id))
    has_left = True
    try:
        async with aclosing(_changes(job_id)) as changes:
            async for record in changes:
                yield record
    except (DatabaseError, InterfaceError):
        has_left = False
        raise
    finally:
        staying.cancel()
        # In a task of its own: the request that leaves may be cancelled a second time.
        task = asyncio.create_task(_leave(watcher_id, has_left=has_left))
        _leaving.add(task)
        task.add_done_callback(_leaving.discard)
        await asyncio.shield(task)


async def _stay(watcher_id: str) -> None:
    """Say every few seconds that somebody is there, also while their client takes nothing."""
    while True:
        await asyncio.sleep(_SEEN_EVERY_S)
        try:
            await sync_to_async(job_watchers.keep_watching)(watcher_id)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("who follows a job could not be noted: %s", error)


async def _changes(job_id: str) -> AsyncGenerator[JobRecord]:
    version = -1
    async with Listener(job_group(job_id)) as news:
        while True:
            newest = await sync_to_async(jobs.read_version)(job_id)
            if newest != version:
                record = await sync_to_async(jobs.read_job)(job_id)
                if record is None:
                    return
                version = record.version
                yield record
                if record.is_ended:
                    return
            await news.wait(_POLL_S)


async def _leave(watcher_id: str, *, has_left: bool) -> None:
    await sync_to_async(_end_watching)(watcher_id, has_left=has_left)


def _end_watching(watcher_id: str, *, has_left: bool) -> None:
    if _site["is_stopping"] or not has_left:
        job_watchers.forget(watcher_id)
        return
    cancelled = job_watchers.end_watching(watcher_id)
    if cancelled is not None:
        notices.tell(cancelled.job_id, cancelled.owner_id)

"""`ws/jobs`: the caller's jobs as they go, for pages that show them.

    server  {"type": "jobs", "jobs": [{…}, …]}    first: those that have not ended, newest first
            {"type": "job", "job": {…}}           whenever one has changed, and when one is new

A job is as in `/api/jobs`. Of each, at most five states a second are told, and the last always is.
What a client sends is ignored. Closed with 4401 where nobody is signed in (any longer), with 4403
where the page that opened it is another site's or the key's scope does not reach so far, with 1013
where the user has MOST_SOCKETS open already in this process, each of which reads rows, and with
1011 where the site cannot tell any more for now.

Knows no file and no kind of work: rows are read, and `owner_watch` says when that is worth it: a
socket that has nothing to tell reads none.
"""

import asyncio
import time
from collections import Counter
from typing import Any, ClassVar, Final

from asgiref.sync import sync_to_async
from msgspec import Struct

from models_app import job_lists, jobs
from models_app.jobs import ACTIVE_STATES
from models_app.permissions import Principal
from models_app.sockets import AdmittedConsumer
from ollamasite.error_responses import to_service_error
from ollamasite.http import encode_json
from ollamasite.socket_edge import CLOSE_INTERNAL_ERROR, CLOSE_TRY_LATER
from registry.api.job_schemas import JobMessage, JobsMessage, job_reply
from registry.jobs.owner_watch import News, follow

MOST_SOCKETS: Final = 32
_PAUSE_S: Final = 0.2
_ADMIT_EVERY_S: Final = 10.0


class JobsConsumer(AdmittedConsumer):
    """One socket, and one task that reads the rows of its user for it."""

    route = "ws/jobs"
    _open: ClassVar[Counter[int]] = Counter()  # by user

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._task: asyncio.Task[None] | None = None
        self._versions: dict[str, int] = {}

    async def admitted(self, principal: Principal) -> None:
        """Tell what there is, then what changes."""
        if self._open[principal.user_id] >= MOST_SOCKETS:
            await self.close(CLOSE_TRY_LATER)
            return
        self._open.update([principal.user_id])
        self._task = asyncio.create_task(self._tell(principal))
        self._task.add_done_callback(lambda _: self._open.subtract([principal.user_id]))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore a frame."""

    async def disconnect(self, code: int) -> None:
        """Stop reading."""
        await super().disconnect(code)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tell(self, principal: Principal) -> None:
        try:
            with follow(principal.user_id) as news:
                await self._tell_active(principal)
                await self._tell_changes(principal, news)
        except Exception as error:  # noqa: BLE001 - a task has nobody else to tell
            to_service_error(error)  # logs it
            await self.close(CLOSE_INTERNAL_ERROR)

    async def _tell_active(self, principal: Principal) -> None:
        # The versions first: what changes in between is told once more, and not lost.
        self._versions = await sync_to_async(job_lists.read_versions)(principal)
        active = await sync_to_async(jobs.list_jobs)(principal, states=ACTIVE_STATES)
        await self._send(JobsMessage(jobs=[job_reply(record) for record in active]))

    async def _tell_changes(self, principal: Principal, news: News) -> None:
        admitted_s = time.monotonic()
        while True:
            await news.wait()
            if time.monotonic() - admitted_s >= _ADMIT_EVERY_S:
                admitted_s = time.monotonic()
                if await self.admit() is None:
                    return
            await self._tell_changed(principal)
            await asyncio.sleep(_PAUSE_S)

    async def _tell_changed(self, principal: Principal) -> None:
        versions = await sync_to_async(job_lists.read_versions)(principal)
        known, self._versions = self._versions, versions
        for job_id, version in versions.items():
            if known.get(job_id) == version:
                continue
            record = await sync_to_async(jobs.find_job)(principal, job_id)
            if record is not None:
                self._versions[job_id] = record.version
                await self._send(JobMessage(job=job_reply(record)))

    async def _send(self, message: Struct) -> None:
        await self.send(text_data=encode_json(message).decode())

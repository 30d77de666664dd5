"""Between a job that runs and its row: writes its progress, reads whether it was cancelled.

A thread of its own writes a new status at once, newer figures a few times a second, and a sign of
life every second, so that reporting costs the job nothing. Knows no kind of job.
"""

import logging
import os
import threading
import time
from typing import Final, Self

from django.db import DatabaseError, InterfaceError, connections

from models_app import jobs
from models_app.jobs import ClaimedJob, Snapshot
from registry.errors import JobCancelled
from registry.jobs import notices
from registry.jobs.event_log import EventLog
from registry.progress import Progress

logger = logging.getLogger(__name__)

_WRITE_EVERY_S: Final = 0.2
_LOOK_EVERY_S: Final = 0.1
_BEAT_EVERY_S: Final = 1.0


class ProgressWriter:
    """The reports of one run of a job; a context manager.

    `is_inline`: no thread; what is reported by the thread that made this is written by it.
    """

    def __init__(self, claimed: ClaimedJob, *, is_inline: bool) -> None:
        self.is_inline = is_inline
        self.is_stopping = False
        self._claimed = claimed
        self._log = EventLog(claimed.record.events)
        self._is_over = threading.Event()  # the job has ended, or nothing may be written any more
        self.is_cancelled = False
        self._has_news = threading.Event()
        self._is_changed = False
        self._maker = threading.get_ident()
        self._stop_at_s: float | None = None
        self._written_s = time.monotonic()
        self._thread = threading.Thread(target=self._write_always, name="job-progress", daemon=True)

    def __enter__(self) -> Self:
        if not self.is_inline:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop writing."""
        self.stop()

    def report(self, event: Progress) -> None:
        """Take an event, from any thread. Raises JobCancelled once the job is not wanted."""
        is_new_status = self._log.add(event)
        self._is_changed = True
        if self.is_inline:
            if threading.get_ident() == self._maker:
                self._write_if_due(is_new_status=is_new_status)
        elif is_new_status:
            self._has_news.set()
        if self.is_cancelled or self.is_stopping:
            raise JobCancelled

    def snapshot(self) -> Snapshot:
        """Return what has been reported so far."""
        return self._log.snapshot()

    def stop(self) -> None:
        """Write nothing any more. A second call changes nothing."""
        self._is_over.set()
        self._has_news.set()
        if self._thread.is_alive():
            self._thread.join()

    def stop_job(self, within_s: float) -> None:
        """Have the job end because its process ends, so that it is begun again later.

        Safe in a signal handler. One that has not ended within the time loses its process.
        """
        self.is_stopping = True
        self._stop_at_s = time.monotonic() + within_s

    def tell(self) -> None:
        """Wake up those who wait for news of the job."""
        record = self._claimed.record
        notices.tell(record.job_id, record.owner_id)

    def _write_always(self) -> None:
        record = self._claimed.record
        try:
            with notices.Sender() as sender:
                sender.tell(record.job_id, record.owner_id)
                while not self._is_over.is_set():
                    is_new_status = self._has_news.wait(_LOOK_EVERY_S)
                    self._has_news.clear()
                    self._end_process_in_time()
                    if not self._is_over.is_set() and self._write_safely(is_new_status):
                        sender.tell(record.job_id, record.owner_id)
        finally:
            connections.close_all()

    def _write_safely(self, is_new_status: bool) -> bool:  # noqa: FBT001 - one caller
        try:
            return self._write_if_due(is_new_status=is_new_status)
        except (DatabaseError, InterfaceError) as error:
            # The next one may work; if none does for long, somebody else takes the job up.
            logger.warning(
                "the progress of job %s was not written: %s", self._claimed.record.job_id, error
            )
            connections.close_all()
            return False

    def _write_if_due(self, *, is_new_status: bool) -> bool:
        """Write what is to be written now; return whether anything was."""
        age_s = time.monotonic() - self._written_s
        has_news = self._is_changed and (is_new_status or age_s >= _WRITE_EVERY_S)
        if not has_news and age_s < _BEAT_EVERY_S:
            return False
        self._is_changed = False
        self._written_s = time.monotonic()
        is_cancel_asked = jobs.save_progress(self._claimed.claim, self._log.snapshot())
        if is_cancel_asked is None:
            self._lose()
        self.is_cancelled |= bool(is_cancel_asked)
        return True

    def _lose(self) -> None:
        """End a job that somebody else has taken up because nothing was heard of it."""
        if not self.is_cancelled:
            logger.warning("job %s is somebody else's now", self._claimed.record.job_id)
        self.is_cancelled = True

    def _end_process_in_time(self) -> None:
        if self._stop_at_s is not None and time.monotonic() >= self._stop_at_s:
            try:
                jobs.put_back(self._claimed.claim)
            finally:
                os._exit(1)

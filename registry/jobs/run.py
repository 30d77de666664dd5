"""Doing one job: its row is claimed, its function called, its end written.

While it runs, a thread of its own writes what the job reports, shows that the worker lives and
looks whether somebody has cancelled. What a job leaves behind when its process is killed is always
whole (each use case sees to that), so that it can simply be begun again. Knows no kind of job.
"""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Final

from django.db import InterfaceError, OperationalError, connections

from models_app import jobs
from models_app.jobs import ClaimedJob, JobKind, JobState
from ollamasite.error_responses import to_service_error
from ollamasite.errors import ServiceError, Unauthenticated
from registry.errors import JobCancelled
from registry.jobs.context import JobContext
from registry.jobs.kinds import KINDS, Work
from registry.jobs.progress_writer import ProgressWriter
from registry.jobs.submit import MOST_RUNNING

logger = logging.getLogger(__name__)

# A job that does not hear that it should stop is left to whoever takes it up next.
_STOP_S: Final = 5.0
_DATABASE_IS_AWAY: Final = (OperationalError, InterfaceError)
_PAUSES_S: Final = (0.2, 1.0, 4.0)


def run_next(*, is_inline: bool = False, kinds: Mapping[JobKind, Work] = KINDS) -> bool:
    """Do the job whose turn it is; False: there is none.

    `is_inline`: in the caller's thread and database transaction alone. A job that fails is no
    error here. Blocks.
    """
    claimed = jobs.claim_next(most_running=MOST_RUNNING)
    if claimed is None:
        return False
    writer = ProgressWriter(claimed, is_inline=is_inline)
    with writer, _stops_on_sigterm(writer):
        error = _do(claimed, writer, kinds[claimed.record.kind])
        writer.stop()
        if isinstance(error, _DATABASE_IS_AWAY) and not is_inline:
            # Begun again once its row has been silent for a while, as if the process had died.
            logger.warning("job %s lost the database: %s", claimed.record.job_id, error)
        else:
            _end_surely(claimed, writer, error)
    return True


def _do(claimed: ClaimedJob, writer: ProgressWriter, work: Work) -> Exception | None:
    """Run the job's function; return what it ended with, None: well."""
    if not claimed.is_wanted:
        return Unauthenticated("the account or the key that asked for this is closed")
    context = JobContext(
        job_id=claimed.record.job_id, principal=claimed.principal, report=writer.report
    )
    try:
        work.do(context, claimed.arguments)
    except Exception as error:  # noqa: BLE001 - it is the job's end, and told to whoever asked
        return error
    return None


def _end_surely(claimed: ClaimedJob, writer: ProgressWriter, error: Exception | None) -> None:
    """Write the end, also where the database is away for a few seconds: hours may be in the job."""
    for pause_s in () if writer.is_inline else _PAUSES_S:
        try:
            _end(claimed, writer, error)
        except _DATABASE_IS_AWAY as failure:
            logger.warning("the end of job %s is not written: %s", claimed.record.job_id, failure)
            connections.close_all()  # it may be the connection alone that is broken
            time.sleep(pause_s)
        else:
            return
    _end(claimed, writer, error)


def _end(claimed: ClaimedJob, writer: ProgressWriter, error: Exception | None) -> None:
    if error is not None and writer.is_stopping and not writer.is_cancelled:
        jobs.put_back(claimed.claim)
    elif error is None:
        jobs.end_job(claimed.claim, JobState.SUCCEEDED, writer.snapshot())
    elif isinstance(error, JobCancelled) or writer.is_cancelled:
        jobs.end_job(claimed.claim, JobState.CANCELLED, writer.snapshot(), _told(JobCancelled()))
    else:
        failure = to_service_error(error)
        logger.info("job %s failed: %s", claimed.record.job_id, failure.message)
        jobs.end_job(claimed.claim, JobState.FAILED, writer.snapshot(), _told(failure))
    writer.tell()


def _told(error: ServiceError) -> dict[str, Any]:
    return {"code": error.code, "status": error.status, "message": error.message}


@contextlib.contextmanager
def _stops_on_sigterm(writer: ProgressWriter) -> Iterator[None]:
    """Let SIGTERM, by which a worker ends its children, put the job back before it ends this one.

    Only in the main thread of a process of its own: others hear no signals.
    """
    if writer.is_inline or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        heard.append(number)
        writer.stop_job(_STOP_S)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if heard:
            os.kill(os.getpid(), signal.SIGTERM)

"""Asking for jobs: a row is made, or the one is found that does the same. Knows no HTTP.

Functions block: they read and write rows.
"""

import hashlib
import secrets
from typing import Final

import msgspec

from models_app import jobs
from models_app.jobs import JobKind, JobRecord, NewJob
from models_app.permissions import Principal
from ollamasite.errors import BodyTooLarge
from registry.errors import JobNotFound, TooManyJobs
from registry.jobs import notices
from registry.jobs.wake import wake

MOST_QUEUED: Final = 16  # of one user
MOST_RUNNING: Final = 2
# Rows of jobs are kept for days: they are no place to bring bytes to. A model's texts fit.
MAX_ARGUMENT_BYTES: Final = 16 * 1024 * 1024


def submit(
    principal: Principal | None,
    kind: JobKind,
    arguments: object,
    *,
    model_name: str,
    share: str = "",
    is_detached: bool = False,
) -> JobRecord:
    """Have a job done, and return it; None as principal: the site asks.

    `share` says what is done, and for whom where that matters: while a job of the kind with the
    same text is active, that one is returned. `arguments` is what the kind's function gets
    (`registry.jobs.kinds`). `is_detached`: it goes on though nobody watches.
    Raises TooManyJobs, BodyTooLarge.
    """
    encoded = msgspec.json.encode(arguments)
    if len(encoded) > MAX_ARGUMENT_BYTES:
        raise BodyTooLarge
    new = NewJob(
        kind=kind,
        owner_id=principal.user_id if principal else None,
        model_name=model_name,
        share_key=_share_key(kind, share),
        arguments=encoded.decode(),
        is_detached=is_detached,
    )
    record = jobs.add_or_share(new, most_queued=MOST_QUEUED)
    if record is None:
        raise TooManyJobs
    _tell_and_wake(record)
    return record


def cancel(principal: Principal, job_id: str) -> JobRecord:
    """Cancel a job; one that runs ends a moment later. Raises JobNotFound."""
    record = jobs.ask_cancel(_find(principal, job_id).job_id)
    if record is None:
        raise JobNotFound(job_id)
    notices.tell(record.job_id, record.owner_id)
    return record


def retry(principal: Principal, job_id: str) -> JobRecord:
    """Have a job done again that failed or was cancelled; others are returned as they are.

    Raises JobNotFound, TooManyJobs.
    """
    record = jobs.queue_again(_find(principal, job_id).job_id, most_queued=MOST_QUEUED)
    if record is None:
        raise TooManyJobs
    _tell_and_wake(record)
    return record


def find(principal: Principal, job_id: str) -> JobRecord:
    """Return a job that the principal may see. Raises JobNotFound."""
    return _find(principal, job_id)


def _find(principal: Principal, job_id: str) -> JobRecord:
    record = jobs.find_job(principal, job_id)
    if record is None:
        raise JobNotFound(job_id)
    return record


def _tell_and_wake(record: JobRecord) -> None:
    notices.tell(record.job_id, record.owner_id)
    if record.state == jobs.JobState.QUEUED:
        wake()


def _share_key(kind: JobKind, share: str) -> str:
    what = f"{kind}\0{share or secrets.token_hex(16)}"
    return hashlib.sha256(what.encode()).hexdigest()

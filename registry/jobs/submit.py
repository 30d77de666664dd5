"""Asking for jobs: a row is made, or the one is found that does the same. Knows no HTTP.

Functions block: they read and write rows.
"""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from models_app import audit, job_cancel, jobs
from models_app.jobs import JobKind, JobRecord, NewJob
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal
from ollamasite.errors import BodyTooLarge
from registry.errors import JobNotFound, TooManyJobs
from registry.jobs import notices
from registry.jobs.wake import wake

MOST_QUEUED: Final = 16  # of one user
MOST_RUNNING: Final = 2
_OF_THE_STORE: Final = frozenset({JobKind.VERIFY, JobKind.COLLECT_GARBAGE})
_WRITING: Final = frozenset({JobKind.PULL, JobKind.CREATE, JobKind.QUANTIZE})
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
    patterns = principal.model_patterns if principal else ()
    new = NewJob(
        kind=kind,
        owner_id=principal.user_id if principal else None,
        model_name=model_name,
        share_key=_share_key(kind, share, patterns),
        arguments=encoded.decode(),
        model_patterns=patterns,
        key_id=principal.key_id if principal else None,
        is_detached=is_detached,
    )
    record = _add(principal, new)
    _tell_and_wake(record)
    return record


@audit.act()
def _add(principal: Principal | None, new: NewJob) -> JobRecord:
    record = jobs.add_or_share(new, most_queued=MOST_QUEUED)
    if record is None:
        raise TooManyJobs
    if principal is not None:
        _note(principal, record)
    return record


def require_place(principal: Principal) -> None:
    """Raise TooManyJobs where a job of theirs would be refused now."""
    if jobs.count_queued(principal.user_id) >= MOST_QUEUED:
        raise TooManyJobs


def cancel(principal: Principal, job_id: str) -> JobRecord:
    """Cancel a job; one that runs ends a moment later. Raises JobNotFound."""
    with audit.act():
        record = jobs.ask_cancel(_find(principal, job_id).job_id)
        if record is None:
            raise JobNotFound(job_id)
        if record.owner_id != principal.user_id:
            _record_job("job.cancel", principal, record)
    notices.tell(record.job_id, record.owner_id)
    return record


def retry(principal: Principal, job_id: str) -> JobRecord:
    """Have a job done again that failed or was cancelled; others are returned as they are.

    Raises JobNotFound, TooManyJobs.
    """
    with audit.act():
        record = jobs.queue_again(
            _find(principal, job_id).job_id, most_queued=MOST_QUEUED, key_id=principal.key_id
        )
        if record is None:
            raise TooManyJobs
        if record.owner_id != principal.user_id:
            _record_job("job.retry", principal, record)
    _tell_and_wake(record)
    return record


def dismiss(principal: Principal, job_id: str) -> JobRecord:
    """Let a job that has failed need no attention any longer; others are returned as they are.

    Raises JobNotFound.
    """
    record = _find(principal, job_id)
    with audit.act():
        job_cancel.dismiss_failed(record.job_id)
        if record.owner_id != principal.user_id:
            _record_job("job.dismiss", principal, record)
    notices.tell(record.job_id, record.owner_id)
    return _find(principal, job_id)


def find(principal: Principal, job_id: str) -> JobRecord:
    """Return a job that the principal may see. Raises JobNotFound."""
    return _find(principal, job_id)


def _find(principal: Principal, job_id: str) -> JobRecord:
    record = jobs.find_job(principal, job_id)
    if record is None:
        raise JobNotFound(job_id)
    return record


def _note(principal: Principal, record: JobRecord) -> None:
    """Record a job that others have to do with: of the whole store, or of a model they share."""
    if record.kind in _OF_THE_STORE:
        _record_job(f"store.{record.kind}", principal, record)
    elif record.kind in _WRITING:
        name = ModelName.parse(record.model_name)
        name = name.within(name.namespace or LIBRARY)
        audit.record_model_act(f"model.{record.kind}", name, by=principal, job=record.job_id)


def _record_job(action: str, principal: Principal, record: JobRecord) -> None:
    details = {"job": record.job_id, "owner": record.owner_name}
    audit.record(action, record.model_name, by=principal, **details)


def _tell_and_wake(record: JobRecord) -> None:
    notices.tell(record.job_id, record.owner_id)
    if record.state == jobs.JobState.QUEUED:
        wake()


def _share_key(kind: JobKind, share: str, patterns: Sequence[str]) -> str:
    # What a key may not reach is not reached by another's job either.
    what = "\0".join((kind, share or secrets.token_hex(16), *patterns))
    return hashlib.sha256(what.encode()).hexdigest()

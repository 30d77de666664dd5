"""Jobs are cancelled: one whose row is held, or all that hang on a person or on a key.

Whoever runs one sees it with the next progress that it writes. Wants the caller's transaction.
And one that has failed is dismissed. Asks nobody's rights; knows no kind of job and no queue.
"""

import secrets
from collections.abc import Collection
from typing import Any

from django.db.models import F, QuerySet
from django.utils import timezone

from models_app.models import ACTIVE_STATES, Job, JobState


def cancel_held(row: Job) -> bool:
    """Cancel a job whose row the caller has locked; return whether there was anything to cancel."""
    if row.state == JobState.QUEUED:
        changes: dict[str, Any] = {
            "state": JobState.CANCELLED,
            "ended_at": timezone.now(),
            "bytes_per_s": 0,
        }
    elif row.state == JobState.RUNNING:
        # Whoever asks for the same thing from now on gets a job that is not about to end.
        changes = {"is_cancel_asked": True, "share_key": secrets.token_hex(32)}
    else:
        return False
    Job.objects.filter(pk=row.pk).update(**changes, version=F("version") + 1)
    return True


def dismiss_failed(job_id: str) -> None:
    """Note that somebody has seen that a job has failed; others stay as they are."""
    rows = Job.objects.filter(job_id=job_id, state=JobState.FAILED, dismissed_at=None)
    rows.update(dismissed_at=timezone.now(), version=F("version") + 1)


def cancel_jobs_of(owner_id: int, *, namespace: str = "") -> None:
    """Cancel a user's jobs: all, or those about models of a namespace."""
    rows = Job.objects.filter(owner_id=owner_id)
    if namespace:
        rows = rows.filter(model_name__istartswith=f"{namespace}/")
    _cancel(rows)


def cancel_jobs_by(key_ids: Collection[int]) -> None:
    """Cancel the jobs that were asked for by these keys and by nothing else."""
    _cancel(Job.objects.filter(key_id__in=key_ids))


def _cancel(rows: QuerySet[Job]) -> None:
    for row in rows.select_for_update().filter(state__in=ACTIVE_STATES).order_by("pk"):
        cancel_held(row)

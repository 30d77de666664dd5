"""Who follows a job over an open request, and what becomes of the job when they leave.

A watcher that has not been seen for a while is gone: its process was killed. Knows no HTTP.
"""

import secrets
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from models_app.job_cancel import cancel_held
from models_app.jobs import EXPECTED, JobRecord, read_job
from models_app.models import Job, JobWatcher

LIVE_S: Final = 15.0


def begin_watching(job_id: str, *, is_starter: bool) -> str | None:
    """Note somebody who follows a job; return the watcher's id, None where the job is gone.

    `is_starter`: they have asked for the job, be it that it was running already.
    """
    watcher_id = secrets.token_hex(16)
    with transaction.atomic():
        # Locked: with its owner, a job may be deleted right now.
        job = Job.objects.select_for_update(no_key=True).filter(job_id=job_id).first()
        if job is None:
            return None
        JobWatcher.objects.create(job=job, watcher_id=watcher_id, is_starter=is_starter)
        if is_starter:
            expected = job.watchers.filter(watcher_id__startswith=EXPECTED).first()
            if expected is not None:
                expected.delete()
    return watcher_id


def keep_watching(watcher_id: str) -> None:
    """Say that a watcher is still there."""
    JobWatcher.objects.filter(watcher_id=watcher_id).update(seen_at=timezone.now())


def end_watching(watcher_id: str) -> JobRecord | None:
    """Forget a watcher, and cancel the job where that was the last one who wanted it.

    That is: the watcher had asked for the job, it has not ended, nobody else watches it and nobody
    wants it to go on by itself. Returns the job where it was cancelled.
    """
    with transaction.atomic():
        watcher = JobWatcher.objects.filter(watcher_id=watcher_id).first()
        if watcher is None:
            return None
        job = Job.objects.select_for_update().filter(pk=watcher.job_id).first()
        if job is None:
            return None
        watcher.delete()
        if not watcher.is_starter or job.is_detached:
            return None
        oldest = timezone.now() - timedelta(seconds=LIVE_S)
        if job.watchers.filter(seen_at__gte=oldest).exists():
            return None
        if not cancel_held(job):
            return None
    return read_job(job.job_id)


def forget(watcher_id: str) -> None:
    """Forget a watcher who has not left by their own will; the job goes on."""
    JobWatcher.objects.filter(watcher_id=watcher_id).delete()

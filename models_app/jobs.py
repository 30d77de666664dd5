"""Rows of jobs: what is to be done, who does it now, how far it is and who watches.

Every change makes a row's `version` greater. Who takes a job up gets a claim; what is written
under a claim that has been taken away since changes nothing. Knows no kind of job, no queue and no
HTTP: `registry.jobs` does.
"""

import contextlib
import json
import secrets
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from models_app.job_cancel import cancel_held
from models_app.models import ACTIVE_STATES, Job, JobKind, JobState, User
from models_app.permissions import CredentialKind, Principal
from models_app.principals import principal_of_user
from ollamasite.errors import Unauthenticated

# Others know the words, not the tables.
__all__ = ["ACTIVE_STATES", "JobKind", "JobState"]

# How the ids of watchers begin that are expected, because they asked, and have not come yet.
EXPECTED: Final = "~"
_MAX_NAME: Final = 700
_MAX_ID: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as it was a moment ago.

    `events` are Progress objects as dicts, in order: entries are changed and added, never moved or
    removed, until somebody has the job done anew. `owner_id` is None, and `owner_name` empty, where
    the site asked. `error` has `code`, `status` (of HTTP) and `message`.
    """

    job_id: str
    kind: JobKind
    state: JobState
    owner_id: int | None
    owner_name: str
    model_name: str
    is_detached: bool
    events: tuple[dict[str, Any], ...]
    version: int
    total_bytes: int
    completed_bytes: int
    bytes_per_s: int
    error: dict[str, Any] | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    is_cancel_asked: bool = False
    is_dismissed: bool = False

    @property
    def is_ended(self) -> bool:
        """Whether nothing will change any more, unless somebody has it done anew."""
        return self.state not in ACTIVE_STATES

    @property
    def remaining_s(self) -> float | None:
        """How long the rest takes at the speed of the last seconds; None: nobody knows."""
        remaining_bytes = self.total_bytes - self.completed_bytes
        if self.state != JobState.RUNNING or not self.bytes_per_s or remaining_bytes < 0:
            return None
        return remaining_bytes / self.bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What is to be done. `arguments` is a JSON object; `owner_id` None: the site asks."""

    kind: JobKind
    owner_id: int | None
    model_name: str
    share_key: str  # 64 hex
    arguments: str
    model_patterns: tuple[str, ...] = ()  # of the key by which it is asked
    key_id: int | None = None  # of that key
    is_detached: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to a running job, until somebody else takes it up."""

    pk: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJob:
    """A job for whoever runs it. `principal` is its owner as they are now; None: the site.

    `is_wanted`: neither is the owner's account closed nor the key revoked that has asked for it.
    """

    claim: Claim
    record: JobRecord
    arguments: str
    principal: Principal | None
    is_wanted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a running job is; `events` is a JSON list."""

    events: str = "[]"
    total_bytes: int = 0
    completed_bytes: int = 0
    bytes_per_s: int = 0


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done about jobs whose worker is gone, and how many wait for one."""

    changed: list[JobRecord] = field(default_factory=list)
    queued: int = 0
    running: int = 0


# ------------------------------------------------------------------ reading
def find_job(principal: Principal, job_id: str) -> JobRecord | None:
    """Return a job that the principal may see: their own; operators every one."""
    row = visible(principal).filter(job_id=_id(job_id)).first()
    return record_of(row) if row else None


def list_jobs(
    principal: Principal,
    *,
    states: Collection[JobState] = (),
    kind: JobKind | None = None,
    is_everybodys: bool = False,
    limit: int = 100,
) -> list[JobRecord]:
    """Return jobs of the principal, the newest first; `is_everybodys`: all they may see."""
    rows = visible(principal)
    if not is_everybodys:
        rows = rows.filter(owner_id=principal.user_id)
    if states:
        rows = rows.filter(state__in=list(states))
    if kind is not None:
        rows = rows.filter(kind=kind)
    return [record_of(row) for row in rows[:limit]]


def read_job(job_id: str) -> JobRecord | None:
    """Return a job, whoever asks."""
    row = Job.objects.select_related("owner").filter(job_id=_id(job_id)).first()
    return record_of(row) if row else None


def read_version(job_id: str) -> int | None:
    """Return the version of a job, which grows with every change; None: it is gone."""
    return Job.objects.filter(job_id=_id(job_id)).values_list("version", flat=True).first()


def last_created(kind: JobKind) -> datetime | None:
    """Return when the newest job of a kind was asked for."""
    rows = Job.objects.filter(kind=kind).order_by("-created_at")
    return rows.values_list("created_at", flat=True).first()


def has_queued() -> bool:
    """Whether any job waits for a worker."""
    return Job.objects.filter(state=JobState.QUEUED).exists()


# ------------------------------------------------------------------ asking for jobs
def add_or_share(new: NewJob, *, most_queued: int) -> JobRecord | None:
    """Return the active job with the same key, or else a new one, queued.

    None where it would be one more than so many in an owner's line; the site has no such limit.
    Who asks counts as watching from now on, see `models_app.job_watchers`. Raises Unauthenticated
    where the owner's account has been deleted meanwhile.
    """
    while True:
        # Somebody may be quicker: another owner, whose row is not held here.
        with contextlib.suppress(IntegrityError), transaction.atomic():
            if not _hold_owner(new.owner_id):
                raise Unauthenticated
            shared = _share(new)
            if shared is not None:
                return shared
            if new.owner_id is not None and count_queued(new.owner_id) >= most_queued:
                return None
            row = Job.objects.create(
                job_id=secrets.token_hex(_MAX_ID // 2),
                kind=new.kind,
                owner_id=new.owner_id,
                model_name=new.model_name[:_MAX_NAME],
                model_patterns=list(new.model_patterns),
                key_id=new.key_id,
                share_key=new.share_key,
                arguments=new.arguments,
                is_detached=new.is_detached,
            )
            if new.owner_id is not None:
                _expect_watcher(row, new)
            return record_of(row)


def ask_cancel(job_id: str) -> JobRecord | None:
    """Cancel a job: at once where it waits, else its worker is told. None: it is gone.

    A job that has ended stays as it is.
    """
    with transaction.atomic():
        row = Job.objects.select_for_update().filter(job_id=_id(job_id)).first()
        if row is None:
            return None
        cancel_held(row)
    return read_job(job_id)


def queue_again(job_id: str, *, most_queued: int, key_id: int | None = None) -> JobRecord | None:
    """Queue a job again that failed or was cancelled; from then on it goes on by itself.

    `key_id`: of the key that asks for it. Other jobs are left as they are. Where somebody has asked
    for the same thing meanwhile, that job is returned. None where it is gone, or would be one too
    many in its owner's line.
    """
    row = Job.objects.filter(job_id=_id(job_id)).first()
    if row is None:
        return None
    if row.state not in {JobState.FAILED, JobState.CANCELLED}:
        return read_job(job_id)
    try:
        with transaction.atomic():
            _hold_owner(row.owner_id)
            if row.owner_id is not None and count_queued(row.owner_id) >= most_queued:
                return None
            _requeue(row, key_id)
    except IntegrityError:
        same = Job.objects.select_related("owner").filter(share_key=row.share_key)
        active = same.filter(state__in=ACTIVE_STATES).first()
        return record_of(active) if active else read_job(job_id)
    return read_job(job_id)


def _requeue(row: Job, key_id: int | None) -> None:
    Job.objects.filter(pk=row.pk, state=row.state).update(
        state=JobState.QUEUED,
        key_id=key_id,
        is_detached=True,
        is_cancel_asked=False,
        events="[]",
        total_bytes=0,
        completed_bytes=0,
        bytes_per_s=0,
        error=None,
        attempt=0,
        started_at=None,
        heartbeat_at=None,
        ended_at=None,
        dismissed_at=None,
        version=F("version") + 1,
    )


def _share(new: NewJob) -> JobRecord | None:
    rows = Job.objects.select_for_update(of=("self",)).select_related("owner")
    row = rows.filter(share_key=new.share_key, state__in=ACTIVE_STATES).first()
    if row is None:
        return None
    changes: dict[str, Any] = {}
    if new.is_detached and not row.is_detached:
        changes["is_detached"] = True
    if row.state == JobState.QUEUED and row.owner is not None and not row.owner.is_active:
        # It would fail with the account of whoever asked first.
        changes["owner_id"] = new.owner_id
    if row.key_id is not None and row.key_id != new.key_id:
        changes["key_id"] = None  # now it hangs on no single key
    if changes:
        Job.objects.filter(pk=row.pk).update(**changes, version=F("version") + 1)
        row = rows.get(pk=row.pk)
    _expect_watcher(row, new)
    return record_of(row)


def _expect_watcher(row: Job, new: NewJob) -> None:
    """Count whoever asks as watching until they do: others who watch may leave right now."""
    if not new.is_detached:
        row.watchers.create(watcher_id=EXPECTED + secrets.token_hex(15))


def _hold_owner(owner_id: int | None) -> bool:
    """Let one transaction at a time look at an owner's jobs and add to them.

    False: there is no such owner any longer. The site itself is always there.
    """
    if owner_id is None:
        return True
    owners = User.objects.select_for_update(no_key=True).filter(pk=owner_id)
    return owners.values_list("pk", flat=True).first() is not None


def count_queued(owner_id: int) -> int:
    return Job.objects.filter(owner_id=owner_id, state=JobState.QUEUED).count()


# ------------------------------------------------------------------ doing jobs
def claim_next(*, most_running: int) -> ClaimedJob | None:
    """Take up the job whose turn it is; None: none waits that may run.

    First comes whoever has the fewest running, then what was asked for first; nobody has more
    than `most_running` at a time.
    """
    while True:
        candidate = _next_candidate(most_running)
        if candidate is None:
            return None
        pk, owner_id = candidate
        now = timezone.now()
        with transaction.atomic():
            _hold_owner(owner_id)
            if _running_of(owner_id) >= most_running:
                continue
            taken = Job.objects.filter(pk=pk, state=JobState.QUEUED).update(
                state=JobState.RUNNING,
                attempt=F("attempt") + 1,
                started_at=now,
                heartbeat_at=now,
                version=F("version") + 1,
            )
        if taken:
            return _claimed(Claim(pk, now))


def save_progress(claim: Claim, snapshot: Snapshot) -> bool | None:
    """Write how far a job is, and that its worker lives; return whether it is to be cancelled.

    None: it is somebody else's now.
    """
    changed = _under(claim).update(
        events=snapshot.events,
        total_bytes=snapshot.total_bytes,
        completed_bytes=snapshot.completed_bytes,
        bytes_per_s=snapshot.bytes_per_s,
        heartbeat_at=timezone.now(),
        version=F("version") + 1,
    )
    if not changed:
        return None
    return _under(claim).values_list("is_cancel_asked", flat=True).first()


def end_job(
    claim: Claim, state: JobState, snapshot: Snapshot, error: dict[str, Any] | None = None
) -> bool:
    """End a job with its last progress. False: it is somebody else's now."""
    changed = _under(claim).update(
        **_ended(state),
        error=error,
        events=snapshot.events,
        total_bytes=snapshot.total_bytes,
        completed_bytes=snapshot.completed_bytes,
        version=F("version") + 1,
    )
    return changed > 0


def put_back(claim: Claim) -> bool:
    """Queue a job again whose worker has to stop; that does not count as an attempt."""
    changes = {"attempt": F("attempt") - 1, "bytes_per_s": 0, "heartbeat_at": None}
    changed = _under(claim).update(state=JobState.QUEUED, **changes, version=F("version") + 1)
    return changed > 0


def recover(*, stale_s: float, most_attempts: int, error: dict[str, Any]) -> Recovered:
    """Queue again what nobody works at any longer; what was begun too often fails with `error`.

    A job whose heartbeat is older than `stale_s` has lost its worker; one that is as far ahead was
    written before the clock was set back, and nothing has been heard since.
    """
    now, stale = timezone.now(), timedelta(seconds=stale_s)
    is_silent = Q(heartbeat_at__lt=now - stale) | Q(heartbeat_at__gt=now + stale)
    lost = Job.objects.filter(is_silent, state=JobState.RUNNING)
    changed: list[JobRecord] = []
    for row in lost.select_related("owner"):
        if row.is_cancel_asked:
            changes = _ended(JobState.CANCELLED)
        elif row.attempt >= most_attempts:
            changes = dict(_ended(JobState.FAILED), error=error)
        else:
            changes = {"state": JobState.QUEUED, "bytes_per_s": 0}
        # Not where the worker has shown a sign of life meanwhile.
        same = lost.filter(
            pk=row.pk, started_at=row.started_at, is_cancel_asked=row.is_cancel_asked
        )
        if same.update(**changes, version=F("version") + 1):
            changed.append(record_of(row))
    states = Counter(Job.objects.filter(state__in=ACTIVE_STATES).values_list("state", flat=True))
    return Recovered(changed, states[JobState.QUEUED], states[JobState.RUNNING])


def _next_candidate(most_running: int) -> tuple[int, int | None] | None:
    running = Counter(
        Job.objects.filter(state=JobState.RUNNING).order_by().values_list("owner_id", flat=True)
    )
    queued = Job.objects.filter(state=JobState.QUEUED).order_by("created_at", "pk")
    waiting = [
        (pk, owner_id)
        for pk, owner_id in queued.values_list("pk", "owner_id")
        if running[owner_id] < most_running
    ]
    return min(waiting, key=lambda job: running[job[1]], default=None)


def _running_of(owner_id: int | None) -> int:
    return Job.objects.filter(owner_id=owner_id, state=JobState.RUNNING).count()


def _claimed(claim: Claim) -> ClaimedJob:
    row = Job.objects.select_related("owner", "key").get(pk=claim.pk)
    owner, principal = row.owner, None
    if owner is not None:
        # With the rights of now, but for no models that the key was not for.
        known = principal_of_user(owner, CredentialKind.SESSION)
        principal = replace(known, model_patterns=tuple(row.model_patterns))
    return ClaimedJob(
        claim=claim,
        record=record_of(row),
        arguments=row.arguments,
        principal=principal,
        is_wanted=(owner is None or owner.is_active) and not (row.key and row.key.revoked_at),
    )


def _under(claim: Claim) -> QuerySet[Job]:
    return Job.objects.filter(pk=claim.pk, state=JobState.RUNNING, started_at=claim.started_at)


def _ended(state: JobState) -> dict[str, Any]:
    return {"state": state, "ended_at": timezone.now(), "bytes_per_s": 0}


# ------------------------------------------------------------------ rows
def visible(principal: Principal) -> QuerySet[Job]:
    """Return the jobs that the principal may see, without what they were asked with: megabytes."""
    rows = Job.objects.select_related("owner").defer("arguments")
    if principal.may_operate:
        return rows
    own = rows.filter(owner_id=principal.user_id)
    # A key for some models knows of what such keys have asked for.
    patterns = list(principal.model_patterns)
    return own.filter(model_patterns=patterns) if patterns else own


def _id(job_id: str) -> str:
    # PostgreSQL does not even look for a text with a NUL in it.
    return job_id if len(job_id) <= _MAX_ID and job_id.isalnum() else ""


def record_of(row: Job, *, has_events: bool = True) -> JobRecord:
    """Return a row as others know it; without its events where they are not to be read."""
    return JobRecord(
        job_id=row.job_id,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        is_cancel_asked=row.is_cancel_asked,
        is_dismissed=row.dismissed_at is not None,
        owner_id=row.owner_id,
        owner_name=row.owner.username if row.owner else "",
        model_name=row.model_name,
        is_detached=row.is_detached,
        events=tuple(json.loads(row.events)) if has_events else (),
        version=row.version,
        total_bytes=row.total_bytes,
        completed_bytes=row.completed_bytes,
        bytes_per_s=row.bytes_per_s,
        error=row.error,
        attempt=row.attempt,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )

"""Jobs for people to look at: lists, and what is told of on every page.

Who may see which job says `models_app.jobs`. Asks for a fixed number of queries, however many
jobs there are; knows no page.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, Max, Q, Sum
from django.utils import timezone

from models_app.jobs import ACTIVE_STATES, JobRecord, record_of, visible
from models_app.models import Job, JobState
from models_app.permissions import Principal

_JUST_ENDED: Final = timedelta(minutes=1)
_MOST_ACTIVE: Final = 100
_MOST_ENDED: Final = 50
_MOST_TOLD: Final = 20
_MOST_KNOWN: Final = 60


@dataclass(frozen=True, slots=True)
class JobLists:
    """Jobs, the newest first. Those that have ended are without their events."""

    active: list[JobRecord]
    ended: list[JobRecord]


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """How many jobs nobody has to do with, and how many run."""

    silent: int  # of those that run
    waiting: int
    running: int


def left_alone(*, silent_since: datetime, queued_before: datetime) -> LeftAlone:
    """Count the jobs that run and were last heard of before, and those that wait since before."""
    running = Job.objects.filter(state=JobState.RUNNING)
    waiting = Job.objects.filter(state=JobState.QUEUED, created_at__lt=queued_before)
    return LeftAlone(
        silent=running.filter(heartbeat_at__lt=silent_since).count(),
        waiting=waiting.count(),
        running=running.count(),
    )


def list_for_people(principal: Principal, *, is_everybodys: bool) -> JobLists:
    """Return one's own jobs, or all that one may see. Two queries."""
    rows = visible(principal)
    if not is_everybodys:
        rows = rows.filter(owner_id=principal.user_id)
    active = rows.filter(state__in=ACTIVE_STATES)[:_MOST_ACTIVE]
    ended = rows.exclude(state__in=ACTIVE_STATES).defer("events")[:_MOST_ENDED]
    return JobLists(
        [record_of(row) for row in active], [record_of(row, has_events=False) for row in ended]
    )


def list_to_tell(principal: Principal, known: Collection[str]) -> list[JobRecord]:
    """Return what one may see that has not ended, and those of the known ones that have.

    Without events, and with one query: every page asks this every few seconds.
    """
    ids = [job_id for job_id in dict.fromkeys(known) if job_id.isalnum()][:_MOST_KNOWN]
    rows = visible(principal).defer("events")
    rows = rows.filter(Q(state__in=ACTIVE_STATES) | Q(job_id__in=ids))
    return [record_of(row, has_events=False) for row in rows[:_MOST_TOLD]]


def read_versions(principal: Principal) -> dict[str, int]:
    """Return the versions of the principal's jobs that have not ended, or only just have."""
    rows = visible(principal).filter(_recent(), owner_id=principal.user_id)
    return dict(rows.order_by("created_at", "pk").values_list("job_id", "version"))


def read_marks(owner_ids: Collection[int]) -> dict[int, object]:
    """Return, for each owner with jobs that `read_versions` tells of, what any change changes.

    One query, however many there are.
    """
    rows = Job.objects.filter(_recent(), owner_id__in=owner_ids).order_by()
    marks = rows.values_list("owner_id").annotate(Count("pk"), Max("pk"), Sum("version"))
    return {owner_id: mark for owner_id, *mark in marks}


def _recent() -> Q:
    just_now = timezone.now() - _JUST_ENDED
    return Q(state__in=ACTIVE_STATES) | Q(ended_at__gte=just_now)

"""What needs somebody's attention, in words; where nothing does there is nothing to say.

Pure: knows no HTTP, no engine and no database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from inference.messages import LoadFailure
from inference.overview import format_bytes, format_duration
from models_app.jobs import JobRecord
from models_app.key_reminders import ExpiringKey
from models_app.limit_kinds import Period
from models_app.limits import LimitState

_LITTLE_LEFT: Final = 0.1
_WHOSE: Final = {"team": " of your team", "site": " of the whole site", "key": " of this key"}
_WHEN: Final = {Period.DAY: "for today", Period.MONTH: "for this month"}
_JOBS: Final = {
    "pull": "Pulling",
    "push": "Pushing",
    "create": "Creating",
    "quantize": "Quantizing",
    "verify": "Checking the files",
    "gc": "Clearing up",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One line. `page` is the URL's name of where to do something about it; empty: nowhere."""

    text: str
    page: str = ""
    link: str = ""
    is_bad: bool = False


def of_failed_jobs(ended: Sequence[JobRecord]) -> list[Notice]:
    """Return the jobs whose last try has failed, of those that have ended, the newest first.

    Not those that somebody has dismissed.
    """
    newest: dict[tuple[str, str], JobRecord] = {}
    for job in ended:
        newest.setdefault((job.kind, job.model_name), job)
    return [
        Notice(_failed(job), page="jobs", link="See the job", is_bad=True)
        for job in newest.values()
        if job.state == "failed" and not job.is_dismissed
    ]


def of_load_failures(failures: Iterable[LoadFailure]) -> list[Notice]:
    """Return the models that could not be loaded."""
    return [
        Notice(
            f"{failure.name} could not be loaded {format_duration(failure.ago_s)} ago: "
            f"{failure.message}",
            page="models",
            link="See the models",
            is_bad=True,
        )
        for failure in failures
    ]


def of_nodes(*, lost: Iterable[str], cordoned: Iterable[str]) -> list[Notice]:
    """Return the nodes that do not answer, and those that somebody has cordoned."""
    texts = [
        *((f"The node {name} does not answer: requests go to the others.", True) for name in lost),
        *((f"The node {name} is cordoned: it gets no new requests.", False) for name in cordoned),
    ]
    return [Notice(text, is_bad=is_bad) for text, is_bad in texts]


def of_keys(keys: Iterable[ExpiringKey], now: datetime) -> list[Notice]:
    """Return the keys that expire soon."""
    return [
        Notice(
            f"The key {key.name} ({key.prefix}) expires in {_days(key.expires_at, now)}.",
            page="keys",
            link="Renew it",
        )
        for key in keys
    ]


def of_limits(states: Iterable[LimitState]) -> list[Notice]:
    """Return the limits of a day or a month of which little is left."""
    return [
        Notice(
            _nearly_used_up(state),
            page="usage",
            link="See the usage",
            is_bad=state.remaining <= 0,
        )
        for state in states
        if is_nearly_used_up(state)
    ]


def is_nearly_used_up(state: LimitState) -> bool:
    """Whether little is left, and it will not be there again in a moment."""
    lasts = state.limit.period in {Period.DAY, Period.MONTH}
    return lasts and state.remaining <= state.limit.amount * _LITTLE_LEFT


def of_engines(names: Iterable[str]) -> list[Notice]:
    """Return the engines elsewhere that do not answer, for whoever looks after the site."""
    text = "The engine {} does not answer: its models are not served."
    return [Notice(text.format(name), is_bad=True) for name in names]


def of_disk(free_bytes: int | None) -> list[Notice]:
    """Return that the disk is nearly full, where it is."""
    if free_bytes is None:
        return []
    text = f"The disk with the models is nearly full: {format_bytes(free_bytes)} are free."
    return [Notice(text, page="models", link="See the models", is_bad=True)]


def _failed(job: JobRecord) -> str:
    what = f"{_JOBS.get(job.kind, job.kind)} {job.model_name}".strip()
    message = str((job.error or {}).get("message", "")).rstrip(".")
    return f"{what} has failed: {message}." if message else f"{what} has failed."


def _nearly_used_up(state: LimitState) -> str:
    limit = state.limit
    all_of_it = f"{limit.amount:,} {limit.unit}{_WHOSE.get(limit.kind, '')} {_WHEN[limit.period]}"
    left = f"Only {state.remaining:,}" if state.remaining > 0 else "None"
    return f"{left} of the {all_of_it} are left; anew in {format_duration(state.resets_ms / 1000)}."


def _days(until: datetime, now: datetime) -> str:
    left_s = max(0.0, (until - now).total_seconds())
    days = int(left_s // 86_400)
    if days:
        return f"{days} day{'' if days == 1 else 's'}"
    return format_duration(left_s)

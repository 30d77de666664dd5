"""What pages show of a job, as words and numbers. Pure: knows no HTTP and no row of a table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from models_app.jobs import JobKind, JobRecord, JobState
from models_app.permissions import Principal
from registry.pages.wording import duration_in_words, percent, size_in_words

_DOING: Final = {
    JobKind.PULL: "Pull",
    JobKind.PUSH: "Push",
    JobKind.CREATE: "Create",
    JobKind.QUANTIZE: "Quantize",
    JobKind.VERIFY: "Check of all stored files",
    JobKind.COLLECT_GARBAGE: "Removal of unused files",
}
# State, and the end of the class of its badge.
_STATES: Final = {
    JobState.QUEUED: ("Waiting", ""),
    JobState.RUNNING: ("Running", "good"),
    JobState.SUCCEEDED: ("Done", "good"),
    JobState.FAILED: ("Failed", "bad"),
    JobState.CANCELLED: ("Cancelled", "warn"),
}
_MAKES_MODEL: Final = frozenset({JobKind.PULL, JobKind.CREATE, JobKind.QUANTIZE})
# What has come of these stays, so that another try goes on from there.
_RESUMES: Final = frozenset({JobKind.PULL, JobKind.PUSH})
_AGAIN: Final = frozenset({JobState.FAILED, JobState.CANCELLED})
_CANCELLED_CODE: Final = "job_cancelled"
# What clients are told in another program's words, in ours.
_WORDS: Final = {
    "pull model manifest: file does not exist": (
        "The registry has no such model, or shows it to others only."
    ),
}
_SHOWN_DIGITS: Final = 12
_SHOWN_LINES: Final = 400


@dataclass(frozen=True, slots=True)
class FileRow:
    """How far one file of a job is. `state` is `done`, `now` or `next`."""

    label: str
    digest: str
    percent: int
    amount: str
    detail: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job. Texts are empty where there is nothing to say; `percent` is None without a total."""

    job_id: str
    act: str
    model: str  # that it makes or sends, as stored
    owner: str
    is_own: bool
    state: JobState
    state_word: str
    badge: str
    status: str
    percent: int | None
    amount: str
    speed: str
    remaining: str
    error: str
    error_code: str
    is_active: bool
    is_stopping: bool
    is_dismissed: bool
    can_be_dismissed: bool
    again: str  # what the button says that has it done again
    opens_model: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempt: int

    @property
    def title(self) -> str:
        """What is done, in a few words."""
        return f"{self.act} {self.model}".strip()


def job_row(record: JobRecord, principal: Principal) -> JobRow:
    """Return how a job is shown to somebody."""
    is_active = not record.is_ended
    word, badge = _STATES[record.state]
    is_stopping = is_active and record.is_cancel_asked
    error = _error(record)
    return JobRow(
        job_id=record.job_id,
        act=_DOING[record.kind],
        model=record.model_name,
        owner=record.owner_name or "the site",
        is_own=record.owner_id == principal.user_id,
        state=record.state,
        state_word="Stopping" if is_stopping else word,
        badge="warn" if is_stopping else badge,
        status=record.events[-1]["status"] if record.events and is_active else "",
        percent=percent(record.completed_bytes, record.total_bytes) if record.total_bytes else None,
        amount=_amount(record),
        speed=f"{size_in_words(record.bytes_per_s)}/s" if _is_moving(record) else "",
        remaining=_remaining(record.remaining_s),
        error=_sentence(error.get("message", "")),
        error_code=error.get("code", ""),
        is_active=is_active,
        is_stopping=is_stopping,
        is_dismissed=record.is_dismissed,
        can_be_dismissed=record.state == JobState.FAILED and not record.is_dismissed,
        again=_again(record),
        opens_model=record.state == JobState.SUCCEEDED and record.kind in _MAKES_MODEL,
        created_at=record.created_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        attempt=record.attempt,
    )


def job_rows(records: Iterable[JobRecord], principal: Principal) -> list[JobRow]:
    """Return how jobs are shown to somebody."""
    return [job_row(record, principal) for record in records]


def file_rows(record: JobRecord) -> list[FileRow]:
    """Return the files of a job in their order; the newest that is under way is the one now."""
    newest = {event["digest"]: event for event in record.events if _is_of_file(event)}
    open_files = [digest for digest, event in newest.items() if not _is_whole(event)]
    now = open_files[-1] if open_files and not record.is_ended else ""
    return [_file_row(record, event, is_now=digest == now) for digest, event in newest.items()]


def log_lines(record: JobRecord) -> list[str]:
    """Return what a job has said that is no file's progress, the last lines of it."""
    return [event["status"] for event in record.events if not _is_of_file(event)][-_SHOWN_LINES:]


def _file_row(record: JobRecord, event: Mapping[str, Any], *, is_now: bool) -> FileRow:
    total, completed = event.get("total", 0), event.get("completed", 0)
    detail = ""
    if is_now and _is_moving(record):
        left = _remaining((total - completed) / record.bytes_per_s)
        detail = f"{size_in_words(record.bytes_per_s)}/s, {left}"
    digest = event["digest"].partition(":")[2][:_SHOWN_DIGITS] or event["digest"]
    return FileRow(
        label=event["status"],
        digest=digest,
        percent=percent(completed, total),
        amount=f"{size_in_words(completed)} of {size_in_words(total)}",
        detail=detail,
        state="done" if _is_whole(event) else "now" if is_now else "next",
    )


def _is_of_file(event: Mapping[str, Any]) -> bool:
    return bool(event.get("digest")) and event.get("total", 0) > 0


def _is_whole(event: Mapping[str, Any]) -> bool:
    return bool(event.get("completed", 0) >= event.get("total", 0))


def _is_moving(record: JobRecord) -> bool:
    return record.state == JobState.RUNNING and record.bytes_per_s > 0


def _amount(record: JobRecord) -> str:
    if not record.total_bytes:
        return ""
    total = size_in_words(record.total_bytes)
    if record.state == JobState.SUCCEEDED:
        return total
    return f"{size_in_words(record.completed_bytes)} of {total}"


def _remaining(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration_in_words(seconds)} left"


def _error(record: JobRecord) -> Mapping[str, str]:
    error = record.error or {}
    # Whoever cancelled it knows why it has ended.
    return {} if error.get("code") == _CANCELLED_CODE else error


def _sentence(message: str) -> str:
    message = _WORDS.get(message, message)
    return message[:1].upper() + message[1:]


def _again(record: JobRecord) -> str:
    if record.state not in _AGAIN:
        return ""
    return "Resume" if record.kind in _RESUMES else "Try again"

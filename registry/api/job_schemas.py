"""What is said about jobs: bodies and replies of `/api/jobs`, and the messages of `ws/jobs`.

Knows no HTTP and no row of the database.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

import msgspec

from models_app.jobs import JobRecord
from ollamasite.http import format_time

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class NewJobBody(msgspec.Struct):
    """The body of `POST /api/jobs`: what to do, and what that kind of job has to know.

    pull, push: `model`, `insecure`, `username`, `password`; quantize: `from`, `model`, `quantize`;
    verify, gc: nothing.
    """

    kind: str = ""
    model: str = ""
    source: str = msgspec.field(default="", name="from")
    quantize: str = ""
    insecure: bool = False
    username: str = ""
    password: str = ""


class LayerReply(msgspec.Struct, kw_only=True):
    """How far one file of a job is."""

    digest: str
    status: str
    total: int
    completed: int


class JobErrorReply(msgspec.Struct, kw_only=True):
    """Why a job has failed."""

    code: str
    message: str


class JobReply(msgspec.Struct, kw_only=True):
    """One job. Times are RFC 3339; sizes are bytes over all of its files."""

    id: str
    kind: str
    state: State
    model: str
    owner: str
    created_at: str
    started_at: str | None
    ended_at: str | None
    total: int
    completed: int
    bytes_per_second: int
    remaining_seconds: float | None
    layers: list[LayerReply]
    status: str
    error: JobErrorReply | None
    attempt: int
    detached: bool


class JobsReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/jobs`, the newest first."""

    jobs: list[JobReply]


class JobsMessage(msgspec.Struct, tag_field="type", tag="jobs", kw_only=True):
    """What `ws/jobs` says first: the jobs that have not ended."""

    jobs: list[JobReply]


class JobMessage(msgspec.Struct, tag_field="type", tag="job", kw_only=True):
    """What `ws/jobs` says when a job has changed."""

    job: JobReply


def job_reply(record: JobRecord) -> JobReply:
    """Return what callers are told about a job."""
    error = record.error
    return JobReply(
        id=record.job_id,
        kind=str(record.kind),
        state=cast("State", record.state.value),
        model=record.model_name,
        owner=record.owner_name,
        created_at=_time(record.created_at) or "",
        started_at=_time(record.started_at),
        ended_at=_time(record.ended_at),
        total=record.total_bytes,
        completed=record.completed_bytes,
        bytes_per_second=record.bytes_per_s,
        remaining_seconds=record.remaining_s,
        layers=_layers(record.events),
        status=record.events[-1]["status"] if record.events else "",
        error=JobErrorReply(code=error["code"], message=error["message"]) if error else None,
        attempt=record.attempt,
        detached=record.is_detached,
    )


def _layers(events: tuple[Mapping[str, Any], ...]) -> list[LayerReply]:
    """Return the newest event of every file, in the order in which they came first."""
    newest = {event["digest"]: event for event in events if event.get("digest")}
    return [
        LayerReply(
            digest=digest,
            status=event["status"],
            total=event.get("total", 0),
            completed=event.get("completed", 0),
        )
        for digest, event in newest.items()
    ]


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    whole_s = int(moment.timestamp())
    return format_time(whole_s * 1_000_000_000 + moment.microsecond * 1000, UTC)

"""Requests that run and wait, as words and numbers for people.

Pure: knows no HTTP, no engine and no database.
"""

from dataclasses import dataclass
from typing import Any, Final

from inference.messages import Priority, RunningEntry
from inference.overview import format_duration
from inference.queue import ModelQueue, Queue, Running, Waiting, by_model

_ON_PAGE: Final = "on this site"  # what no key has asked for
_REASONS: Final = {
    "waiting for a slot": "all places are taken",
    "loading": "the model is being loaded",
    "fetching": "the model is being copied to the machine that runs it",
    "waiting for memory": "another model has to leave memory first",
    "paused": "paused for somebody who had less; goes on by itself",
}
_CLASSES: Final = {
    Priority.INTERACTIVE: "",
    Priority.API: "",
    Priority.BATCH: "batch",
}
_MANY: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """A request. `request_id` is empty where the caller may not end it; texts are, if unknown."""

    request_id: str
    model: str
    who: str
    by: str  # "with" a key, or from a page; of one's own alone
    kind: str  # "batch", for what has asked to come last
    is_own: bool
    is_running: bool
    age_s: int
    age: str
    tokens: str = ""
    speed: str = ""
    position: int = 0
    reason: str = ""
    estimate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRows:
    """The requests of a model, or of all that the caller may not know: `model` is empty then."""

    model: str
    running: list[RequestRow]
    waiting: list[RequestRow]


def rows_by_model(queue: Queue) -> list[ModelRows]:
    """Return a queue as it is shown, model by model."""
    return [_model_rows(each) for each in by_model(queue)]


def page_of(queue: Queue | None) -> dict[str, Any]:
    """Return what the page of the queue shows; None: the engine does not answer."""
    if queue is None:
        return {"is_there": False, "models": []}
    return {
        "is_there": True,
        "models": rows_by_model(queue),
        "running": queue.running_count,
        "waiting": queue.waiting_count,
        "slots": queue.slot_count,
    }


def first_rows(queue: Queue, most: int) -> list[RequestRow]:
    """Return the first few requests, one's own before those of others, what runs first."""
    rows = [row for each in by_model(queue) for row in _all_rows(each)]
    return sorted(rows, key=lambda row: (not row.is_own, not row.is_running, row.position))[:most]


def row_of(seen: Running | Waiting) -> RequestRow:
    """Return a request that the caller knows as it is shown."""
    if isinstance(seen.entry, RunningEntry):
        return _running_row(seen)
    return _waiting_row(seen)


def format_speed(tokens_per_s: float) -> str:
    """Return `9.4/s`, `38/s`; nothing for nothing."""
    if tokens_per_s <= 0:
        return ""
    return f"{tokens_per_s:.0f}/s" if tokens_per_s >= _MANY else f"{tokens_per_s:.1f}/s"


def _model_rows(each: ModelQueue) -> ModelRows:
    return ModelRows(
        model=each.model or "",
        running=[_running_row(seen) for seen in each.running],
        waiting=[_waiting_row(seen) for seen in each.waiting],
    )


def _all_rows(each: ModelQueue) -> list[RequestRow]:
    rows = _model_rows(each)
    return [*rows.running, *rows.waiting]


def _running_row(seen: Running) -> RequestRow:
    entry = seen.entry
    tokens = entry.completion_tokens
    return RequestRow(
        request_id=entry.request_id,
        model=seen.model or "",
        who=_who(seen),
        by=_by(seen),
        kind=_CLASSES[entry.priority],
        is_own=seen.is_own,
        is_running=True,
        age_s=round(entry.age_s),
        age=format_duration(entry.age_s),
        tokens=f"{tokens:,}" if seen.is_known else "",
        speed=format_speed(entry.tokens_per_s),
    )


def _waiting_row(seen: Waiting) -> RequestRow:
    entry = seen.entry
    estimate_s = entry.estimate_s
    return RequestRow(
        request_id=entry.request_id,
        model=seen.model or "",
        who=_who(seen),
        by=_by(seen),
        kind=_CLASSES[entry.priority],
        is_own=seen.is_own,
        is_running=False,
        age_s=round(entry.waited_s),
        age=format_duration(entry.waited_s),
        position=entry.position,
        reason=_REASONS.get(entry.reason, entry.reason),
        estimate="" if estimate_s is None else f"about {format_duration(max(1, estimate_s))}",
    )


def _by(seen: Running | Waiting) -> str:
    if not seen.is_own:
        return ""
    return f"with {seen.entry.key_name}" if seen.entry.key_name else _ON_PAGE


def _who(seen: Running | Waiting) -> str:
    if seen.is_own:
        return "You"
    return seen.entry.user or "Somebody else"

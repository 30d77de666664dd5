"""What is left of somebody's limits, as words and numbers for people.

Pure: knows no HTTP and no Redis.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from inference.attention import is_nearly_used_up
from inference.overview import format_duration
from models_app.limit_kinds import Period, Unit
from models_app.limits import LimitState

_MS_PER_S: Final = 1000
_WHEN: Final = {
    Period.MINUTE: "per minute",
    Period.DAY: "today",
    Period.MONTH: "this month",
}
_WHOSE: Final = {
    "team": "your team's",
    "site": "the whole site's",
    "key": "this key's",
    "model": "the model's",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRow:
    """A limit. `resets_at` is None where it is not a moment at which all of it is there again."""

    title: str
    whose: str
    amount: int
    used: int
    left: str
    resets: str
    resets_at: datetime | None
    is_low: bool


def limit_rows(states: Iterable[LimitState]) -> list[LimitRow]:
    """Return how limits are shown."""
    return [_row(state) for state in states]


def _row(state: LimitState) -> LimitRow:
    limit = state.limit
    used = limit.amount - state.remaining
    return LimitRow(
        title=_title(limit.unit, limit.period),
        whose=_WHOSE.get(limit.kind, ""),
        amount=limit.amount,
        used=max(0, used),
        left=f"{max(0, state.remaining):,} of {limit.amount:,} left",
        resets=_resets(state, used),
        resets_at=_moment(state) if limit.period in {Period.DAY, Period.MONTH} else None,
        is_low=is_nearly_used_up(state),
    )


def _title(unit: Unit, period: Period) -> str:
    if unit is Unit.PARALLEL:
        return "Requests at the same time"
    return f"{unit.capitalize()} {_WHEN[period]}"


def _resets(state: LimitState, used: int) -> str:
    after = format_duration(-(-state.resets_ms // _MS_PER_S))
    match state.limit.period:
        case Period.NONE:
            return "there again when an answer ends"
        case Period.MINUTE:
            return f"all of it again in {after}" if used > 0 else "refills all the time"
    return f"anew in {after}"


def _moment(state: LimitState) -> datetime:
    return datetime.fromtimestamp((state.now_ms + state.resets_ms) // _MS_PER_S, UTC)

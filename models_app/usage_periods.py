"""Times that pages of usage are asked for: from when to when, and what came before to compare with.

All of them are whole days of UTC; one that runs still is compared with as much of the one before.
Pure: knows no table and no form.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

DEFAULT: Final = "30d"
MONTH: Final = "month"
OWN: Final = "own"
# Bars that a chart of hours, of days may have before they are too many to be told apart.
_MOST_HOURS: Final = 8 * 24
_MOST_DAYS: Final = 400
_HOURLY_DAYS: Final = 2
_DAILY_DAYS: Final = 120
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `since` to `until`, None: until now. What it is compared with ends with `before`."""

    label: str
    since: datetime
    until: datetime | None
    before: tuple[datetime, datetime]
    now: datetime

    @property
    def end(self) -> datetime:
        """Where it ends, now at the latest."""
        return min(self.until or self.now, self.now)

    @property
    def days(self) -> int:
        """How many days it has, a part of one counts."""
        return max(1, -(-(self.end - self.since) // _DAY))

    def granularity(self, asked: str) -> str:
        """Return how long the bars of its chart are: as asked, where there are not too many."""
        fitting = "hour" if self.days <= _HOURLY_DAYS else "day"
        fitting = fitting if self.days <= _DAILY_DAYS else "month"
        most = {"hour": _MOST_HOURS // 24, "day": _MOST_DAYS}
        return asked if asked and self.days <= most.get(asked, self.days) else fitting

    def beginnings(self, granularity: str) -> Iterator[datetime]:
        """Yield where each hour, day or month of it begins."""
        at = self.since.replace(day=1) if granularity == "month" else self.since
        while at < self.end:
            yield at
            at = _next_month(at) if granularity == "month" else at + _STEPS[granularity]


_STEPS: Final = {"hour": _HOUR, "day": _DAY}


def named(name: str, now: datetime) -> Period:
    """Return the period of one of NAMES."""
    now = now.astimezone(UTC)
    return _PERIODS[name][1](_PERIODS[name][0], now)


def own(first: date, last: date, now: datetime) -> Period:
    """Return the period of two days and all between them."""
    since, until, now = _midnight(first), _midnight(last) + _DAY, now.astimezone(UTC)
    label = f"{first} to {last}" if first != last else str(first)
    begin = since - (until - since)
    before = (begin, begin + max(timedelta(0), min(until, now) - since))
    return Period(label=label, since=since, until=until, before=before, now=now)


def _lately(days: int) -> Callable[[str, datetime], Period]:
    def make(label: str, now: datetime) -> Period:
        since = _midnight(now.date()) - (days - 1) * _DAY
        before = (since - days * _DAY, now - days * _DAY)
        return Period(label=label, since=since, until=None, before=before, now=now)

    return make


def _this_month(label: str, now: datetime) -> Period:
    since = _midnight(now.date()).replace(day=1)
    first = (since - _DAY).replace(day=1)
    before = (first, min(since, first + (now - since)))
    return Period(label=label, since=since, until=None, before=before, now=now)


def _last_month(label: str, now: datetime) -> Period:
    until = _midnight(now.date()).replace(day=1)
    since = (until - _DAY).replace(day=1)
    before = ((since - _DAY).replace(day=1), since)
    return Period(label=label, since=since, until=until, before=before, now=now)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _next_month(at: datetime) -> datetime:
    return (at + timedelta(days=31)).replace(day=1)


_PERIODS: Final[dict[str, tuple[str, Callable[[str, datetime], Period]]]] = {
    "today": ("Today", _lately(1)),
    "7d": ("Last 7 days", _lately(7)),
    "30d": ("Last 30 days", _lately(30)),
    MONTH: ("This month", _this_month),
    "last-month": ("Last month", _last_month),
    "90d": ("Last 90 days", _lately(90)),
    "year": ("Last 12 months", _lately(365)),
}
NAMES: Final = tuple((name, label) for name, (label, _) in _PERIODS.items())

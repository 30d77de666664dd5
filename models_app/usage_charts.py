"""What the charts of usage look like: bars over time, and a year of days. Sizes without a unit.

A browser stretches them to the room that there is. Pure: knows no table and no template.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from models_app.usage import Usage

STEP: Final = 10  # of a bar and the gap beside it
HEIGHT: Final = 100
_GAP: Final = 2
_LABELS: Final = 4
_FORMATS: Final = {"hour": "%Y-%m-%dT%H:00:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}
_SHOWN: Final = {"hour": "%b %-d, %H:00", "day": "%b %-d", "month": "%b %Y"}
_DAYS_A_WEEK: Final = 7
_WEEKS: Final = 53
_LEVELS: Final = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """A time and its use. Heights are of HEIGHT; `out_y` and `in_y` are where each begins."""

    label: str
    usage: Usage
    x: int
    width: int
    in_y: float
    in_height: float
    out_y: float
    out_height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, what the top of the scale stands for, and the words below."""

    bars: tuple[Bar, ...]
    width: int
    top_tokens: int
    labels: tuple[str, ...]

    @property
    def half_tokens(self) -> int:
        """What the middle of the scale stands for."""
        return self.top_tokens // 2

    @property
    def highest(self) -> Bar | None:
        """The bar with the most tokens; None where there are none."""
        bar = max(self.bars, key=_bar_tokens, default=None)
        return bar if bar is not None and _bar_tokens(bar) else None


@dataclass(frozen=True, slots=True)
class Cell:
    """A day: `level` is 0 for none, then up to 4 for the busiest quarter of days."""

    day: date
    tokens: int
    requests: int
    level: int
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Heatmap:
    """A year of days, a week in each column, and where months begin."""

    cells: tuple[Cell, ...]
    months: tuple[tuple[int, str], ...]
    active_days: int
    busiest: Cell | None


def chart(usages: Sequence[Usage], beginnings: Sequence[datetime], granularity: str) -> Chart:
    """Return a bar for each beginning, also where nothing was used."""
    known = {usage.group: usage for usage in usages}
    rows = []
    for at in beginnings:
        group = at.strftime(_FORMATS[granularity])
        rows.append((at.strftime(_SHOWN[granularity]), known.get(group) or Usage(group=group)))
    top = nice_top(max((_tokens(usage) for _, usage in rows), default=0))
    bars = tuple(_bar(number, label, usage, top) for number, (label, usage) in enumerate(rows))
    return Chart(bars, max(1, len(bars)) * STEP, top, _spread([label for label, _ in rows]))


def heatmap(usages: Sequence[Usage], today: date) -> Heatmap:
    """Return the days of the 53 weeks that end with today's."""
    known = {usage.group: usage for usage in usages}
    first = first_day(today)
    levels = _level_bounds(known)
    cells, months = [], []
    for number in range((today - first).days + 1):
        day = first + timedelta(days=number)
        usage = known.get(day.isoformat()) or Usage(group="")
        week, weekday = divmod(number, _DAYS_A_WEEK)
        tokens = _tokens(usage)
        level = sum(tokens > bound for bound in levels) if usage.requests else 0
        level = max(level, 1) if usage.requests else 0
        cells.append(Cell(day, tokens, usage.requests, level, week, weekday))
        if day.day == 1 and week < _WEEKS - 1:
            months.append((week, day.strftime("%b")))
    used = [cell for cell in cells if cell.requests]
    busiest = max(used, key=lambda cell: cell.tokens, default=None)
    return Heatmap(tuple(cells), tuple(months), len(used), busiest)


def first_day(today: date) -> date:
    """Return the Monday with which a year's weeks begin."""
    monday = today - timedelta(days=today.weekday())
    return monday - timedelta(weeks=_WEEKS - 1)


def first_moment(today: date) -> datetime:
    """Return when the first day begins."""
    return datetime.combine(first_day(today), datetime.min.time(), UTC)


def nice_top(most: int) -> int:
    """Return a round number, even, that is not below the most."""
    top = 2
    while top < most:
        digits = 10 ** (len(str(top)) - 1)
        top = {1: 2, 2: 5, 5: 10}[top // digits] * digits
    return top


def _tokens(usage: Usage) -> int:
    return usage.tokens_in + usage.tokens_out


def _bar_tokens(bar: Bar) -> int:
    return _tokens(bar.usage)


def _bar(number: int, label: str, usage: Usage, top: int) -> Bar:
    in_height = round(HEIGHT * usage.tokens_in / top, 2)
    out_height = round(HEIGHT * usage.tokens_out / top, 2)
    in_y = round(HEIGHT - in_height, 2)
    return Bar(
        label=label,
        usage=usage,
        x=number * STEP + _GAP // 2,
        width=STEP - _GAP,
        in_y=in_y,
        in_height=in_height,
        out_y=round(in_y - out_height, 2),
        out_height=out_height,
    )


def _spread(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the first label, the last, and some between them, as far apart as they can be."""
    if len(labels) <= _LABELS:
        return tuple(labels)
    last = len(labels) - 1
    return tuple(labels[round(number * last / (_LABELS - 1))] for number in range(_LABELS))


def _level_bounds(known: Mapping[str, Usage]) -> tuple[int, ...]:
    """Return what a day must have more than, for each level: quarters of the days with any."""
    amounts = sorted(_tokens(usage) for usage in known.values() if usage.requests)
    if not amounts:
        return ()
    return (-1, *(amounts[len(amounts) * part // _LEVELS] for part in range(1, _LEVELS)))

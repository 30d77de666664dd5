"""Which sums of the ledger answer a question: the longest that are exact.

A time is cut into whole months, whole days and what is left of hours at its ends; each piece is
read from the table that has it. Knows not who may ask.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import F, Q, QuerySet, Sum, Value

from models_app.ledger_sums import AXES, SUMS, day_of, hour_of, month_of
from models_app.models import LedgerAxis, LedgerDay, LedgerHour, LedgerSpan, LedgerTotal

# Behind it there are no sums; a month later there would be no time.
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)
_HOUR, _DAY, _MONTH = LedgerSpan.HOUR, LedgerSpan.DAY, LedgerSpan.MONTH
# The longest first.
_SPANS: Final = (_MONTH, _DAY, _HOUR)
_BEGINNINGS: Final = {_HOUR: hour_of, _DAY: day_of, _MONTH: month_of}
_LONGER: Final = {_HOUR: timedelta(hours=1), _DAY: timedelta(days=1), _MONTH: timedelta(days=31)}


@dataclass(frozen=True, slots=True)
class Piece:
    """A time from one beginning of a span to another; None: without an end."""

    span: LedgerSpan
    since: datetime | None
    until: datetime | None


def rows(
    narrowed: Q,
    columns: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    *,
    longest: LedgerSpan | None,
) -> Iterator[dict[str, Any]]:
    """Yield sums grouped by these columns of the ledger, several times for one group. One query.

    The hours of `since` and of `until` are in them. `longest` adds when a row's time begins, as
    `at`, and is how long that time is at most; None: times are not kept apart.
    """
    axis = None if narrowed else _axis_of(columns)
    spans = _SPANS[_SPANS.index(longest) if longest else 0 :]
    if axis is None:  # days are the longest that are kept apart by everything
        spans = tuple(span for span in spans if span is not _MONTH)
    pieces = [
        _grouped(*_table(piece, narrowed, axis), columns, has_times=longest is not None)
        for piece in cut(since, until, spans)
    ]
    if pieces:
        yield from pieces[0].union(*pieces[1:], all=True)


def _grouped(
    rows: QuerySet[Any], at: str, columns: tuple[str, ...], *, has_times: bool
) -> QuerySet[Any]:
    """Return the sums of a piece, all of the same columns."""
    moment = F(at) if has_times else Value(0)
    added = {name: Sum(name) for name in SUMS}
    grouped = rows.annotate(at=moment).order_by().values(*columns, "at")
    found: QuerySet[Any] = grouped.annotate(**added)
    return found


def cut(
    since: datetime | None, until: datetime | None, spans: tuple[LedgerSpan, ...]
) -> list[Piece]:
    """Return the pieces of a time, each in the longest of these spans that begins and ends there.

    The last of `spans` is the hour: the one of `since` and the one of `until` are whole in it.
    """
    begin = None if since is None else hour_of(min(since, _END))
    end = None if until is None or until >= _END else _up(until, _HOUR)
    if begin is not None and end is not None and begin >= end:
        return []
    return list(_cut(begin, end, spans))


def _cut(
    begin: datetime | None, end: datetime | None, spans: tuple[LedgerSpan, ...]
) -> Iterator[Piece]:
    span, *shorter = spans
    first = None if begin is None else _up(begin, span)
    last = None if end is None else _BEGINNINGS[span](end)
    if first is not None and last is not None and first >= last and shorter:
        yield from _cut(begin, end, tuple(shorter))
        return
    if first != begin:
        yield from _cut(begin, first, tuple(shorter))
    yield Piece(span, first, last)
    if last != end:
        yield from _cut(last, end, tuple(shorter))


def _up(moment: datetime, span: LedgerSpan) -> datetime:
    """Return the first beginning of a span that is not before a moment."""
    begins = _BEGINNINGS[span](moment)
    return begins if begins == moment else _BEGINNINGS[span](begins + _LONGER[span])


def _axis_of(columns: tuple[str, ...]) -> LedgerAxis | None:
    """Return the axis along which the whole site's sums tell these columns."""
    return next((axis for axis, kept in AXES.items() if kept >= set(columns)), None)


def _table(piece: Piece, narrowed: Q, axis: LedgerAxis | None) -> tuple[QuerySet[Any], str]:
    """Return the rows of a piece, and the column that tells when they begin."""
    found: QuerySet[Any]
    if axis is not None and (piece.span is not _HOUR or axis is LedgerAxis.SITE):
        found, at = LedgerTotal.objects.filter(axis=axis, span=piece.span), "begins"
    elif piece.span is _DAY:
        found, at = LedgerDay.objects.filter(narrowed), "day"
    else:
        found, at = LedgerHour.objects.filter(narrowed), "hour"
    if piece.since is not None:
        found = found.filter(**{f"{at}__gte": piece.since})
    if piece.until is not None:
        found = found.filter(**{f"{at}__lt": piece.until})
    return found, at

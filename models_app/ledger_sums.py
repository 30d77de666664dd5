"""The sums of the ledger: by the hour and by the day, and of the whole site by the month too.

    hours    user × team × key × model × dialect       what every sum is made of
    days     the same, a day at a time                 a person, a team, a model over months
    totals   the whole site along one axis (or none)   what a million hours would be read for

All of them grow in the transaction that inserts the rows, each table by one statement. Hours, days
and months are those of UTC. Which of them answers what: `models_app.usage_sums`. Knows not who may
look at what.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from django.db import connection, models

from models_app.models import (
    LedgerAxis,
    LedgerDay,
    LedgerEntry,
    LedgerHour,
    LedgerSpan,
    LedgerTotal,
    Outcome,
)

SUMS: Final = ("requests", "failed", "tokens_in", "tokens_out", "tokens_cached", "compute_us")
# By which sums are kept apart, and what it was called when the first of them was written.
KEPT_APART: Final = ("user_id", "team_id", "key_id", "model_name", "dialect")
_NAMES: Final = ("user_name", "team_name", "key_name")
# What an axis keeps apart, with its names.
AXES: Final[dict[LedgerAxis, frozenset[str]]] = {
    LedgerAxis.SITE: frozenset(),
    LedgerAxis.USER: frozenset({"user_id", "user_name"}),
    LedgerAxis.TEAM: frozenset({"team_id", "team_name"}),
    LedgerAxis.KEY: frozenset({"user_id", "user_name", "key_id", "key_name"}),
    LedgerAxis.MODEL: frozenset({"model_name"}),
    LedgerAxis.DIALECT: frozenset({"dialect"}),
}
_FAILED: Final = frozenset({Outcome.FAILED, Outcome.LOST})

# What is kept apart, in the order of a table's key; the names; the amounts in the order of SUMS.
_Sums = dict[tuple[Any, ...], tuple[tuple[str, ...], list[int]]]


def add_up(rows: Iterable[LedgerEntry]) -> None:
    """Add rows to the sums. Wants the transaction that inserts them."""
    hours: _Sums = {}
    for row in rows:
        key = (hour_of(row.began_at), *(getattr(row, name) for name in KEPT_APART))
        names = tuple(getattr(row, name) for name in _NAMES)
        amounts = [1, int(row.outcome in _FAILED), *(getattr(row, name) for name in SUMS[2:])]
        _add(hours, key, names, amounts)
    if not hours:
        return
    days: _Sums = {}
    totals: _Sums = {}
    for (hour, *apart), (names, amounts) in hours.items():
        _add(days, (day_of(hour), *apart), names, amounts)
        for key, called in _totals_of(hour, dict(zip(KEPT_APART, apart, strict=True)), names):
            _add(totals, key, called, amounts)
    _write(LedgerHour, ("hour", *KEPT_APART), hours)
    _write(LedgerDay, ("day", *KEPT_APART), days)
    _write(LedgerTotal, ("axis", "span", "begins", *KEPT_APART), totals)


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of a moment's hour, UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def day_of(moment: datetime) -> datetime:
    """Return the beginning of a moment's day, UTC."""
    return hour_of(moment).replace(hour=0)


def month_of(moment: datetime) -> datetime:
    """Return the beginning of a moment's month, UTC."""
    return day_of(moment).replace(day=1)


def _totals_of(
    hour: datetime, apart: dict[str, Any], names: tuple[str, ...]
) -> Iterator[tuple[tuple[Any, ...], tuple[str, ...]]]:
    """Yield the key and the names of every total that an hour's sums go to."""
    yield (LedgerAxis.SITE.value, LedgerSpan.HOUR.value, hour, *_EMPTY), ("", "", "")
    spans = ((LedgerSpan.DAY.value, day_of(hour)), (LedgerSpan.MONTH.value, month_of(hour)))
    for axis, kept in AXES.items():
        key = [
            apart[name] if name in kept else empty
            for name, empty in zip(KEPT_APART, _EMPTY, strict=True)
        ]
        called = tuple(
            text if name in kept else "" for name, text in zip(_NAMES, names, strict=True)
        )
        for span, begins in spans:
            yield (axis.value, span, begins, *key), called


_EMPTY: Final = (0, 0, 0, "", "")


def _add(sums: _Sums, key: tuple[Any, ...], names: tuple[str, ...], amounts: list[int]) -> None:
    there = sums.get(key)
    if there is None:
        sums[key] = (names, list(amounts))
        return
    for position, amount in enumerate(amounts):
        there[1][position] += amount


def _write(table: type[models.Model], key_columns: tuple[str, ...], sums: _Sums) -> None:
    """Add sums to the rows of a table, and make those that are not there yet."""
    adapt = connection.ops.adapt_datetimefield_value
    # In one order, so that two processes cannot wait for each other.
    lines = [
        [
            adapt(value) if isinstance(value, datetime) else value
            for value in (*key, *sums[key][0], *sums[key][1])
        ]
        for key in sorted(sums)
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_statement(table._meta.db_table, key_columns), lines)  # noqa: SLF001 - Django's way to ask


@cache
def _statement(table: str, key_columns: tuple[str, ...]) -> str:
    columns = (*key_columns, *_NAMES, *SUMS)
    grown = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in SUMS)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608 - names of ours
        f"VALUES ({', '.join(['%s'] * len(columns))}) "
        f"ON CONFLICT ({', '.join(key_columns)}) DO UPDATE SET {grown}"
    )

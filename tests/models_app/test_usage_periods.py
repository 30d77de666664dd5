"""Periods of the pages of usage: what each is compared with."""

from datetime import UTC, date, datetime, timedelta

import pytest

from models_app import usage_periods

NOW = datetime(2026, 6, 11, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("first", "last", "days"),
    [
        (date(2026, 6, 1), date(2026, 6, 10), 10.0),  # over
        (date(2026, 6, 1), date(2026, 6, 30), 10.5),  # runs still
        (date(2026, 7, 1), date(2026, 7, 30), 0.0),  # has not begun
    ],
)
def test_own_days_are_compared_with_as_much_of_those_before(
    first: date, last: date, days: float
) -> None:
    period = usage_periods.own(first, last, NOW)
    begin, end = period.before

    assert begin + (last - first + DAY) == period.since
    assert end - begin == days * DAY


@pytest.mark.parametrize("name", [name for name, _ in usage_periods.NAMES])
def test_what_is_compared_ends_before_the_period_begins(name: str) -> None:
    period = usage_periods.named(name, NOW)
    begin, end = period.before

    assert begin < end <= period.since
    assert end - begin <= period.end - period.since + DAY

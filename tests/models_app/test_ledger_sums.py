"""The sums of days, months and the whole site: the same as those of the rows, in any world."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models_app import ledger, usage
from models_app.ledger_sums import SUMS, hour_of
from models_app.models import (
    LedgerDay,
    LedgerEntry,
    LedgerHour,
    LedgerSpan,
    LedgerTotal,
    Outcome,
    User,
)
from models_app.usage import UsageQuestion
from models_app.usage_sums import Piece, cut
from tests.models_app.test_ledger import begin, end

pytestmark = pytest.mark.django_db

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY, MONTH = LedgerSpan.HOUR, LedgerSpan.DAY, LedgerSpan.MONTH
TABLES = (LedgerHour, LedgerDay, LedgerTotal)
# Many of them meet in one hour, one day and one month; the edges of days and months are in it.
MOMENTS = st.builds(
    lambda day, hour, minute: NEW_YEAR + timedelta(days=day - 40, hours=hour, minutes=minute),
    st.integers(0, 100),
    st.sampled_from([0, 1, 12, 23]),
    st.sampled_from([0, 30, 59]),
)
WHO = st.tuples(
    st.integers(1, 3),  # user
    st.integers(0, 2),  # team
    st.integers(0, 2),  # key
    st.sampled_from(["tiny:latest", "big:latest"]),
    st.sampled_from(["native", "openai"]),
    st.sampled_from(list(Outcome)),
)
WORLDS = st.lists(st.tuples(MOMENTS, WHO), min_size=1, max_size=25)
QUESTIONS = st.fixed_dictionaries(
    {},
    optional={
        "since": MOMENTS,
        "until": MOMENTS,
        "model": st.just("tiny:latest"),
        "user": st.just("user2"),
    },
)
in_worlds = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def write(world: list[tuple[datetime, Any]]) -> list[str]:
    """Write requests; `world` tells their ids too."""
    return ledger.write(
        [
            (
                begin(
                    f"r{number}",
                    at_us=int(at.timestamp()) * 1_000_000,
                    user_id=user,
                    user_name=f"user{user}",
                    team_id=team,
                    team_name=f"team{team}" if team else "",
                    key_id=10 * user + key if key else 0,
                    key_name=f"key{key}" if key else "",
                    model_name=model,
                    dialect=dialect,
                ),
                end(f"r{number}", outcome),
            )
            for number, (at, (user, team, key, model, dialect, outcome)) in enumerate(world)
        ]
    )


@pytest.fixture
def _users() -> None:
    User.objects.bulk_create(User(pk=pk, username=f"user{pk}") for pk in (1, 2, 3))


def asked(fields: dict[str, Any]) -> UsageQuestion:
    return UsageQuestion(is_everybodys=True, **fields)


def counted(question: UsageQuestion, group_by: str) -> dict[str, Counter[str]]:
    """Return the sums as the rows tell them."""
    found: dict[str, Counter[str]] = {} if group_by else {"": Counter()}
    for row in LedgerEntry.objects.all():
        hour = hour_of(row.began_at)
        if question.since is not None and hour < hour_of(question.since):
            continue
        if question.until is not None and hour >= question.until:
            continue
        if (question.user and row.user_name != question.user) or (
            question.model and row.model_name != question.model
        ):
            continue
        group = {
            "": "",
            "hour": f"{hour:%Y-%m-%dT%H:00:00Z}",
            "day": f"{hour:%Y-%m-%d}",
            "month": f"{hour:%Y-%m}",
            "model": row.model_name,
            "dialect": row.dialect,
            **{name: getattr(row, f"{name}_name") for name in ("key", "user", "team")},
        }[group_by]
        amounts = {name: getattr(row, name) for name in SUMS[2:]}
        failed = row.outcome in {"failed", "lost"}
        found.setdefault(group, Counter()).update(requests=1, failed=int(failed), **amounts)
    return found


def told(question: UsageQuestion, group_by: str) -> dict[str, Counter[str]]:
    return {
        row.group: Counter({name: getattr(row, name) for name in SUMS})
        for row in usage.sums(None, question, group_by=group_by)
    }


@pytest.mark.usefixtures("_users")
@in_worlds
@given(world=WORLDS, fields=QUESTIONS)
def test_every_question_is_answered_as_by_the_rows_themselves(
    world: list[Any], fields: dict[str, Any]
) -> None:
    question = asked(fields)
    with fresh_world():
        write(world)
        for group_by in ("", *usage.GROUPS):
            assert told(question, group_by) == counted(question, group_by), group_by


@pytest.mark.usefixtures("_users")
@in_worlds
@given(world=WORLDS)
def test_second_writing_adds_nothing(world: list[Any]) -> None:
    with fresh_world():
        write(world)
        before = everything()
        assert write(world) == []
        assert everything() == before


@pytest.mark.usefixtures("_users")
@in_worlds
@given(world=WORLDS)
def test_migration_fills_in_what_would_have_been_written(world: list[Any]) -> None:
    with fresh_world():
        write(world)
        before = everything()
        LedgerDay.objects.all().delete()
        LedgerTotal.objects.all().delete()
        import_module("models_app.migrations.0008_ledger_sums").fill(connection)
        assert everything() == before


@in_worlds
@given(since=st.none() | MOMENTS, until=st.none() | MOMENTS)
def test_pieces_of_a_time_touch_and_do_not_overlap(
    since: datetime | None, until: datetime | None
) -> None:
    pieces = cut(since, until, (MONTH, DAY, HOUR))
    hours = Counter(hour for piece in pieces for hour in hours_of(piece))

    assert set(hours.values()) <= {1}
    first, last = datetime(2025, 11, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
    wanted = {
        hour
        for hour in hours_of(Piece(HOUR, first, last))
        if (since is None or hour >= hour_of(since)) and (until is None or hour < until)
    }
    assert {hour for hour in hours if first <= hour < last} == wanted


def test_time_to_the_end_of_all_years_has_an_end() -> None:
    late = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert told(asked({"since": late, "until": late}), "") == {"": Counter(dict.fromkeys(SUMS, 0))}
    assert told(asked({"since": datetime(1, 1, 1, tzinfo=UTC), "until": late}), "month") == {}


def test_month_of_everybody_is_one_row(django_assert_num_queries: Any) -> None:
    who = (1, 1, 1, "m", "native", Outcome.DONE)
    write([(NEW_YEAR + timedelta(hours=hour), who) for hour in range(31 * 24)])
    month = asked({"since": NEW_YEAR, "until": NEW_YEAR + timedelta(days=31)})

    with django_assert_num_queries(1):
        [row] = usage.sums(None, month)
    assert row.requests == 31 * 24
    assert LedgerTotal.objects.get(axis="site", span="month").requests == 31 * 24


def hours_of(piece: Piece) -> Iterator[datetime]:
    """Yield the hours of a piece; where it has no end, those of half a year."""
    hour = piece.since or datetime(2025, 11, 1, tzinfo=UTC)
    until = piece.until or datetime(2026, 5, 1, tzinfo=UTC)
    while hour < until:
        yield hour
        hour += timedelta(hours=1)


def everything() -> list[list[tuple[Any, ...]]]:
    """Return every row of the sums, in an order of their own."""
    found = []
    for table in TABLES:
        columns = [field.name for field in table._meta.concrete_fields if field.name != "id"]
        found.append(sorted(table.objects.values_list(*columns)))
    return found


@contextmanager
def fresh_world() -> Iterator[None]:
    """Take back what is written in it: each example begins with nothing."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)

"""Names are taken out of the ledger in batches, also after a kill and behind late writers."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from models_app import forgetting, ledger, ledger_chores, own_data
from models_app.models import (
    LedgerDay,
    LedgerEntry,
    LedgerHour,
    LedgerTotal,
    NameToForget,
    User,
)
from ollamasite.errors import Conflict
from tests.conftest import principal_for
from tests.models_app.test_ledger import NOON_US, ended, nobody_knows

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = 12
HOUR_US = 3_600_000_000


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "_AT_ONCE", 5)


def use(request_id: str, user: User, **fields: Any) -> ledger.Ended:
    named: dict[str, Any] = {"user_name": user.username, "key_name": f"{user.username}'s laptop"}
    return ended(request_id, user_id=user.pk, address="192.0.2.7", **named, **fields)


@pytest.fixture
def _life(alice: User, bob: User) -> None:
    for user in (alice, bob):
        ledger.write(
            [use(f"{user.username}{n}", user, at_us=NOON_US + n * HOUR_US) for n in range(ROWS)]
        )


def names() -> set[tuple[str, str, str | None]]:
    rows = set(LedgerEntry.objects.values_list("user_name", "key_name", "address"))
    keys = LedgerTotal.objects.filter(axis="key")
    for sums in (LedgerHour.objects.all(), LedgerDay.objects.all(), keys):
        rows |= {(*row, None) for row in sums.values_list("user_name", "key_name")}
    return rows


def left() -> int:
    """Return how many rows still have Alice's name."""
    tables = (LedgerEntry, LedgerHour, LedgerDay, LedgerTotal)
    return sum(table.objects.filter(user_name="alice").count() for table in tables)


@pytest.mark.usefixtures("_life")
def test_everything_of_one_person_is_unnamed_and_nothing_of_others(alice: User) -> None:
    own_data.forget("alice", by=None)

    gone = (f"deleted-{alice.pk}", "", None)
    bobs = ("bob", "bob's laptop")
    assert names() == {gone, (*bobs, "192.0.2.7"), (*bobs, None)}
    assert LedgerEntry.objects.filter(user_id=alice.pk).count() == ROWS


@pytest.mark.usefixtures("_life")
def test_nobody_waits_for_more_than_a_batch(alice: User) -> None:
    at_once: list[int] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found = execute(sql, params, many, context)
        if sql.startswith("UPDATE"):
            assert connection.get_autocommit(), "each batch is a transaction of its own"
            at_once.append(context["cursor"].rowcount)
        return found

    with connection.execute_wrapper(count):
        forgetting.take_out(alice.pk)

    assert at_once == [5, 5, 2, 5, 5, 2, 1, 4]


@pytest.mark.usefixtures("_life")
def test_what_a_kill_has_left_is_taken_out_by_the_worker(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As a process ends."""

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(forgetting, "take_out", kill)
        with pytest.raises(Killed):
            own_data.forget("alice", by=None)
    assert not User.objects.filter(pk=alice.pk).exists()
    assert left() == 2 * ROWS + 1 + 4
    monkeypatch.setattr(ledger_chores._Times, "forget_at", 0.0)
    monkeypatch.setattr(ledger_chores._Times, "recover_at", float("inf"))
    ledger_chores.do(nobody_knows)

    assert left() == 0


def test_account_is_gone_also_where_the_ledger_is_held(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise OperationalError("deadlock detected")

    with monkeypatch.context() as patched:
        patched.setattr(forgetting, "_change", lose)
        own_data.forget("alice", by=None)
    assert not User.objects.filter(pk=alice.pk).exists()
    assert NameToForget.objects.exists()
    forgetting.take_out_rest()

    assert left() == 0


def test_row_of_a_writer_who_knew_the_account_still_is_taken_out_later(alice: User) -> None:
    own_data.forget("alice", by=None)
    # As on PostgreSQL, where such a transaction may end behind all of it.
    LedgerHour.objects.create(
        hour=timezone.now(), user_id=alice.pk, user_name="alice", key_name="alice's laptop"
    )
    forgetting.take_out_rest()

    assert left() == 0
    assert NameToForget.objects.exists(), "there may be another one"
    forgetting.take_out_rest(timezone.now() + timedelta(hours=2))
    assert not NameToForget.objects.exists()


def test_account_that_stays_is_not_noted(admin: User) -> None:
    with pytest.raises(Conflict):
        own_data.forget(admin.username, by=principal_for(admin))

    assert not NameToForget.objects.exists()

"""The audit's chain: gap-free, in the act's transaction, and broken by whatever is changed."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from models_app import audit, people
from models_app.audit_log import AuditQuestion, find_entries, verify
from models_app.models import AuditEntry, Membership, Team, User
from models_app.permissions import SiteRole
from models_app.teams import create_team
from tests.conftest import principal_for

pytestmark = pytest.mark.django_db

TABLE = AuditEntry._meta.db_table


@pytest.fixture
def acts(alice: User) -> list[AuditEntry]:
    """Three acts of Alice's, and what came before them gone."""
    AuditEntry.objects.all().delete()
    for number in range(3):
        audit.record("key.create", f"key {number}", by=principal_for(alice), scopes=["use"])
    return list(AuditEntry.objects.order_by("sequence"))


def told(*arguments: str) -> str:
    out = StringIO()
    call_command("audit", *arguments, stdout=out)
    return out.getvalue()


def test_acts_are_numbered_from_one_without_a_gap(acts: list[AuditEntry]) -> None:
    assert [row.sequence for row in acts] == [1, 2, 3]
    assert [row.previous for row in acts] == ["", acts[0].digest, acts[1].digest]
    assert verify().fault == ""


def test_act_that_is_undone_leaves_no_row_and_no_gap(acts: list[AuditEntry]) -> None:
    with pytest.raises(ZeroDivisionError), audit.act():
        audit.record("team.create", by=None)
        _ = 1 / 0
    audit.record("team.delete", by=None)

    assert AuditEntry.objects.order_by("sequence").last().sequence == 4  # type: ignore[union-attr]
    assert verify().fault == ""


def test_part_of_an_act_that_fails_leaves_no_row(acts: list[AuditEntry]) -> None:
    with audit.act():
        audit.record("team.create", by=None)
        with pytest.raises(ZeroDivisionError), audit.act():
            audit.record("team.delete", by=None)
            _ = 1 / 0
        audit.record("team.change", by=None)

    rows = AuditEntry.objects.order_by("sequence").filter(sequence__gt=3)
    assert [row.action for row in rows] == ["team.create", "team.change"]
    assert verify().fault == ""


def test_transaction_that_is_no_act_is_refused(acts: list[AuditEntry]) -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        audit.record("team.create", by=None)
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic(), audit.act():
        pass
    assert verify().rows == 3


def test_rows_of_an_act_are_the_last_that_it_writes(alice: User, bob: User) -> None:
    with CaptureQueriesContext(connection) as queries:
        create_team("vision", owner="bob", by=None)

    asked = [query["sql"] for query in queries]
    first = next(n for n, sql in enumerate(asked) if sql.startswith("INSERT") and TABLE in sql)
    others = [sql for sql in asked[first:] if TABLE not in sql and "SAVEPOINT" not in sql]
    assert others == []
    assert [row.action for row in AuditEntry.objects.order_by("-sequence")[:2]] == [
        "team.member",
        "team.create",
    ]


def test_row_tells_who_did_what_to_whom(acts: list[AuditEntry]) -> None:
    row = acts[0]
    assert (row.actor_name, row.credential, row.action, row.subject, row.details) == (
        "alice",
        "key",
        "key.create",
        "key 0",
        {"scopes": ["use"]},
    )


def test_act_at_the_command_line_is_told_from_one_of_somebody(alice: User) -> None:
    audit.record("user.create", "bob", by=None)

    row = AuditEntry.objects.latest("sequence")
    assert (row.actor_id, row.actor_name, row.credential) == (0, "", audit.SITE_ITSELF)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "another key"},
        {"actor_name": "bob"},
        {"details": {"scopes": ["admin"]}},
        {"action": "key.revoke"},
        {"address": "192.0.2.1"},
        {"at": datetime(2020, 1, 1, tzinfo=UTC)},
    ],
)
def test_changed_row_is_named(acts: list[AuditEntry], change: dict[str, Any]) -> None:
    AuditEntry.objects.filter(sequence=2).update(**change)

    verdict = verify()
    assert verdict.fault.startswith("row 2 (")
    assert verdict.rows == 1


def test_removed_row_is_named(acts: list[AuditEntry]) -> None:
    acts[1].delete()

    assert verify().fault == "row 2 is missing: the next one that is there is 3"


def test_rows_that_exchange_places_are_noticed(acts: list[AuditEntry]) -> None:
    AuditEntry.objects.filter(sequence=2).update(sequence=9)
    AuditEntry.objects.filter(sequence=3).update(sequence=2)
    AuditEntry.objects.filter(sequence=9).update(sequence=3)

    assert "does not follow" in verify().fault


def test_row_that_was_replaced_with_a_digest_of_its_own_breaks_the_next(
    acts: list[AuditEntry],
) -> None:
    forged = acts[1]
    forged.subject = "nothing happened"
    forged.digest = audit.digest_of(forged)
    forged.save()

    assert verify().fault.startswith("row 3 does not follow")


def test_chain_that_is_written_anew_without_the_pepper_does_not_hold(
    acts: list[AuditEntry], settings: Settings
) -> None:
    pepper, settings.KEY_PEPPER = settings.KEY_PEPPER, "a guess"
    previous = ""
    for row in acts:
        row.actor_name, row.previous = "nobody", previous
        row.digest = previous = audit.digest_of(row)
        row.save()
    holds_for_the_forger = verify().fault == ""
    settings.KEY_PEPPER = pepper

    assert holds_for_the_forger
    assert "row 1" in verify().fault
    assert "OLLAMASITE_KEY_PEPPER" in verify().fault


def test_rows_cut_off_at_the_end_are_noticed_by_whoever_has_kept_the_head(
    acts: list[AuditEntry],
) -> None:
    head = verify().head
    acts[2].delete()

    assert verify().fault == ""
    assert "were removed from the end" in verify(head).fault


def test_head_that_was_kept_still_holds_when_more_has_happened(acts: list[AuditEntry]) -> None:
    head = verify().head
    audit.record("key.revoke", by=None)

    assert verify(head).fault == ""


def test_walk_goes_on_behind_the_first_batch(
    acts: list[AuditEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models_app.audit_log._BATCH", 2)
    assert verify().rows == 3
    AuditEntry.objects.filter(sequence=3).update(subject="x")
    assert verify().fault.startswith("row 3")


@pytest.mark.parametrize(
    "subject", ["\0", "\ud800", "x" * 2000, "ü漢字\N{PILE OF POO}", "a\nb", "<script>"]
)
def test_any_text_can_be_recorded_and_verified(acts: list[AuditEntry], subject: str) -> None:
    values: dict[str, audit.JsonValue] = {
        "text": subject,
        "nested": [{"a": subject}, 1, None, True],
        "much": 10**15,
    }
    audit.record("model.delete", subject, by=None, **values)

    assert verify().fault == ""
    assert len(AuditEntry.objects.latest("sequence").subject) <= 700


def test_long_name_of_a_key_keeps_the_prefix_by_which_it_is_known(alice: User) -> None:

    by = replace(principal_for(alice), key_name=f"{'long ' * 20}(0123456789ab)")
    audit.record("key.rotate", by=by)

    credential = AuditEntry.objects.latest("sequence").credential
    assert credential.endswith("(0123456789ab)")
    assert len(credential) <= 60


@pytest.mark.django_db(transaction=True)
def test_acts_at_the_same_time_get_places_of_their_own(transactional_db: None) -> None:
    together = threading.Barrier(4)
    failures: list[BaseException] = []

    def act() -> None:
        try:
            together.wait(timeout=60)
            for _ in range(5):
                audit.record("key.create", by=None)
        except Exception as error:  # noqa: BLE001 - told by the test's thread
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    assert failures == []
    assert verify().fault == ""
    assert verify().rows == 20


def at_once(*doing: Callable[[], object]) -> list[BaseException]:
    """Do things in threads of their own, and return what they have raised."""
    failures: list[BaseException] = []

    def do(what: Callable[[], object]) -> None:
        try:
            what()
        except Exception as error:  # noqa: BLE001 - told by the test's thread
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=do, args=[what]) for what in doing]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return failures


@pytest.mark.django_db(transaction=True)
def test_acts_that_cross_do_not_wait_for_each_other(alice: User, bob: User, admin: User) -> None:
    together = threading.Barrier(4)

    def often(what: Callable[[str], object]) -> Callable[[], None]:
        def do() -> None:
            together.wait(timeout=60)
            for turn in range(6):
                what(f"{threading.get_ident()}-{turn}")

        return do

    def come_and_go(name: str) -> None:
        people.set_role("bob", site_role=SiteRole.OPERATOR, by=None)
        people.set_role("bob", is_admin=False, site_role=SiteRole.NONE, by=None)

    failures = at_once(
        often(lambda name: people.add_user(name, site_role=SiteRole.OPERATOR, by=None)),
        often(lambda name: create_team(name, owner="bob", by=None)),
        often(lambda name: people.end_sessions("bob", by=None)),
        often(come_and_go),
    )

    assert failures == []
    assert verify().fault == ""


@pytest.mark.django_db(transaction=True)
def test_act_does_not_wait_for_a_row_that_it_names_when_it_has_its_place(
    transactional_db: None, bob: User
) -> None:
    """SQLite has one writer; on PostgreSQL a foreign key is looked at when the transaction ends."""
    if connection.vendor != "postgresql":
        pytest.skip("transactions that write wait for each other from the beginning here")
    create_team("vision", by=None)
    team = Team.objects.get()
    is_held = threading.Event()

    def hold_bob() -> None:
        with audit.act():
            User.objects.select_for_update().get(pk=bob.pk)
            is_held.set()
            wait_for_a_lock_that_is_waited_for()
            audit.record("user.change", by=None)

    def name_bob() -> None:
        is_held.wait(timeout=60)
        with audit.act():
            Membership.objects.create(team=team, user_id=bob.pk)
            audit.record("team.member", by=None)

    assert at_once(hold_bob, name_bob) == []
    rows = AuditEntry.objects.order_by("-sequence")[:2]
    assert [row.action for row in rows] == ["team.member", "user.change"]


def wait_for_a_lock_that_is_waited_for() -> None:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise TimeoutError


# ------------------------------------------------------------------ finding
def test_action_finds_all_of_its_kind(acts: list[AuditEntry]) -> None:
    audit.record("keyboard.buy", by=None)
    found = find_entries(AuditQuestion(action="key"), limit=10)
    assert [record.sequence for record in found] == [3, 2, 1]


def test_search_looks_at_subjects_and_actors(acts: list[AuditEntry]) -> None:
    assert [r.sequence for r in find_entries(AuditQuestion(text="KEY 1"), limit=10)] == [2]
    assert len(find_entries(AuditQuestion(text="lic"), limit=10)) == 3
    assert find_entries(AuditQuestion(actor="lic"), limit=10) == []


# ------------------------------------------------------------------ the command
def test_command_prints_the_head_to_be_kept(acts: list[AuditEntry]) -> None:
    assert told("verify") == f"all 3 rows are as they were written\nhead {acts[2].digest}\n"
    assert "all 3 rows" in told("verify", "--head", acts[0].digest)


def test_command_ends_with_1_where_something_was_changed(acts: list[AuditEntry]) -> None:
    AuditEntry.objects.filter(sequence=1).update(subject="x")
    with pytest.raises(SystemExit) as ended:
        told("verify")
    assert ended.value.code == 1


def test_command_refuses_what_is_no_digest(acts: list[AuditEntry]) -> None:
    with pytest.raises(CommandError, match="64 hexadecimal"):
        told("verify", "--head", "abc")


def test_command_lists_the_newest_first(acts: list[AuditEntry]) -> None:
    lines = told("list", "--actor", "ALICE", "--limit", "2").splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2"]
    assert told("list", "--since", "2100-01-01") == ""


def test_command_refuses_a_day_that_does_not_exist(acts: list[AuditEntry]) -> None:
    with pytest.raises(CommandError, match="--since"):
        told("list", "--since", "2026-02-30")

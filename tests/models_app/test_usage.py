"""Who may see what was used, and what they are told."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from models_app import ledger, usage
from models_app.errors import TeamNotFound
from models_app.keys import create_key
from models_app.ledger_export import Form, pieces
from models_app.models import LedgerEntry, Membership, Team, User
from models_app.permissions import CredentialKind, Principal, SiteRole, TeamRole
from models_app.principals import principal_of_user
from models_app.usage import OTHER, Place, RequestRecord, Usage, UsageQuestion, all_pages
from ollamasite.errors import Forbidden
from tests.models_app.admin_pages import HOME, browser_of
from tests.models_app.test_ledger import NOON, NOON_US, ended

pytestmark = pytest.mark.django_db

ALL = UsageQuestion(is_everybodys=True)
HOUR_US = 3_600_000_000


@pytest.fixture
def lab(db: None) -> Team:
    return Team.objects.create(name="lab")


def of(user: User) -> Principal:
    return principal_of_user(user, CredentialKind.SESSION)


def join(team: Team, user: User, role: TeamRole) -> Principal:
    Membership.objects.create(team=team, user=user, role=role)
    return of(user)


def use(request_id: str, user: User, **fields: Any) -> ledger.Ended:
    return ended(request_id, user_id=user.pk, user_name=user.username, **fields)


def ids(by: Principal | None, question: UsageQuestion) -> list[str]:
    return [record.request_id for page in all_pages(by, question) for record in page]


def test_one_sees_ones_own_use_and_nobody_elses(alice: User, bob: User) -> None:
    ledger.write([use("a", alice), use("b", bob)])

    assert ids(of(alice), UsageQuestion()) == ["a"]
    assert [row.requests for row in usage.sums(of(bob), UsageQuestion())] == [1]
    assert ids(of(alice), UsageQuestion(user="bob")) == []


def test_only_auditors_and_administrators_see_everybodys(
    alice: User, bob: User, admin: User
) -> None:
    ledger.write([use("a", alice), use("b", bob)])
    bob.site_role = SiteRole.AUDITOR

    assert sorted(ids(of(admin), ALL)) == sorted(ids(of(bob), ALL)) == ["a", "b"]
    for ask in (usage.sums, ids):
        with pytest.raises(Forbidden):
            ask(of(alice), ALL)


@pytest.mark.parametrize("role", [TeamRole.MAINTAINER, TeamRole.OWNER])
def test_those_who_look_after_a_team_see_its_use(
    lab: Team, alice: User, bob: User, role: TeamRole
) -> None:
    ledger.write([use("a", alice, team_id=lab.pk, team_name="lab"), use("b", alice)])

    assert ids(join(lab, bob, role), UsageQuestion(team="LAB")) == ["a"]


@pytest.mark.parametrize("role", [TeamRole.VIEWER, TeamRole.MEMBER])
def test_other_members_do_not(lab: Team, bob: User, role: TeamRole) -> None:
    with pytest.raises(Forbidden):
        usage.sums(join(lab, bob, role), UsageQuestion(team="lab"))


def test_team_of_others_is_like_none(lab: Team, bob: User) -> None:
    for name in ("lab", "nothing"):
        with pytest.raises(TeamNotFound):
            usage.sums(of(bob), UsageQuestion(team=name))


def test_team_is_not_told_what_people_call_their_own_models(
    lab: Team, alice: User, bob: User
) -> None:
    common: dict[str, Any] = {"team_id": lab.pk, "team_name": "lab", "address": "192.0.2.7"}
    ledger.write(
        [
            use("a", alice, model_name="alice/secret:latest", **common),
            use("b", alice, model_name="tiny:latest", **common),
            use("c", alice, model_name="lab/ours:latest", **common),
        ]
    )
    asked = UsageQuestion(team="lab")
    owner = join(lab, bob, TeamRole.OWNER)

    groups = {row.group for row in usage.sums(owner, asked, group_by="model")}
    assert groups == {OTHER, "tiny:latest", "lab/ours:latest"}
    [page] = all_pages(owner, asked)
    assert {record.model for record in page} == groups
    assert {record.address for record in page} == {None}
    assert {record.digest for record in page if record.model == OTHER} == {""}


def test_model_that_is_called_other_is_found(alice: User) -> None:
    ledger.write([use("a", alice, model_name=OTHER)])

    assert usage.sums(of(alice), UsageQuestion(model=OTHER))[0].requests == 1


@pytest.mark.parametrize("name", ["alice/secret:latest", "alice/nothing:latest"])
def test_team_learns_nothing_by_asking_for_a_model_that_it_is_not_told(
    lab: Team, alice: User, bob: User, name: str
) -> None:
    ledger.write(
        [use("a", alice, model_name="alice/secret:latest", team_id=lab.pk, team_name="lab")]
    )
    owner = join(lab, bob, TeamRole.OWNER)
    asked = UsageQuestion(team="lab", model=name)

    assert usage.total(usage.sums(owner, asked)).requests == 0
    assert usage.sums(owner, asked, group_by="user") == []
    assert ids(owner, asked) == []
    assert ids(None, UsageQuestion(team="lab", model="alice/secret:latest")) == ["a"]


def test_team_asks_for_models_that_it_is_told(lab: Team, alice: User, bob: User) -> None:
    common: dict[str, Any] = {"team_id": lab.pk, "team_name": "lab"}
    ledger.write([use("a", alice, model_name="lab/ours:latest", **common)])
    owner = join(lab, bob, TeamRole.OWNER)

    assert ids(owner, UsageQuestion(team="lab", model="lab/ours:latest")) == ["a"]


@pytest.mark.parametrize("question", [UsageQuestion(is_everybodys=True), UsageQuestion(team="lab")])
def test_nothing_is_looked_up_for_whoever_may_not_ask(
    lab: Team, alice: User, question: UsageQuestion, django_assert_num_queries: Any
) -> None:
    asked = replace(question, user="nobody", key="x" * 12, model="tiny")
    stranger = of(alice)
    with django_assert_num_queries(0), pytest.raises((Forbidden, TeamNotFound)):
        usage.sums(stranger, asked)


@pytest.mark.skipif("sqlite" not in connection.vendor, reason="says how SQLite plans")
@pytest.mark.parametrize(
    "narrowed",
    ["team=lab", "all=1&model=m", "all=1&user=alice", "all=1&user=bob-who-is-gone", "all=1&key=k"],
)
def test_no_question_reads_the_whole_ledger(lab: Team, alice: User, narrowed: str) -> None:
    fields = dict(part.split("=") for part in narrowed.split("&"))
    is_everybodys = bool(fields.pop("all", ""))
    if "key" in fields:
        fields["key"] = create_key(alice, fields["key"])[0].prefix
    asked = UsageQuestion(is_everybodys=is_everybodys, **fields)  # type: ignore[arg-type]
    with CaptureQueriesContext(connection) as asked_for:
        for group_by in ("", "day", "model"):
            usage.sums(None, asked, group_by=group_by)
        usage.page(None, asked, limit=5)

    plans = plans_of(asked_for)
    assert plans
    assert [plan for plan in plans if "SEARCH" not in plan] == []


@pytest.mark.skipif("sqlite" not in connection.vendor, reason="says how SQLite plans")
@pytest.mark.parametrize("table", ["ledgerhour", "ledgerentry"])
@pytest.mark.parametrize("name", ["lab", "alice", "tiny:latest"])
def test_lists_under_admin_find_a_name_by_an_index_and_sort_nothing(
    lab: Team, alice: User, admin: User, table: str, name: str
) -> None:
    ledger.write([use("a", alice, team_id=lab.pk)])
    browser = browser_of(admin)
    with CaptureQueriesContext(connection) as asked_for:
        assert browser.get(f"{HOME}/{table}/", {"q": name}).status_code == 200

    plans = [plan for plan in plans_of(asked_for) if "models_app_ledger" in plan]
    assert plans
    assert [plan for plan in plans if "SEARCH" not in plan or "B-TREE" in plan] == []


def plans_of(asked_for: CaptureQueriesContext) -> list[str]:
    """Return how SQLite finds the ledger's rows for each query that asked for some."""
    plans = []
    for query in asked_for.captured_queries:
        sql = str(query["sql"])
        if sql.startswith("SELECT") and 'FROM "models_app_ledger' in sql:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}".replace("%", "%%"))
                plans.append("; ".join(row[3] for row in cursor.fetchall()))
    return plans


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("", [""]),
        ("hour", ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z"]),
        ("day", ["2026-03-01"]),
        ("month", ["2026-03"]),
        ("model", ["tiny:latest", "big:latest"]),
        ("user", ["alice", "bob"]),
        ("dialect", ["native"]),
        ("key", [""]),
        ("team", [""]),
    ],
)
def test_sums_are_grouped(alice: User, bob: User, group_by: str, groups: list[str]) -> None:
    ledger.write(
        [
            use("a", alice),
            use("b", alice, at_us=NOON_US + HOUR_US),
            use("c", bob, model_name="big:latest"),
        ]
    )

    found = usage.sums(None, ALL, group_by=group_by)
    assert [row.group for row in found] == groups
    assert usage.total(found) == Usage(
        group="", requests=3, tokens_in=30, tokens_out=9, tokens_cached=12, compute_us=3000
    )


def test_sums_begin_with_the_hour_that_is_named(alice: User) -> None:
    ledger.write([use(str(hour), alice, at_us=NOON_US + hour * HOUR_US) for hour in range(4)])
    asked = UsageQuestion(
        since=NOON + timedelta(hours=1, minutes=20),
        until=NOON.replace(minute=0) + timedelta(hours=3),
    )

    assert [row.requests for row in usage.sums(None, asked)] == [2]


def test_pages_have_every_row_once_also_where_many_begin_at_once(alice: User) -> None:
    ledger.write([use(str(number), alice) for number in range(25)])
    ledger.write([use("later", alice, at_us=NOON_US + 1)])

    seen: list[str] = []
    after: Place | None = None
    while True:
        page, after = usage.page(of(alice), UsageQuestion(), limit=4, after=after)
        seen += [record.request_id for record in page]
        if after is None:
            break
    assert seen[0] == "later"
    assert sorted(seen) == sorted([*map(str, range(25)), "later"])


def test_no_time_means_all_of_it_and_a_time_narrows(alice: User) -> None:
    ledger.write([use("a", alice), use("b", alice, at_us=NOON_US + HOUR_US)])

    assert ids(None, UsageQuestion()) == ["b", "a"]
    assert ids(None, UsageQuestion(since=NOON + timedelta(minutes=1))) == ["b"]
    assert ids(None, UsageQuestion(until=NOON + timedelta(minutes=1))) == ["a"]


def test_users_who_are_gone_are_found_by_what_is_left_of_their_name() -> None:
    ledger.write([ended("a", user_id=77), ended("b", user_id=78)])

    assert ids(None, UsageQuestion(user="deleted-77")) == ["a"]


# ------------------------------------------------------------------ files


def command(*words: str) -> str:
    out = StringIO()
    call_command("ledger", "export", *words, stdout=out)
    return out.getvalue()


def test_command_writes_requests_and_sums(alice: User, bob: User) -> None:
    ledger.write([use("a", alice), use("b", bob), use("c", bob, at_us=NOON_US + HOUR_US)])

    assert command("--csv").count("\r\n") == 4
    assert [row["request_id"] for row in json.loads(command("--json", "--user", "alice"))] == ["a"]
    sums = json.loads(command("--json", "--group-by", "user", "--until", "2026-03-01T13:00:00Z"))
    assert [(row["group"], row["requests"]) for row in sums] == [("alice", 1), ("bob", 1)]


@pytest.mark.parametrize("words", [("--team", "nothing"), ("--since", "yesterday")])
def test_command_says_what_it_cannot_find(db: None, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=words[1]):
        command(*words)


def exported(form: Form) -> str:
    return b"".join(pieces(all_pages(None, ALL), form, RequestRecord)).decode()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_in_csv_is_never_a_formula(alice: User, start: str) -> None:
    ledger.write([use("a", alice, key_name=f"{start}cmd|' /C calc'!A0")])

    assert f"'{start}cmd" in exported(Form.CSV)


def test_numbers_and_times_in_csv_are_plain(alice: User) -> None:
    ledger.write([use("a", alice)])

    heading, line, _ = exported(Form.CSV).split("\r\n")
    cells = dict(zip(heading.split(","), line.split(","), strict=False))
    assert cells["began_at"] == "2026-03-01T12:30:00.000000Z"
    assert cells["tokens_in"] == "10"
    assert cells["address"] == ""


def test_json_is_one_array_whatever_is_in_it(alice: User) -> None:
    assert json.loads(exported(Form.JSON)) == []
    ledger.write([use("a", alice), use("b", alice)])

    found = json.loads(exported(Form.JSON))
    assert [row["request_id"] for row in found] == ["b", "a"]
    assert found[0]["parameters"] == {"num_ctx": 512, "temperature": 0.5}
    assert datetime.fromisoformat(found[0]["began_at"]) == NOON.astimezone(UTC)


def test_export_reads_a_thousand_rows_at_a_time(
    alice: User, django_assert_num_queries: Any
) -> None:
    ledger.write([use(str(number), alice) for number in range(1001)])

    with django_assert_num_queries(2):
        assert len(ids(None, ALL)) == 1001
    assert LedgerEntry.objects.count() == 1001

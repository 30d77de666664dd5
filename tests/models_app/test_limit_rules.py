"""Limits that are decided for somebody: who sets them, which hold for whom, and since when."""

from dataclasses import replace

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext

from models_app import keys, limit_book, limit_rules
from models_app.errors import (
    KeyNotFound,
    LimitRuleNotFound,
    ModelNotFound,
    TeamNotFound,
    UserNotFound,
)
from models_app.keys import create_key
from models_app.limit_book import RuleBook
from models_app.limit_kinds import Limit, Period, Unit
from models_app.limit_rules import NewRule, put_rule
from models_app.models import ApiKey, AuditEntry, LimitRule, Team, User
from models_app.permissions import CredentialKind, Principal, SiteRole, TeamPlace, TeamRole
from ollamasite.errors import BadRequest, Forbidden
from tests.conftest import MakeModel
from tests.models_app.people_cast import seen_as

ALICE = Principal(user_id=7, username="alice", is_admin=False, kind=CredentialKind.KEY)
ADMIN = replace(ALICE, username="root", is_admin=True)
AUDITOR = replace(ALICE, username="aud", site_role=SiteRole.AUDITOR)


def rule(subject: str, name: str = "", amount: int = 5, **changes: str) -> NewRule:
    asked = {"unit": "tokens", "period": "day", **changes}
    return NewRule(subject=subject, name=name, amount=amount, **asked)


def limit(subject: str, amount: int, period: Period = Period.DAY) -> Limit:
    return Limit(subject, Unit.TOKENS, period, amount)


def amounts(found: tuple[Limit, ...]) -> dict[tuple[str, str, str], int]:
    return {(each.subject, each.unit, each.period): each.amount for each in found}


# ------------------------------------------------------------------ which hold for whom


def test_all_that_concerns_a_request_holds_together() -> None:
    names = ("site", "team:3", "key:9", "user:7", "model:host/library/m")
    book = RuleBook({name: (limit(name, 10),) for name in (*names, "team:4", "user:8", "key:1")})
    team = TeamPlace(3, "vision", TeamRole.MEMBER)
    asked = replace(ALICE, key_id=9, team=team)

    found = book.limits_of(asked, ("model:host/library/m",))

    assert {each.subject for each in found} == set(names)


def test_users_rule_replaces_the_one_for_each_user_and_the_setting(settings: object) -> None:
    settings.TOKENS_PER_DAY = 1  # type: ignore[attr-defined]
    settings.TOKENS_PER_MONTH = 2  # type: ignore[attr-defined]
    settings.TOKENS_PER_MINUTE = 3  # type: ignore[attr-defined]
    each = (limit("each user", 20), limit("each user", 30, Period.MONTH))
    book = RuleBook({"each user": each, "user:7": (limit("user:7", 300),)})

    assert amounts(book.limits_of(ALICE)) == {
        ("user:7", "tokens", "day"): 300,
        ("user:7", "tokens", "month"): 30,
        ("user:7", "tokens", "minute"): 3,
    }


def test_settings_are_limits_of_each_user(settings: object) -> None:
    settings.PARALLEL_REQUESTS = 4  # type: ignore[attr-defined]

    assert amounts(RuleBook().limits_of(ALICE)) == {("user:7", "parallel", ""): 4}


# ------------------------------------------------------------------ set and removed


def test_rule_takes_the_place_of_the_one_before(db: None) -> None:
    first = put_rule(ADMIN, rule("site", amount=5))
    again = put_rule(ADMIN, rule("site", amount=6))

    assert (again.rule_id, again.amount) == (first.rule_id, 6)
    assert [record.amount for record in limit_rules.list_rules(AUDITOR)] == [6]


@pytest.mark.usefixtures("alice")
def test_rules_are_for_whoever_is_named(db: None, alice: User, make_model: MakeModel) -> None:
    Team.objects.create(name="Vision")
    make_model("llama:1b")
    make_model("alice/mine:2", alice)
    key = create_key(alice, "laptop")[0]
    named = [("team", "vision"), ("user", "ALICE"), ("key", key.prefix)]
    named += [("model", "llama"), ("model", "alice/mine")]
    for subject, name in named:
        put_rule(ADMIN, rule(subject, name))

    told = {(record.subject, record.name) for record in limit_rules.list_rules(ADMIN)}
    assert told == {*named[2:], ("team", "Vision"), ("user", "alice")}
    assert set(limit_book.read_rules().rules) == {
        f"team:{Team.objects.get().pk}",
        f"user:{alice.pk}",
        f"key:{key.pk}",
        "model:registry.ollama.ai/library/llama",
        "model:registry.ollama.ai/alice/mine",
    }


@pytest.mark.parametrize(
    ("new", "error"),
    [
        (rule("planet"), BadRequest),
        (rule("site", "vision"), BadRequest),
        (rule("team"), BadRequest),
        (rule("team", "a\x00b"), BadRequest),
        (rule("site", unit="words"), BadRequest),
        (rule("site", period="year"), BadRequest),
        (rule("site", period=""), BadRequest),
        (rule("site", unit="parallel"), BadRequest),
        (rule("site", amount=0), BadRequest),
        (rule("site", amount=-1), BadRequest),
        (rule("site", amount=10**11 + 1), BadRequest),
        (rule("model", "a b"), BadRequest),
        (rule("model", "nothing"), ModelNotFound),
        (rule("team", "nothing"), TeamNotFound),
        (rule("user", "nothing"), UserNotFound),
        (rule("key", "nothing"), KeyNotFound),
    ],
)
def test_what_makes_no_sense_is_refused(db: None, new: NewRule, error: type[Exception]) -> None:
    with pytest.raises(error):
        put_rule(ADMIN, new)
    assert not LimitRule.objects.exists()


@pytest.mark.parametrize("by", [ALICE, AUDITOR], ids=["user", "auditor"])
def test_only_administrators_set_and_remove(db: None, by: Principal) -> None:
    kept = put_rule(ADMIN, rule("site"))

    with pytest.raises(Forbidden):
        put_rule(by, rule("each user"))
    with pytest.raises(Forbidden):
        limit_rules.remove_rule(by, kept.rule_id)
    assert LimitRule.objects.count() == 1


def test_users_do_not_see_the_rules(db: None) -> None:
    with pytest.raises(Forbidden):
        limit_rules.list_rules(ALICE)


def test_removed_rule_is_gone(db: None) -> None:
    kept = put_rule(ADMIN, rule("site"))
    limit_rules.remove_rule(ADMIN, kept.rule_id)

    with pytest.raises(LimitRuleNotFound):
        limit_rules.remove_rule(ADMIN, kept.rule_id)


def test_what_is_set_and_removed_is_in_the_audit(db: None) -> None:
    kept = put_rule(ADMIN, rule("site", amount=5))
    put_rule(ADMIN, rule("site", amount=6))
    limit_rules.remove_rule(ADMIN, kept.rule_id)

    rows = AuditEntry.objects.order_by("sequence").values_list("action", "actor_name", "details")
    assert list(rows) == [
        ("limit.set", "root", {"amount": 5, "before": None}),
        ("limit.set", "root", {"amount": 6, "before": 5}),
        ("limit.remove", "root", {}),
    ]


def test_key_that_takes_anothers_place_has_its_limits(db: None, alice: User) -> None:
    old, new = create_key(alice, "old")[0], create_key(alice, "new")[0]
    put_rule(ADMIN, rule("key", old.prefix, 12))
    limit_rules.copy_key_rules(old.pk, new.pk)

    assert {record.name for record in limit_rules.list_rules(ADMIN)} == {old.prefix, new.prefix}


def line_of_three(alice: User) -> list[ApiKey]:
    first = create_key(alice, "k")[0]
    by = seen_as(alice)
    second = keys.rotate_key(by, first.prefix).record.prefix
    third = keys.rotate_key(by, second).record.prefix
    return list(ApiKey.objects.filter(prefix__in=[first.prefix, second, third]).order_by("pk"))


def held_to(line: list[ApiKey]) -> list[list[int]]:
    """Return what each key's requests have to keep."""
    book = limit_book.read_rules()
    principals = [replace(ALICE, key_id=key.pk) for key in line]
    return [[each.amount for each in book.limits_of(asked)] for asked in principals]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_limit_of_a_key_holds_for_its_whole_line(db: None, alice: User, place: int) -> None:
    line = line_of_three(alice)
    other = create_key(alice, "other")[0]

    put_rule(ADMIN, rule("key", line[place].prefix, 12))
    assert held_to([*line, other]) == [[12], [12], [12], []]
    put_rule(ADMIN, rule("key", line[place].prefix, 13))
    assert held_to([*line, other]) == [[13], [13], [13], []]


def test_changed_and_removed_limit_is_so_for_the_whole_line(db: None, alice: User) -> None:
    line = line_of_three(alice)
    kept = put_rule(ADMIN, rule("key", line[0].prefix, 12))
    limit_rules.change_amount(ADMIN, kept.rule_id, 14)
    assert held_to(line) == [[14], [14], [14]]
    limit_rules.remove_rule(ADMIN, LimitRule.objects.get(key=line[2]).pk)
    assert held_to(line) == [[], [], []]


def test_limit_is_for_good_keys_alone(db: None, alice: User) -> None:
    line = line_of_three(alice)
    keys.revoke_key(line[1], keeps_successors=True)
    put_rule(ADMIN, rule("key", line[0].prefix, 12))

    assert {record.name for record in limit_rules.list_rules(ADMIN)} == {
        line[0].prefix,
        line[2].prefix,
    }


# ------------------------------------------------------------------ what a process knows


def test_rules_are_read_again_only_when_they_have_changed(db: None) -> None:
    put_rule(ADMIN, rule("site"))
    first = limit_book.read_rules()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        again = limit_book.read_rules()

    assert again is first
    assert len(queries) == 1


@pytest.mark.parametrize("change", ["amount", "removed", "added"])
def test_change_by_another_process_is_seen(db: None, change: str) -> None:
    put_rule(ADMIN, rule("site", amount=5))
    limit_book.read_rules()
    row = LimitRule.objects.get()
    if change == "amount":
        row.amount = 6
        row.save()
    elif change == "removed":
        row.delete()
    else:
        LimitRule.objects.create(subject="each user", unit="tokens", period="day", amount=5)

    found = limit_book.read_rules().rules
    assert {name: limits[0].amount for name, limits in found.items()} == {
        "amount": {"site": 6},
        "removed": {},
        "added": {"site": 5, "each user": 5},
    }[change]


def test_known_rules_are_looked_up_again_by_one_at_a_time(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = limit_book.read_rules()
    fresh = limit_book.known_rules()
    monkeypatch.setattr(limit_book, "_KNOWN_S", 0.0)
    first = limit_book.known_rules()
    monkeypatch.setattr(limit_book, "_KNOWN_S", 60.0)
    second = limit_book.known_rules()

    assert (fresh, first, second) == (book, None, book)


async def test_known_rules_cost_no_query(transactional_db: None) -> None:
    await sync_to_async(limit_book.read_rules)()

    # Here a query would raise: this is the event loop.
    assert limit_book.known_rules() == RuleBook()

"""Keys: what they may be, who may make, see, rotate and end them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from models_app import keys, limit_book, principal_cache
from models_app.accounts import create_user
from models_app.auth import Credentials, authenticate
from models_app.errors import InvalidKey, KeyNotFound, KeyTooWide
from models_app.keys import KeyRules, create_key
from models_app.limit_rules import NewLimit
from models_app.models import ApiKey, AuditEntry, LimitRule, Membership, Team, User
from models_app.permissions import CredentialKind, Principal, Scope, TeamRole
from models_app.principals import principal_of_user
from ollamasite.errors import BadRequest, Forbidden
from tests.models_app.people_cast import HOME, opens


def session_of(user: User) -> Principal:
    return principal_of_user(User.objects.get(pk=user.pk), CredentialKind.SESSION)


def by_key(user: User, rules: KeyRules) -> Principal:
    return authenticate(Credentials(key=create_key(user, "own", rules)[1], address=HOME))


@pytest.fixture
def team(alice: User) -> Team:
    """Alice maintains it."""
    made = Team.objects.create(name="vision")
    Membership.objects.create(team=made, user=alice, role=TeamRole.MAINTAINER)
    return made


@pytest.fixture
def service(team: Team) -> User:
    account = create_user("nightly", None)
    account.service_of = team
    account.save()
    Membership.objects.create(team=team, user=account, role=TeamRole.MEMBER)
    return account


# ------------------------------------------------------------------ what a key may be


def test_key_says_who_and_what_it_is_for(alice: User, team: Team) -> None:
    rules = KeyRules(scopes=(Scope.USE,), models=("llama*",), team="VISION")
    principal = by_key(alice, rules)

    assert principal.username == "alice"
    assert principal.scopes == {Scope.USE}
    assert principal.model_patterns == ("llama*",)
    assert principal.team is not None
    assert principal.team.name == "vision"
    assert "own (" in principal.key_name


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (KeyRules(models=("not a name",)), "no pattern of model names"),
        (KeyRules(networks=("somewhere",)), "'somewhere' is no network"),
        (KeyRules(networks=("fe80::1%eth0/128",)), "is no network"),
        (KeyRules(networks=tuple(f"10.0.{n}.0/24" for n in range(51))), "at most 50 networks"),
        (KeyRules(team="nobodys"), "alice is in no team 'nobodys'"),
    ],
)
def test_rules_that_make_no_sense_are_refused(alice: User, rules: KeyRules, sentence: str) -> None:
    with pytest.raises(InvalidKey, match=sentence):
        create_key(alice, "k", rules)


@pytest.mark.parametrize("name", ["", " \t ", "x" * 101, "\0"])
def test_key_needs_a_name(alice: User, name: str) -> None:
    with pytest.raises(InvalidKey, match="needs a name"):
        create_key(alice, name)


def test_key_that_has_expired_before_it_is_made_is_refused(alice: User) -> None:
    rules = KeyRules(expires_at=timezone.now() - timedelta(seconds=1))

    with pytest.raises(InvalidKey, match="in the future"):
        keys.make_key(session_of(alice), "late", rules)


def test_number_of_keys_is_limited(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_KEYS", 1)
    key, _ = create_key(alice, "first")

    with pytest.raises(InvalidKey, match="at most 1 keys"):
        create_key(alice, "second")

    keys.revoke_key(key)
    assert create_key(alice, "second")


# ------------------------------------------------------------------ networks


def test_key_for_a_network_is_a_wrong_key_elsewhere(alice: User) -> None:
    _, secret = create_key(alice, "lab", KeyRules(networks=("192.0.2.0/24", "2001:db8::/32")))

    assert opens(secret, "192.0.2.200")
    assert opens(secret, "2001:db8::1")
    for elsewhere in ("198.51.100.1", "2001:db9::1", None):
        assert not opens(secret, elsewhere)


def test_key_in_a_foreign_network_is_recorded_once_in_a_while(alice: User) -> None:
    key, secret = create_key(alice, "lab", KeyRules(networks=("192.0.2.0/24",)))
    for _ in range(3):
        assert not opens(secret, "198.51.100.1")

    [entry] = AuditEntry.objects.filter(action="key.refuse")
    assert key.prefix in entry.subject
    assert entry.details == {"tried_from": "198.51.100.1"}


# ------------------------------------------------------------------ what ends a key


def test_leaving_the_keys_team_ends_the_key(alice: User, team: Team) -> None:
    _, of_team = create_key(alice, "of team", KeyRules(team="vision"))
    _, own = create_key(alice, "own")
    assert opens(of_team)

    Membership.objects.get(team=team, user=alice).delete()

    assert not opens(of_team)
    assert opens(own)


def test_deactivating_the_owner_ends_every_key(alice: User) -> None:
    _, secret = create_key(alice, "k")
    assert opens(secret)

    alice.is_active = False
    alice.save()

    assert not opens(secret)


def test_revoking_ends_a_key_that_has_just_been_used(alice: User) -> None:
    key, secret = create_key(alice, "k")
    assert opens(secret)

    keys.revoke(session_of(alice), key.prefix)

    assert not opens(secret)


def test_expiry_ends_a_key_that_has_just_been_used(
    alice: User, time_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(principal_cache, "KEPT_S", 1e9)
    _, secret = create_key(alice, "k", KeyRules(expires_at=timezone.now() + timedelta(seconds=60)))
    assert opens(secret)

    time_machine.move_to(timezone.now() + timedelta(seconds=61))

    assert not opens(secret)


# ------------------------------------------------------------------ who may


def test_limited_key_may_see_rotate_and_end_itself_and_nothing_else(alice: User) -> None:
    other, _ = create_key(alice, "other")
    own = by_key(alice, KeyRules(scopes=(Scope.READ,)))
    own_prefix = ApiKey.objects.get(name="own").prefix

    assert keys.find_key(own, own_prefix).name == "own"
    new = keys.rotate_key(own, own_prefix)
    assert new.record.rules.scopes == (Scope.READ,)
    keys.revoke(own, own_prefix)
    for act in (keys.find_key, keys.rotate_key, keys.revoke):
        with pytest.raises(KeyNotFound):
            act(own, other.prefix)
    with pytest.raises(Forbidden):
        keys.rename_key(own, own_prefix, "mine")
    with pytest.raises(Forbidden):
        keys.make_key(own, "more", KeyRules(scopes=(Scope.READ,)))


LATER = timedelta(days=400)
WIDER: list[tuple[KeyRules, KeyRules, str]] = [
    (KeyRules(scopes=(Scope.ADMIN,)), KeyRules(), "scopes"),
    (KeyRules(scopes=(Scope.ADMIN,)), KeyRules(scopes=(Scope.ADMIN, Scope.USE)), "scopes"),
    (KeyRules(networks=("192.0.2.0/24",)), KeyRules(), "networks"),
    (KeyRules(networks=("192.0.2.0/24",)), KeyRules(networks=("192.0.0.0/16",)), "networks"),
    (KeyRules(networks=("192.0.2.0/24",)), KeyRules(networks=("::/0",)), "networks"),
    (KeyRules(expires_at=timezone.now() + LATER), KeyRules(), "expire"),
    (
        KeyRules(expires_at=timezone.now() + LATER),
        KeyRules(expires_at=timezone.now() + 2 * LATER),
        "expire",
    ),
    (KeyRules(team="vision"), KeyRules(), "team"),
]


@pytest.mark.parametrize(("own", "asked", "what"), WIDER)
def test_key_makes_no_key_that_reaches_further(
    alice: User, team: Team, own: KeyRules, asked: KeyRules, what: str
) -> None:
    wide, _ = create_key(alice, "wide", asked)
    principal = by_key(alice, own)

    with pytest.raises(KeyTooWide, match=what):
        keys.make_key(principal, "more", asked)
    # Nor does it get hold of one that is there.
    with pytest.raises(KeyTooWide, match=what):
        keys.rotate_key(principal, wide.prefix)


def test_key_makes_keys_that_reach_as_far(alice: User, team: Team) -> None:
    ends = timezone.now() + LATER
    own = KeyRules(networks=("192.0.2.0/24",), expires_at=ends, team="vision")
    asked = KeyRules(
        scopes=(Scope.USE,), networks=("192.0.2.7",), expires_at=ends - LATER / 2, team="Vision"
    )

    assert keys.make_key(by_key(alice, own), "more", asked).record.state == "active"


def test_nobody_elses_keys_are_there(alice: User, mallory: User) -> None:
    key, _ = create_key(alice, "k")
    stranger = session_of(mallory)

    assert keys.list_keys(stranger, owner_name="alice") == []
    for act in (keys.find_key, keys.rotate_key, keys.revoke):
        with pytest.raises(KeyNotFound):
            act(stranger, key.prefix)
    with pytest.raises(KeyNotFound):
        keys.rename_key(stranger, key.prefix, "mine")
    with pytest.raises(InvalidKey, match="no service account"):
        keys.make_key(stranger, "k", KeyRules(), owner_name="alice")


def test_admin_sees_and_ends_everybodys_keys_and_makes_none(alice: User, admin: User) -> None:
    key, _ = create_key(alice, "k")
    principal = session_of(admin)

    assert [record.prefix for record in keys.list_keys(principal, owner_name="Alice")] == [
        key.prefix
    ]
    with pytest.raises(InvalidKey, match="no service account"):
        keys.make_key(principal, "k", KeyRules(), owner_name="alice")
    with pytest.raises(Forbidden):
        keys.rotate_key(principal, key.prefix)
    keys.revoke(principal, key.prefix)
    assert keys.find_key(principal, key.prefix).state == "revoked"


def test_maintainers_look_after_their_service_accounts_keys(alice: User, service: User) -> None:
    maintainer = session_of(alice)

    made = keys.make_key(maintainer, "cron", KeyRules(team="vision"), owner_name="Nightly")

    assert made.record.owner == "nightly"
    assert authenticate(Credentials(key=made.secret)).username == "nightly"
    assert [each.name for each in keys.list_keys(maintainer, owner_name="nightly")] == ["cron"]
    new = keys.rotate_key(maintainer, made.record.prefix, overlap=timedelta(0))
    keys.revoke(maintainer, new.record.prefix)


def test_members_do_not_look_after_service_accounts(bob: User, service: User, team: Team) -> None:
    Membership.objects.create(team=team, user=bob, role=TeamRole.MEMBER)
    key, _ = create_key(service, "cron")

    with pytest.raises(InvalidKey, match="no service account"):
        keys.make_key(session_of(bob), "k", KeyRules(), owner_name="nightly")
    with pytest.raises(KeyNotFound):
        keys.find_key(session_of(bob), key.prefix)


def test_closed_account_gets_no_keys(alice: User) -> None:
    principal = session_of(alice)
    User.objects.filter(pk=alice.pk).update(is_active=False)

    with pytest.raises(Forbidden):
        keys.make_key(principal, "k", KeyRules())


@pytest.mark.parametrize("is_deleted", [True, False])
def test_account_that_was_closed_a_moment_ago_gets_no_keys(alice: User, is_deleted: bool) -> None:
    rows = User.objects.filter(pk=alice.pk)
    if is_deleted:
        rows.delete()
    else:
        rows.update(is_active=False)

    with pytest.raises(Forbidden):
        create_key(alice, "k")
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("name", ["\0", "night\0ly"])
def test_name_with_a_nul_in_it_is_nobodys(alice: User, service: User, name: str) -> None:
    with pytest.raises(InvalidKey, match="no service account"):
        keys.make_key(session_of(alice), "k", KeyRules(), owner_name=name)
    with pytest.raises(InvalidKey, match="is in no team"):
        keys.make_key(session_of(alice), "k", KeyRules(team=name))


# ------------------------------------------------------------------ lists and records


def test_list_tells_states_and_asks_as_often_for_one_key_as_for_many(
    alice: User, team: Team, django_assert_num_queries: Any
) -> None:
    create_key(alice, "good", KeyRules(team="vision"))
    keys.revoke_key(create_key(alice, "a revoked one")[0])
    past = timezone.now() - timedelta(hours=1)
    create_key(alice, "an expired one", KeyRules(expires_at=past))
    principal = session_of(alice)

    with django_assert_num_queries(2):
        records = keys.list_keys(principal)

    assert [(record.name, record.state) for record in records] == [
        ("good", "active"),
        ("a revoked one", "revoked"),
        ("an expired one", "expired"),
    ]


def test_every_change_is_recorded_and_no_secret_is(alice: User) -> None:
    principal = session_of(alice)
    made = keys.make_key(principal, "laptop", KeyRules(scopes=(Scope.USE,)))
    keys.rename_key(principal, made.record.prefix, "desktop")
    new = keys.rotate_key(principal, made.record.prefix)
    keys.revoke(principal, new.record.prefix)

    entries = AuditEntry.objects.filter(action__startswith="key.").order_by("sequence")
    assert [entry.action for entry in entries] == [
        "key.create",
        "key.rename",
        "key.rotate",
        "key.revoke",
    ]
    assert {entry.actor_name for entry in entries} == {"alice"}
    written = str(list(AuditEntry.objects.values()))
    for secret in (made.secret, new.secret):
        assert secret.rpartition("-")[2] not in written
        assert secret not in repr(made) + repr(new)


def test_command_limits_a_key_to_models_networks_and_a_team(alice: User, team: Team) -> None:
    call_command(
        "create_key",
        *("alice", "--model", "llama*", "--model", "alice/*"),
        *("--network", "10.1.2.3/8", "--team", "vision"),
    )

    key = ApiKey.objects.get(owner=alice)
    assert (key.model_patterns, key.networks, key.team) == (
        ["llama*", "alice/*"],
        ["10.0.0.0/8"],
        team,
    )


def test_command_refuses_in_a_sentence(alice: User) -> None:
    with pytest.raises(CommandError, match="is no network"):
        call_command("create_key", "alice", "--network", "home")


def expire(key: ApiKey) -> None:
    key.expires_at = timezone.now()
    key.save()


def close_account(key: ApiKey) -> None:
    key.owner.is_active = False
    key.owner.save()


def leave_team(key: ApiKey) -> None:
    Membership.objects.get(team=key.team, user=key.owner).delete()


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda _: None, "active"),
        (keys.revoke_key, "revoked"),
        (expire, "expired"),
        (close_account, "ended"),
        (leave_team, "ended"),
    ],
)
def test_what_is_shown_of_a_key_is_what_holds_at_the_door(
    alice: User, admin: User, team: Team, end: Any, state: str
) -> None:
    key, secret = create_key(alice, "k", KeyRules(team="vision"))
    end(key)

    assert keys.find_key(session_of(admin), key.prefix).state == state
    assert opens(secret) is (state == "active")
    assert ApiKey.objects.usable().exists() is (state == "active")


# ------------------------------------------------------------------ limits of its use


ONCE = NewLimit(unit="requests", period="day", amount=1)


def test_key_may_have_limits_of_its_own(alice: User) -> None:
    made = keys.make_key(session_of(alice), "small", KeyRules(), limits=[ONCE])

    assert [(rule.key.prefix, str(rule)) for rule in LimitRule.objects.all() if rule.key] == [
        (made.record.prefix, f"1 requests per day for small ({made.record.prefix}…)")
    ]


def test_key_whose_limits_make_no_sense_is_not_made(alice: User) -> None:
    with pytest.raises(BadRequest):
        keys.make_key(
            session_of(alice), "small", KeyRules(), limits=[NewLimit(unit="words", amount=1)]
        )
    with pytest.raises(BadRequest):
        keys.make_key(session_of(alice), "small", KeyRules(), limits=[ONCE] * 8)

    assert not alice.api_keys.exists()


def test_limited_key_makes_no_other_key(alice: User) -> None:
    made = keys.make_key(session_of(alice), "small", KeyRules(), limits=[ONCE])
    own = replace(session_of(alice), kind=CredentialKind.KEY, key_id=_id_of(made.record.prefix))

    with pytest.raises(KeyTooWide, match="limits of its own"):
        keys.make_key(own, "more", KeyRules())


def test_rotated_keys_share_their_limits(alice: User) -> None:
    first = keys.make_key(session_of(alice), "small", KeyRules(), limits=[ONCE]).record.prefix
    second = keys.rotate_key(session_of(alice), first).record.prefix
    third = keys.rotate_key(session_of(alice), second).record.prefix
    book = limit_book.read_rules()

    counted = {
        limit.subject
        for prefix in (first, second, third)
        for limit in book.limits_of(replace(session_of(alice), key_id=_id_of(prefix)))
    }
    assert counted == {f"key:{_id_of(first)}"}


def _id_of(prefix: str) -> int:
    return ApiKey.objects.get(prefix=prefix).pk

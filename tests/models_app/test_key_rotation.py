"""Rotated keys: how long both are good, and that a line of them ends together."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from models_app import keys
from models_app.auth import Credentials, authenticate
from models_app.errors import InvalidKey
from models_app.keys import KeyRules, create_key
from models_app.models import ApiKey, User
from models_app.permissions import Scope
from tests.models_app.people_cast import opens, seen_as


def test_both_keys_are_good_until_the_overlap_is_over(alice: User, time_machine: Any) -> None:
    rules = KeyRules(scopes=(Scope.USE,), models=("llama*",), networks=("192.0.2.0/24",))
    key, old = create_key(alice, "k", rules)

    new = keys.rotate_key(seen_as(alice), key.prefix, overlap=timedelta(hours=1))

    assert new.record.rules == rules
    assert (new.record.name, new.record.state) == ("k", "active")
    assert keys.find_key(seen_as(alice), key.prefix).state == "rotated"
    assert keys.find_key(seen_as(alice), key.prefix).successor == new.record.prefix
    assert opens(old)
    assert opens(new.secret)
    time_machine.move_to(timezone.now() + timedelta(hours=1, seconds=1))
    assert not opens(old)
    assert opens(new.secret)


def test_rotation_without_overlap_ends_the_old_key_at_once(alice: User) -> None:
    key, old = create_key(alice, "k")
    assert opens(old)

    new = keys.rotate_key(seen_as(alice), key.prefix, overlap=timedelta(0))

    assert (opens(old), opens(new.secret)) == (False, True)


def test_rotation_makes_no_key_live_longer(alice: User) -> None:
    ends = timezone.now() + timedelta(minutes=5)
    key, _ = create_key(alice, "k", KeyRules(expires_at=ends))

    new = keys.rotate_key(seen_as(alice), key.prefix)

    assert new.record.rules.expires_at == ends
    assert ApiKey.objects.get(pk=key.pk).expires_at == ends


@pytest.mark.parametrize("is_again", [True, False])
def test_what_was_rotated_or_has_ended_is_not_rotated(alice: User, is_again: bool) -> None:
    key, _ = create_key(alice, "k")
    if is_again:
        keys.rotate_key(seen_as(alice), key.prefix)
    else:
        keys.revoke_key(key)

    with pytest.raises(InvalidKey, match="rotated already" if is_again else "has ended"):
        keys.rotate_key(seen_as(alice), key.prefix)


@pytest.mark.parametrize("hours", [-1, 24 * 30 + 1])
def test_overlap_has_bounds(alice: User, hours: int) -> None:
    key, _ = create_key(alice, "k")

    with pytest.raises(InvalidKey, match="between 0 and 30 days"):
        keys.rotate_key(seen_as(alice), key.prefix, overlap=timedelta(hours=hours))


def test_rotated_keys_count_while_both_are_good(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAX_KEYS", 2)
    _, secret = create_key(alice, "k", KeyRules(scopes=(Scope.READ,)))
    own, first = authenticate(Credentials(key=secret)), prefix_of(secret)
    second = keys.rotate_key(own, first)

    with pytest.raises(InvalidKey, match="at most 2 keys"):
        keys.rotate_key(seen_as(alice), second.record.prefix)
    keys.rotate_key(seen_as(alice), second.record.prefix, overlap=timedelta(0))


@pytest.fixture
def line(alice: User) -> list[str]:
    """Three keys' secrets: whoever had the first one has had it rotate itself, and the second."""
    _, first = create_key(alice, "leaked", KeyRules(scopes=(Scope.READ,)))
    found = [first]
    for overlap in (timedelta(days=30), timedelta(0)):
        by = authenticate(Credentials(key=found[-1]))
        found.append(keys.rotate_key(by, prefix_of(found[-1]), overlap=overlap).secret)
    return found


def prefix_of(secret: str) -> str:
    return secret.split("-")[1]


@pytest.mark.parametrize("place", [0, 1])
def test_revoking_a_key_ends_what_it_was_rotated_to(
    alice: User, line: list[str], place: int
) -> None:
    _, other = create_key(alice, "other")
    assert [opens(secret) for secret in line] == [True, False, True]

    keys.revoke(seen_as(alice), prefix_of(line[place]))

    assert [opens(secret) for secret in line] == [place > 0, False, False]
    assert opens(other)


def test_successors_stay_where_that_is_asked_for(alice: User, line: list[str]) -> None:
    keys.revoke(seen_as(alice), prefix_of(line[0]), keeps_successors=True)

    assert [opens(secret) for secret in line] == [False, False, True]


def test_limited_key_ends_no_successor(line: list[str]) -> None:
    keys.revoke(authenticate(Credentials(key=line[0])), prefix_of(line[0]))

    assert [opens(secret) for secret in line] == [False, False, True]

"""Accounts and keys, and the commands that make them."""

import io
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django.fixtures import Settings

from models_app import key_uses, principal_cache
from models_app.accounts import create_first_admin, create_user
from models_app.auth import Credentials, authenticate
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import ApiKey, User
from models_app.permissions import Scope
from ollamasite.errors import Unauthenticated

PASSWORD = "a long enough password"


@pytest.mark.parametrize(
    "name", ["", "library", "Library", "a/b", "a:b", "-a", "a.b", "ünï", "a" * 81, "v1"]
)
def test_a_name_that_cannot_be_a_namespace_is_refused(db: None, name: str) -> None:
    with pytest.raises(ValidationError, match="cannot be a user name"):
        create_user(name, PASSWORD)


def test_a_name_in_another_spelling_is_taken(alice: User) -> None:
    with pytest.raises(ValidationError, match="already a user"):
        create_user("ALICE", PASSWORD)


def test_a_keys_secret_is_not_in_the_database(alice: User) -> None:
    key, secret = create_key(alice, "laptop")
    row = ApiKey.objects.values().get(pk=key.pk)
    assert secret not in str(row)
    assert secret.rpartition("-")[2] not in str(row)
    assert secret.startswith(f"osk-{key.prefix}-")


def test_the_secret_opens_the_door_and_a_changed_one_does_not(alice: User) -> None:
    key, secret = create_key(alice, "laptop", KeyRules(scopes=(Scope.READ,)))
    principal = authenticate(Credentials(key=secret))
    assert principal.user_id == alice.pk
    assert principal.key_id == key.pk
    assert principal.may(Scope.READ)
    assert not principal.may(Scope.USE)
    changed = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    for wrong in (changed, key.prefix, "", "osk-", "' OR 1=1 --", "\x00", "é" * 1000):
        with pytest.raises(Unauthenticated):
            authenticate(Credentials(key=wrong))


def test_a_key_from_another_pepper_is_worthless(alice: User, settings: Settings) -> None:
    _, secret = create_key(alice, "laptop")
    settings.KEY_PEPPER = "another"
    with pytest.raises(Unauthenticated):
        authenticate(Credentials(key=secret))


def test_revoked_expired_and_ownerless_keys_are_refused(alice: User) -> None:
    revoked, revoked_secret = create_key(alice, "revoked")
    revoke_key(revoked)
    past = timezone.now() - timedelta(seconds=1)
    _, expired_secret = create_key(alice, "expired", KeyRules(expires_at=past))
    for secret in (revoked_secret, expired_secret):
        with pytest.raises(Unauthenticated):
            authenticate(Credentials(key=secret))
    _, good = create_key(alice, "good")
    assert authenticate(Credentials(key=good)).username == "alice"
    User.objects.filter(pk=alice.pk).update(is_active=False)
    principal_cache.forget_all()
    with pytest.raises(Unauthenticated):
        authenticate(Credentials(key=good))


def test_revoking_twice_keeps_the_first_time(alice: User) -> None:
    key, _ = create_key(alice, "k")
    revoke_key(key)
    first = ApiKey.objects.get(pk=key.pk).revoked_at
    revoke_key(key)
    assert ApiKey.objects.get(pk=key.pk).revoked_at == first


def test_use_is_noted_at_most_once_a_minute(alice: User) -> None:
    key, secret = create_key(alice, "k")
    authenticate(Credentials(key=secret))
    key_uses.write()
    noted = ApiKey.objects.get(pk=key.pk).last_used_at
    assert noted is not None
    authenticate(Credentials(key=secret))
    key_uses.write()
    assert ApiKey.objects.get(pk=key.pk).last_used_at == noted


def test_the_first_admin_is_created_once(db: None) -> None:
    first = create_first_admin()
    assert first is not None
    admin = User.objects.get(username=first.username)
    assert admin.is_superuser
    assert admin.check_password(first.password)
    assert authenticate(Credentials(key=first.api_key)).is_admin
    assert create_first_admin() is None


def test_create_user_reads_the_password_from_standard_input(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    call_command("create_user", "carol", "--admin", "--password-stdin", stderr=io.StringIO())
    carol = User.objects.get(username="carol")
    assert carol.is_superuser
    assert carol.check_password("correct horse battery")


def test_create_user_refuses_a_weak_password(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    with pytest.raises(CommandError, match="too short"):
        call_command("create_user", "carol", "--password-stdin")


def test_create_user_without_a_terminal_says_what_to_do(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(CommandError, match="use --password-stdin"):
        call_command("create_user", "carol")


def test_create_key_prints_the_secret_alone(alice: User) -> None:
    out = io.StringIO()
    call_command(
        "create_key", "alice", "--name", "ci", "--scope", "use", "--expires", "30d", stdout=out
    )
    secret = out.getvalue().removesuffix("\n")
    assert authenticate(Credentials(key=secret)).scopes == {Scope.USE}
    key = ApiKey.objects.get(name="ci")
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - timezone.now() <= timedelta(days=30)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nobody"], "no user 'nobody'"),
        (["alice", "--expires", "soon"], "write a duration"),
        (["alice", "--expires", "-1"], "write a duration"),
        (["alice", "--scope", "everything"], "invalid choice"),
    ],
)
def test_create_key_refuses_in_a_sentence(alice: User, arguments: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        call_command("create_key", *arguments)

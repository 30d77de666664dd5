"""Keys that have just been looked up, and what ends what is known of them."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from models_app import key_uses, principal_cache
from models_app.keys import KeyRules, create_key
from models_app.models import ApiKey, Membership, Team, User
from models_app.permissions import TeamRole
from models_app.principals import holder_of_prefix
from tests.fakes.http import AsgiClient


@pytest.fixture
def secret(alice: User) -> str:
    return create_key(alice, "k")[1]


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (principal_cache, key_uses):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principal_cache, "KEPT_S", 1e9)


def test_key_is_looked_up_once(
    secret: str, long_memory: None, django_assert_num_queries: Any
) -> None:
    assert principal_cache.find(secret) is None
    with django_assert_num_queries(1):
        looked_up = principal_cache.look_up(secret)
    with django_assert_num_queries(0):
        assert principal_cache.find(secret) is looked_up
    assert looked_up is not None


def test_key_is_believed_for_half_a_second(secret: str, clock: Clock) -> None:
    known = principal_cache.look_up(secret)
    clock.now_s += 0.49
    assert principal_cache.find(secret) is known
    clock.now_s += 0.02
    assert principal_cache.find(secret) is None


def test_nothing_is_kept_of_wrong_keys(secret: str, long_memory: None) -> None:
    wrong = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    for text in (wrong, secret.replace("osk-", "osk-f", 1), "", "x" * 10_000, "\0"):
        assert principal_cache.look_up(text) is None
        assert principal_cache.find(text) is None


def test_memory_is_bounded(alice: User, long_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principal_cache, "_MOST", 2)
    secrets = [create_key(alice, "k")[1] for _ in range(3)]
    for secret in secrets:
        principal_cache.look_up(secret)

    assert [principal_cache.find(secret) is not None for secret in secrets] == [False, True, True]


def change_key(key: ApiKey) -> None:
    key.scopes = ["read"]
    key.save()


def change_owner(key: ApiKey) -> None:
    key.owner.is_superuser = True
    key.owner.save()


def join(key: ApiKey) -> None:
    team = Team.objects.create(name="vision")
    Membership.objects.create(team=team, user=key.owner, role=TeamRole.OWNER)


@pytest.mark.parametrize("change", [change_key, change_owner, join, ApiKey.delete, User.delete])
def test_own_changes_are_seen_at_once(alice: User, long_memory: None, change: Any) -> None:
    key, secret = create_key(alice, "k")
    before = principal_cache.look_up(secret)
    assert before is not None
    change(alice if change is User.delete else key)

    assert principal_cache.find(secret) is None
    after = principal_cache.look_up(secret)
    assert after is None or after.principal != before.principal


def test_what_is_looked_up_while_it_changes_is_as_old_as_its_question(
    secret: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = holder_of_prefix

    def slow(prefix: str) -> Any:
        clock.now_s += 0.4  # the database takes its time
        return ask(prefix)

    monkeypatch.setattr("models_app.principal_cache.holder_of_prefix", slow)
    assert principal_cache.look_up(secret) is not None
    clock.now_s += 0.2

    assert principal_cache.find(secret) is None


async def test_known_key_is_admitted_without_a_query(
    transactional_db: None, alice: User, long_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = await sync_to_async(create_key)(alice, "k")
    api = AsgiClient({"x-api-key": secret})
    assert (await api.get("/api/version")).status == 200

    monkeypatch.setattr(principal_cache, "look_up", None)
    assert (await api.get("/api/version")).status == 200


def test_use_is_written_with_its_address_and_once_a_minute(
    alice: User, clock: Clock, django_assert_num_queries: Any
) -> None:
    key, _ = create_key(alice, "k")
    key_uses.note(key.pk, "192.0.2.7", None)
    key_uses.write()
    key.refresh_from_db()
    assert (key.last_used_at is not None, key.last_used_address) == (True, "192.0.2.7")

    clock.now_s += 30
    key_uses.note(key.pk, "192.0.2.8", None)
    with django_assert_num_queries(0):
        key_uses.write()

    clock.now_s += 31
    key_uses.note(key.pk, "192.0.2.8", None)
    key_uses.write()
    key.refresh_from_db()
    assert key.last_used_address == "192.0.2.8"


def test_uses_of_many_keys_are_written_together_with_their_own_addresses(
    alice: User, clock: Clock, django_assert_max_num_queries: Any
) -> None:
    made = ApiKey.objects.bulk_create(
        ApiKey(owner=alice, name=f"k{number}", prefix=f"p{number}", secret_hash=str(number))
        for number in range(600)
    )
    addresses = {key.pk: f"192.0.2.{number % 2}" for number, key in enumerate(made)}
    for pk, address in addresses.items():
        key_uses.note(pk, address, None)

    with django_assert_max_num_queries(4):  # two addresses, in two seconds where one begins amid
        key_uses.write()
    assert dict(ApiKey.objects.values_list("pk", "last_used_address")) == addresses
    assert not ApiKey.objects.filter(last_used_at=None).exists()


def test_use_that_another_process_has_written_is_not_written_again(
    alice: User, django_assert_num_queries: Any
) -> None:
    key, _ = create_key(alice, "k", KeyRules())
    key_uses.note(key.pk, None, timezone.now())

    with django_assert_num_queries(0):
        key_uses.write()


async def test_use_over_http_is_written_a_little_later(
    transactional_db: None, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_uses, "_LATER_S", 0.01)
    key, secret = await sync_to_async(create_key)(alice, "k")
    await AsgiClient({"x-api-key": secret}).get("/api/version")

    async with asyncio.timeout(60):
        while (await ApiKey.objects.aget(pk=key.pk)).last_used_at is None:
            await asyncio.sleep(0.01)
    assert (await ApiKey.objects.aget(pk=key.pk)).last_used_address == "127.0.0.1"

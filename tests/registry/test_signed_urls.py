"""A signature opens one file of one repository, for one credential, for a time."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from models_app import principal_cache
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import ApiKey, User
from models_app.permissions import Principal
from models_app.principals import holder_of_key
from registry import signed_urls
from registry.digest import Digest

pytestmark = pytest.mark.django_db

NAME = "alice/model"
FILE = Digest.of(b"file")
OTHER = Digest.of(b"other")
HERE = "192.0.2.7"


@pytest.fixture
def key(alice: User) -> ApiKey:
    return create_key(alice, "laptop", KeyRules(networks=("192.0.2.0/24",)))[0]


@pytest.fixture
def signature(key: ApiKey) -> str:
    holder = holder_of_key(key.pk)
    assert holder is not None
    return signed_urls.sign(holder.principal, NAME, FILE)


def reader(
    signature: str, name: str = NAME, digest: Digest = FILE, address: str | None = HERE
) -> Principal | None:
    return signed_urls.reader_of(signature, name, digest, address)


def test_signature_opens_what_it_was_made_for_and_nothing_else(
    signature: str, alice: User, key: ApiKey
) -> None:
    found = reader(signature)

    assert found is not None
    assert (found.user_id, found.key_id) == (alice.pk, key.pk)
    assert set(found.granted or ()) == {f"repository:{NAME}:pull"}
    assert reader(signature, "Alice/MODEL") is not None
    assert reader(signature, "alice/other") is None
    assert reader(signature, digest=OTHER) is None


@pytest.mark.parametrize("part", [0, 1, 2])
def test_nothing_in_a_signature_can_be_changed(signature: str, part: int) -> None:
    parts = signature.split(".")
    parts[part] = ("1" if parts[part][0] != "1" else "2") + parts[part][1:]

    assert reader(".".join(parts)) is None


@pytest.mark.parametrize("text", ["", "x", "..", "1.2.3", ".1.2", "\u0661.2." + "0" * 43, "\0"])
def test_nonsense_opens_nothing(text: str) -> None:
    assert reader(text) is None


def test_signature_expires(key: ApiKey) -> None:
    with time_machine.travel("2026-01-01T12:00:00Z", tick=False) as clock:
        holder = holder_of_key(key.pk)
        assert holder is not None
        signature = signed_urls.sign(holder.principal, NAME, FILE)
        clock.shift(timedelta(seconds=signed_urls.LIFETIME_S))
        before = reader(signature)
        clock.shift(timedelta(seconds=1))

        assert before is not None
        assert reader(signature) is None


def test_signature_ends_with_its_key(signature: str, key: ApiKey) -> None:
    assert reader(signature) is not None
    revoke_key(key)

    assert reader(signature) is None


def test_signature_ends_when_its_key_expires(signature: str, key: ApiKey) -> None:
    key.expires_at = timezone.now() + timedelta(minutes=1)
    key.save()
    assert reader(signature) is not None

    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert reader(signature) is None


def test_signature_opens_nothing_outside_of_its_keys_networks(signature: str) -> None:
    assert reader(signature, address="198.51.100.1") is None
    assert reader(signature, address=None) is None


def test_many_parts_of_a_file_cost_one_look_at_the_key(
    signature: str, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(principal_cache, "KEPT_S", 1e9)
    principal_cache.forget_all()
    with django_assert_num_queries(1):
        for _ in range(20):
            assert reader(signature) is not None

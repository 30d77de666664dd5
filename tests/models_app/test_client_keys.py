"""Registering ed25519 public keys: what is one, what is refused in which words, the command."""

import io
import sys
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from models_app.client_keys import add_client_key, client_keys_of, remove_client_key
from models_app.models import ClientKey, User
from tests.fakes.ollama_key import OllamaKey

pytestmark = pytest.mark.django_db
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 somebody"


@pytest.fixture
def key() -> OllamaKey:
    return OllamaKey()


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("{line}", "ollama"),
        ("{line} ada@laptop", "ada@laptop"),
        ("  {line}   the key of   Ada \n", "the key of Ada"),
        ("{blob}", "ollama"),
        ("\n{blob}\n", "ollama"),
    ],
)
def test_line_or_its_middle_word_is_a_key(
    alice: User, key: OllamaKey, form: str, name: str
) -> None:
    added = add_client_key(alice, form.format(line=key.line, blob=key.blob))

    assert (added.public_key, added.name) == (key.blob, name)


def test_name_that_is_given_wins(alice: User, key: OllamaKey) -> None:
    assert add_client_key(alice, f"{key.line} comment", " my\tlaptop ").name == "my laptop"


@pytest.mark.parametrize(
    "form",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 nonsense",
        RSA,
        "{line}\n{line}",
        "x {line}",
        "{blob}{blob}",
        "{short}",
        "ssh-rsa {blob}",
        "ssh-ed25519 {blob}=",
        "ssh-ed25519 \u2603",
        "\x00",
    ],
)
def test_anything_else_is_refused_with_a_sentence(alice: User, key: OllamaKey, form: str) -> None:
    text = form.format(line=key.line, blob=key.blob, short=key.blob[:-4])

    with pytest.raises(ValidationError, match="This is no ed25519 public key"):
        add_client_key(alice, text)


def test_private_key_is_refused_in_words_of_its_own(alice: User) -> None:
    with pytest.raises(ValidationError, match="private key, which must never leave"):
        add_client_key(alice, "-----BEGIN OPENSSH PRIVATE KEY-----\nabc")


def test_refusal_of_a_registered_key_does_not_tell_whose_it_is(
    alice: User, bob: User, key: OllamaKey
) -> None:
    add_client_key(alice, key.line)
    told = set()
    for user in (alice, bob):
        with pytest.raises(ValidationError) as refused:
            add_client_key(user, key.blob, "again")
        told.add(tuple(refused.value.messages))

    assert told == {("This key is registered already. Each key stands for one user.",)}
    assert ClientKey.objects.get().owner == alice


def test_user_has_no_more_than_fifty_keys(alice: User, bob: User, key: OllamaKey) -> None:
    ClientKey.objects.bulk_create(
        ClientKey(owner=alice, name="x", public_key="x", fingerprint=str(n)) for n in range(50)
    )

    with pytest.raises(ValidationError, match="at most 50 keys"):
        add_client_key(alice, key.line)
    assert add_client_key(bob, key.line).owner == bob


def test_keys_are_listed_by_name_and_each_user_has_their_own(alice: User, bob: User) -> None:
    for user, name in ((alice, "b"), (bob, "x"), (alice, "a")):
        add_client_key(user, OllamaKey().line, name)

    assert [key.name for key in client_keys_of(alice.pk)] == ["a", "b"]


def test_only_the_owner_removes_a_key(alice: User, bob: User, key: OllamaKey) -> None:
    added = add_client_key(alice, key.line)

    assert not remove_client_key(bob.pk, added.pk)
    assert remove_client_key(alice.pk, added.pk)
    assert not remove_client_key(alice.pk, added.pk)
    assert add_client_key(bob, key.line).owner == bob


# ---------------------------------------------------------------- the command


def told(*arguments: str) -> str:
    out = StringIO()
    call_command("add_client_key", *arguments, stdout=out)
    return out.getvalue()


def test_command_takes_the_line_as_it_is(alice: User, key: OllamaKey) -> None:
    assert told("Alice", *key.line.split(), "ada", "at", "work") == (
        "alice is known by the key ada at work\n"
    )
    assert ClientKey.objects.get().public_key == key.blob


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "between", "last"])
def test_command_takes_the_name_at_any_place(alice: User, key: OllamaKey, place: int) -> None:
    words = ["alice", key.line]
    words[place:place] = ["--name", "laptop"]

    assert told(*words) == "alice is known by the key laptop\n"


def test_command_reads_standard_input(
    alice: User, key: OllamaKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{key.line}\n"))

    assert told("alice", "-") == "alice is known by the key ollama\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody", "x"], "There is no user 'nobody'"),
        (["alice"], "arguments are required: KEY"),
        (["alice", "x"], "This is no ed25519 public key"),
    ],
)
def test_command_says_what_is_wrong(alice: User, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        told(*arguments)

"""Pushing to a registry that is not ours: Debian's docker-registry, really started."""

from collections.abc import Callable
from typing import Any

import pytest

from models_app.models import User
from registry import library, manifests, sealing
from registry.errors import RegistryFailed
from registry.progress import Progress
from registry.push import PushArguments, push_model
from registry.remote import upload
from registry.remote.client import RetryPolicy
from tests.conftest import MakeModel, principal_for
from tests.fakes.tcp_front import tcp_front
from tests.processes.docker_registry import (
    PASSWORD,
    USERNAME,
    DockerRegistry,
    open_registry,
    password_registry,
    token_registry,
)

__all__ = ["open_registry", "password_registry", "token_registry"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.beside]
POLICY = RetryPolicy(base_s=0.05, stall_s=60.0)


@pytest.fixture
def push(make_model: MakeModel, alice: User, settings: Any) -> Callable[..., list[Progress]]:
    """Push Alice's model to a host and return the events."""
    make_model("tiny", alice, system="Be brief.")

    def do(host: str, *, password: str = "") -> list[Progress]:
        settings.ALLOWED_REGISTRIES = [f"http://{host}"]
        principal = principal_for(alice)
        name = f"{host}/lab/tiny:v1"
        library.copy_model(principal, "tiny", name)
        username = USERNAME if password else ""
        arguments = PushArguments(
            name=name, username=username, sealed_password=sealing.seal(password)
        )
        told: list[Progress] = []
        push_model(principal, arguments, told.append, policy=POLICY)
        return told

    return do


def has_everything(registry: DockerRegistry, alice: User, host: str) -> bool:
    """Whether the registry has the manifest's files, in their true size."""
    stored = library.stored_manifest(principal_for(alice), f"{host}/lab/tiny:v1")
    manifest = manifests.parse_manifest(stored.body)
    return all(registry.has_blob(entry.blob.hex) for entry in (*manifest.layers, manifest.config))


def test_open_registry_gets_the_very_bytes(
    open_registry: DockerRegistry, push: Callable[..., list[Progress]], alice: User
) -> None:
    assert push(open_registry.host)[-1] == Progress("success")

    stored = library.stored_manifest(principal_for(alice), f"{open_registry.host}/lab/tiny:v1")
    answer = open_registry.get("/v2/lab/tiny/manifests/v1", accept=manifests.MANIFEST_TYPE)
    assert answer[2] == stored.body
    assert has_everything(open_registry, alice, open_registry.host)


def test_file_in_parts_arrives_whole(
    open_registry: DockerRegistry,
    push: Callable[..., list[Progress]],
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "SMALL_BYTES", 0)
    monkeypatch.setattr(upload, "PART_BYTES", 10_001)

    assert push(open_registry.host)[-1] == Progress("success")
    assert has_everything(open_registry, alice, open_registry.host)


def test_second_push_sends_no_file(
    open_registry: DockerRegistry, push: Callable[..., list[Progress]]
) -> None:
    push(open_registry.host)
    told = push(open_registry.host)

    files = [event for event in told if event.digest]
    assert all(event.completed == event.total for event in files)


def test_cut_in_the_middle_of_a_part_begins_the_file_anew(
    open_registry: DockerRegistry,
    push: Callable[..., list[Progress]],
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "SMALL_BYTES", 0)
    with tcp_front(open_registry.host) as front:
        front.cuts_at = [30_000]
        told = push(front.host)

    assert front.cuts == 1
    assert told[-1] == Progress("success")
    assert has_everything(open_registry, alice, front.host)


def test_password_opens_a_registry_that_asks_for_one(
    password_registry: DockerRegistry, push: Callable[..., list[Progress]], alice: User
) -> None:
    assert push(password_registry.host, password=PASSWORD)[-1] == Progress("success")
    assert has_everything(password_registry, alice, password_registry.host)


@pytest.mark.parametrize("password", ["", "wrong"])
def test_registry_that_asks_for_a_password_is_closed_without(
    password_registry: DockerRegistry, push: Callable[..., list[Progress]], password: str
) -> None:
    with pytest.raises(RegistryFailed, match=r"login|unauthorized"):
        push(password_registry.host, password=password)


def test_token_is_asked_for_and_opens(
    token_registry: DockerRegistry, push: Callable[..., list[Progress]], alice: User
) -> None:
    assert push(token_registry.host, password=PASSWORD)[-1] == Progress("success")
    assert has_everything(token_registry, alice, token_registry.host)
    tokens = [line for line in token_registry.asked if line.startswith("GET /token")]
    assert len(tokens) == 1, "one for reading and writing"


def test_wrong_password_gets_no_token(
    token_registry: DockerRegistry, push: Callable[..., list[Progress]]
) -> None:
    with pytest.raises(RegistryFailed, match="unauthorized"):
        push(token_registry.host, password="wrong")

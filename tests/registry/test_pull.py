"""Models of other registries: what is told on the way, who gets what, and what is refused."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from models_app import selectors
from models_app.errors import InvalidModelName, TagIsImmutable
from models_app.models import Namespace, Upload, User
from models_app.names import ModelName
from models_app.permissions import Verb
from registry import manifests, sealing
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import (
    GgufError,
    InvalidDigest,
    InvalidManifest,
    InvalidTemplate,
    JobCancelled,
    NotYourModel,
    QuotaFull,
    RegistryFailed,
    RegistryNotAllowed,
)
from registry.library import resolve
from registry.progress import Progress
from registry.pull import PullArguments, pull_model
from registry.remote.client import RetryPolicy
from tests.conftest import principal_for
from tests.fakes.registry import Answer, Asked, FakeRegistry, fake_registry

QUICK = RetryPolicy(tries=3, base_s=0.001, stall_s=0.5)


@pytest.fixture
def remote(settings: Any, tiny_gguf: Path) -> Iterator[FakeRegistry]:
    """A registry that this site may ask, with the model ns/tiny."""
    with fake_registry() as registry:
        settings.ALLOWED_REGISTRIES = [f"http://{registry.host}"]
        settings.DEFAULT_REGISTRY = f"http://{registry.host}"
        add_model(registry, tiny_gguf.read_bytes())
        yield registry


def add_model(registry: FakeRegistry, gguf: bytes, *, template: bytes = b"{{ .Prompt }}") -> Any:
    layers = [(manifests.MODEL, gguf), (manifests.TEMPLATE, template)]
    return registry.add_manifest("ns/tiny", layers, config=b'{"model_format":"gguf"}')


class Pulling:
    """Pulls for a user, and keeps what is told."""

    def __init__(self, user: User, registry: FakeRegistry) -> None:
        self.principal = principal_for(user)
        self.registry = registry
        self.told: list[Progress] = []

    def pull(self, name: str = "", **more: Any) -> ModelName:
        arguments = PullArguments(name=name or f"{self.registry.host}/ns/tiny", **more)
        return pull_model(self.principal, arguments, self.told.append, policy=QUICK)

    @property
    def statuses(self) -> list[str]:
        """What has been told, each status once in a row."""
        found = [event.status for event in self.told]
        return [one for one, before in zip(found, ["", *found], strict=False) if one != before]


@pytest.fixture
def pulling(alice: User, remote: FakeRegistry) -> Pulling:
    return Pulling(alice, remote)


def layer_status(registry: FakeRegistry, place: int) -> str:
    manifest = json.loads(registry.manifests["/v2/ns/tiny/manifests/latest"])
    entry = [*manifest["layers"], manifest["config"]][place]
    return f"pulling {entry['digest'][7:19]}"


def files_of(store: BlobStore) -> set[str]:
    return {path.name for path in store.root.iterdir()} if store.root.exists() else set()


# ---------------------------------------------------------------- a pull


def test_pull_tells_what_ollama_tells(pulling: Pulling, remote: FakeRegistry) -> None:
    pulling.pull()

    assert pulling.statuses == [
        "pulling manifest",
        layer_status(remote, 0),
        layer_status(remote, 1),
        layer_status(remote, 2),
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]


def test_every_file_ends_at_all_of_its_bytes(pulling: Pulling, remote: FakeRegistry) -> None:
    pulling.pull()

    last = {event.digest: event for event in pulling.told if event.digest}
    assert set(last) == set(remote.blobs)
    assert all(
        event.completed == event.total == len(remote.blobs[digest])
        for digest, event in last.items()
    )


def test_pulled_model_can_be_used_by_who_pulled_it(
    pulling: Pulling, remote: FakeRegistry, bob: User
) -> None:
    name = pulling.pull()

    model = resolve(pulling.principal, f"{remote.host}/ns/tiny", Verb.USE)
    assert (name.host, name.namespace, name.model) == (remote.host, "ns", "tiny")
    assert model.template == "{{ .Prompt }}"
    assert model.digest == Digest.of(remote.manifests["/v2/ns/tiny/manifests/latest"]).hex
    assert selectors.find_tag(principal_for(bob), name) is None


def test_manifest_is_kept_byte_for_byte(pulling: Pulling, remote: FakeRegistry) -> None:
    body = remote.manifests["/v2/ns/tiny/manifests/latest"]
    odd = body.replace(b'"schemaVersion": 2', b'"unknown": [1],   "schemaVersion": 2')
    remote.manifests["/v2/ns/tiny/manifests/latest"] = odd

    record = selectors.find_tag(pulling.principal, pulling.pull())

    assert record is not None
    assert record.manifest == odd


def test_name_without_a_host_means_the_default_registry(pulling: Pulling) -> None:
    assert pulling.pull("ns/tiny:latest").short == "ns/tiny:latest"


def test_bare_name_goes_to_the_own_namespace(pulling: Pulling, remote: FakeRegistry) -> None:
    body = remote.manifests["/v2/ns/tiny/manifests/latest"]
    remote.manifests["/v2/library/tiny/manifests/latest"] = body
    remote.scripts.append(
        lambda asked: (
            Answer(headers={"Location": "x"}, body=remote.blobs[asked.path[-71:]])
            if "/library/tiny/blobs/" in asked.path
            else None
        )
    )
    assert pulling.pull("tiny").short == "alice/tiny:latest"


def test_bare_name_of_an_admin_goes_to_the_library(remote: FakeRegistry, admin: User) -> None:
    remote.manifests["/v2/library/tiny/manifests/latest"] = remote.manifests[
        "/v2/ns/tiny/manifests/latest"
    ]
    assert Pulling(admin, remote).pull("tiny").short == "tiny:latest"


def test_second_pull_asks_for_no_file(pulling: Pulling, remote: FakeRegistry) -> None:
    pulling.pull()
    remote.asked.clear()
    pulling.told.clear()

    pulling.pull()

    assert [asked.method for asked in remote.asked] == ["GET"]
    assert len([event for event in pulling.told if event.digest]) == 3
    assert "removing unused layers" not in pulling.statuses


def test_new_version_removes_what_the_old_one_alone_had(
    pulling: Pulling, remote: FakeRegistry, tiny_gguf: Path, store: BlobStore
) -> None:
    pulling.pull()
    old = Digest.of(b"{{ .Prompt }}")
    add_model(remote, tiny_gguf.read_bytes(), template=b"{{ .System }}{{ .Prompt }}")

    pulling.pull()

    assert pulling.statuses[-2:] == ["removing unused layers", "success"]
    assert not store.exists(old)


def test_stranger_shows_that_the_registry_gives_them_the_file(
    pulling: Pulling, remote: FakeRegistry, bob: User
) -> None:
    pulling.pull()
    remote.asked.clear()

    Pulling(bob, remote).pull()

    assert len([asked for asked in remote.asked if asked.method == "GET"]) == 4


def test_no_upload_is_left_after_a_pull(pulling: Pulling) -> None:
    pulling.pull()

    assert not Upload.objects.exists()


# ---------------------------------------------------------------- what goes wrong


def test_model_that_is_not_there_is_told_in_ollamas_words(
    pulling: Pulling, remote: FakeRegistry
) -> None:
    with pytest.raises(RegistryFailed) as caught:
        pulling.pull(f"{remote.host}/ns/none")

    assert caught.value.message == "pull model manifest: file does not exist"
    assert pulling.statuses == ["pulling manifest"]


@pytest.mark.parametrize("name", ["", "/", "a b", "ns/../x", "x:"])
def test_name_that_is_none_is_refused(pulling: Pulling, name: str) -> None:
    with pytest.raises(InvalidModelName):
        pull_model(pulling.principal, PullArguments(name=name), pulling.told.append)
    assert not pulling.told


def test_registry_that_is_not_listed_is_never_asked(pulling: Pulling) -> None:
    with fake_registry() as other:
        with pytest.raises(RegistryNotAllowed):
            pulling.pull(f"{other.host}/ns/tiny", is_insecure=True)
        assert not other.asked
    assert not pulling.told


def test_somebody_elses_namespace_is_not_written_to(pulling: Pulling, bob: User) -> None:
    with pytest.raises(NotYourModel):
        pulling.pull(f"{bob.username}/tiny")


def test_wrong_bytes_spoil_only_their_own_file(
    pulling: Pulling, remote: FakeRegistry, store: BlobStore
) -> None:
    template = str(Digest.of(b"{{ .Prompt }}"))
    remote.blobs[template] = b"{{ .Promqt }}"

    with pytest.raises(RegistryFailed, match="digest mismatch, file must be downloaded again"):
        pulling.pull()

    assert len(files_of(store)) == 1
    assert selectors.find_tag(pulling.principal, ModelName.parse(f"{remote.host}/ns/tiny")) is None
    remote.blobs[template] = b"{{ .Prompt }}"
    remote.asked.clear()
    pulling.pull()
    assert len([asked for asked in remote.asked if asked.method == "GET"]) == 3


def test_cancelled_pull_stops_and_the_next_goes_on(pulling: Pulling, remote: FakeRegistry) -> None:
    def stop(event: Progress) -> None:
        if event.completed:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        pull_model(
            pulling.principal, PullArguments(name=f"{remote.host}/ns/tiny"), stop, policy=QUICK
        )
    pulling.pull()
    assert pulling.statuses[-1] == "success"


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../../etc/passwd",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "a" * 32 + "\0" + "a" * 31,
        "sha256:" + "a" * 100_000,
        "sha512:" + "a" * 64,
        "",
        "/",
        "sha256:" + "a" * 64 + "\n",
    ],
)
def test_bad_digest_touches_no_file(
    pulling: Pulling, remote: FakeRegistry, store: BlobStore, tmp_path: Path, digest: str
) -> None:
    manifest = json.loads(remote.manifests["/v2/ns/tiny/manifests/latest"])
    manifest["layers"][1]["digest"] = digest
    remote.set_manifest("ns/tiny", manifest)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises((InvalidDigest, InvalidManifest)):
        pulling.pull()

    assert sorted(tmp_path.rglob("*")) == before
    assert len(remote.asked) == 1


def test_symlink_in_a_files_place_leads_nowhere(
    pulling: Pulling, store: BlobStore, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    store.make_root()
    store.path(Digest.of(b"{{ .Prompt }}")).symlink_to(outside)

    pulling.pull()

    assert outside.read_bytes() == b"mine"
    assert not store.path(Digest.of(b"{{ .Prompt }}")).is_symlink()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schemaVersion":2}',
        b"[" * 200_000,
        b'{"schemaVersion":2,"layers":[],"config":{"mediaType":"x","digest":"y","size":-1}}',
        b'{"a":"\xff"}',
    ],
)
def test_manifest_that_is_none_is_refused(
    pulling: Pulling, remote: FakeRegistry, body: bytes
) -> None:
    remote.set_manifest("ns/tiny", body)

    with pytest.raises((InvalidManifest, InvalidDigest)):
        pulling.pull()
    assert len(remote.asked) == 1


def test_endless_manifest_is_not_read(pulling: Pulling, remote: FakeRegistry) -> None:
    remote.set_manifest("ns/tiny", b" " * (5 * 1024 * 1024))

    with pytest.raises(RegistryFailed, match="larger than"):
        pulling.pull()


def test_manifest_with_another_digest_than_told_is_refused(
    pulling: Pulling, remote: FakeRegistry
) -> None:
    body = remote.manifests["/v2/ns/tiny/manifests/latest"]
    told = {"Docker-Content-Digest": str(Digest.of(b"other"))}
    remote.scripts.append(
        lambda asked: Answer(headers=told, body=body) if "/manifests/" in asked.path else None
    )
    with pytest.raises(RegistryFailed, match="digest"):
        pulling.pull()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mediaType": manifests.TENSOR}, "GGUF"),
        ({"size": 1 << 70}, "invalid manifest"),
        ({"size": 1 << 62}, "the manifest says"),
    ],
)
def test_layer_that_cannot_be_is_refused(
    pulling: Pulling, remote: FakeRegistry, change: dict[str, Any], words: str
) -> None:
    manifest = json.loads(remote.manifests["/v2/ns/tiny/manifests/latest"])
    manifest["layers"][0].update(change)
    remote.set_manifest("ns/tiny", manifest)

    with pytest.raises((InvalidManifest, RegistryFailed), match=words):
        pulling.pull()
    assert not [
        asked for asked in remote.asked if "/blobs/" in asked.path and asked.method == "GET"
    ]


def test_text_that_is_too_large_is_not_fetched(pulling: Pulling, remote: FakeRegistry) -> None:
    manifest = json.loads(remote.manifests["/v2/ns/tiny/manifests/latest"])
    manifest["layers"][1]["size"] = 1 << 33
    remote.set_manifest("ns/tiny", manifest)

    with pytest.raises(InvalidManifest, match="too large for a text"):
        pulling.pull()


def test_more_layers_than_a_model_has_are_not_fetched(
    pulling: Pulling, remote: FakeRegistry
) -> None:
    manifest = json.loads(remote.manifests["/v2/ns/tiny/manifests/latest"])
    manifest["layers"] *= 200
    remote.set_manifest("ns/tiny", manifest)

    with pytest.raises(InvalidManifest, match="256 layers"):
        pulling.pull()


def test_file_that_is_no_model_is_not_usable(pulling: Pulling, remote: FakeRegistry) -> None:
    add_model(remote, b"GGUF" + b"\xff" * 1000)

    with pytest.raises(GgufError):
        pulling.pull()
    assert "writing manifest" not in pulling.statuses


def test_template_that_cannot_be_read_is_refused(
    pulling: Pulling, remote: FakeRegistry, tiny_gguf: Path
) -> None:
    add_model(remote, tiny_gguf.read_bytes(), template=b"{{ if }}")

    with pytest.raises(InvalidTemplate):
        pulling.pull()


def test_quota_is_asked_before_any_byte(
    pulling: Pulling, remote: FakeRegistry, store: BlobStore
) -> None:
    Namespace.objects.create(name="alice", quota_bytes=1000)

    with pytest.raises(QuotaFull):
        pulling.pull()
    assert not files_of(store)


def test_immutable_tag_is_refused_before_any_file(
    pulling: Pulling, remote: FakeRegistry, tiny_gguf: Path
) -> None:
    first = remote.manifests["/v2/ns/tiny/manifests/latest"]
    add_model(remote, tiny_gguf.read_bytes(), template=b"{{ .Response }}")
    second = remote.manifests["/v2/ns/tiny/manifests/latest"]

    def blobs(asked: Asked) -> Answer | None:
        return (
            Answer(body=remote.blobs[asked.path[-71:]])
            if "/alice/tiny/blobs" in asked.path
            else None
        )

    remote.scripts.append(blobs)
    remote.manifests["/v2/alice/tiny/manifests/v1"] = first
    pulling.pull("alice/tiny:v1")
    Namespace.objects.create(name="alice", immutable_tags="v*")
    remote.manifests["/v2/alice/tiny/manifests/v1"] = second
    remote.asked.clear()

    with pytest.raises(TagIsImmutable):
        pulling.pull("alice/tiny:v1")
    assert len(remote.asked) == 1


def test_credentials_of_the_request_are_sent_to_the_registry_alone(
    pulling: Pulling, remote: FakeRegistry
) -> None:
    remote.challenge = (
        'Bearer realm="http://HOST/token",service="s",scope="repository:ns/tiny:pull"'
    )
    remote.logins = ("Basic YWxpY2U6c2VjcmV0",)
    sealed = sealing.seal("secret")

    pulling.pull(username="alice", sealed_password=sealed)

    assert pulling.statuses[-1] == "success"


# ---------------------------------------------------------------- two at once


@pytest.mark.django_db(transaction=True)
def test_two_who_pull_the_same_share_the_bytes(
    remote: FakeRegistry, alice: User, bob: User
) -> None:
    remote.pause_s = 0.2
    both = [Pulling(alice, remote), Pulling(bob, remote)]

    def pull(pulling: Pulling) -> None:
        try:
            pulling.pull()
        finally:
            connection.close()

    threads = [threading.Thread(target=pull, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [one.statuses[-1] for one in both] == ["success", "success"]
    gets = [it for it in remote.asked if it.method == "GET" and "/blobs/" in it.path]
    assert len(gets) < 6

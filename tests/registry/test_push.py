"""Pushing a model: what is told, in which order it goes, and who may push where."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from models_app import selectors
from models_app.errors import ConflictingSuffixes, ModelNotFound
from models_app.models import User
from models_app.names import ModelName
from models_app.permissions import Verb
from ollamasite.errors import Forbidden, ServiceError
from registry import library, manifests, sealing
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import (
    BlobNotFound,
    JobCancelled,
    RegistryFailed,
    RegistryNotAllowed,
    UnqualifiedName,
)
from registry.jobs.context import JobContext
from registry.progress import Progress, ignore
from registry.push import PushArguments, push_model, run
from registry.remote.client import RetryPolicy
from tests.conftest import MakeModel, principal_for
from tests.fakes.upload_registry import Answer, UploadRegistry, upload_registry_in_thread

POLICY = RetryPolicy(base_s=0.001, most_s=0.002, stall_s=5.0)
MISSING = [Progress("retrieving manifest"), Progress("couldn't retrieve manifest")]


@pytest.fixture
def registry(settings: Any) -> Iterator[UploadRegistry]:
    """A registry to which this site may push."""
    with upload_registry_in_thread() as running:
        settings.ALLOWED_REGISTRIES = [f"http://{running.host}"]
        yield running


@pytest.fixture
def name(registry: UploadRegistry, make_model: MakeModel, alice: User) -> str:
    """A model of Alice's that is named as the registry shall have it."""
    make_model("tiny", alice, system="Be brief.")
    name = f"{registry.host}/lab/tiny:latest"
    library.copy_model(principal_for(alice), "tiny", name)
    return name


def pushed(user: User, name: str, **arguments: Any) -> list[Progress]:
    """Push and return the events."""
    told: list[Progress] = []
    push_model(
        principal_for(user), PushArguments(name=name, **arguments), told.append, policy=POLICY
    )
    return told


def refused(user: User, name: str, **arguments: Any) -> tuple[ServiceError, list[Progress]]:
    """Push in vain and return why, and the events before."""
    told: list[Progress] = []
    with pytest.raises(ServiceError) as caught:
        push_model(
            principal_for(user), PushArguments(name=name, **arguments), told.append, policy=POLICY
        )
    return caught.value, told


def stored(user: User, name: str) -> library.StoredManifest:
    return library.stored_manifest(principal_for(user), name)


def test_events_come_as_the_contract_has_them(name: str, alice: User) -> None:
    told = pushed(alice, name)

    manifest = manifests.parse_manifest(stored(alice, name).body)
    files = [*manifest.layers, manifest.config]
    statuses = dict.fromkeys(event.status for event in told)
    assert list(statuses) == [
        "retrieving manifest",
        *(f"pushing {entry.blob.hex[:12]}" for entry in files),
        "pushing manifest",
        "success",
    ]
    ends = {event.status: event for event in told if event.digest}
    assert [(end.digest, end.total, end.completed) for end in ends.values()] == [
        (entry.digest, entry.size, entry.size) for entry in files
    ]


def test_registry_has_the_same_bytes_afterwards(
    name: str, alice: User, registry: UploadRegistry, store: BlobStore
) -> None:
    pushed(alice, name)

    here = stored(alice, name)
    manifest = manifests.parse_manifest(here.body)
    assert registry.manifests == {"/v2/lab/tiny/manifests/latest": (here.media_type, here.body)}
    for entry in (*manifest.layers, manifest.config):
        assert registry.blobs[entry.digest] == store.path(entry.blob).read_bytes()
    assert registry.asked[-1].method == "PUT", "the manifest comes last"


def test_file_that_is_there_has_one_event_at_100_percent(
    name: str, alice: User, registry: UploadRegistry
) -> None:
    pushed(alice, name)
    told = pushed(alice, name)

    uploads = [event for event in told if event.digest]
    assert len({event.digest for event in uploads}) == len(uploads) == len(registry.blobs)
    assert all(event.completed == event.total for event in uploads)


def test_layer_is_mounted_from_where_it_was_taken(
    registry: UploadRegistry, make_model: MakeModel, admin: User
) -> None:
    make_model("base")
    principal = principal_for(admin)
    make_model("derived", admin, base=library.resolve(principal, "base", Verb.READ))
    name = f"{registry.host}/lab/derived"
    library.copy_model(principal, "derived", name)
    registry.mounts["library/base"] = 201

    pushed(admin, name)

    sources = [request.query.get("from") for request in registry.requests("POST")]
    assert sources.count("library/base") == 1


def test_spelling_is_that_of_the_stored_name(
    name: str, alice: User, registry: UploadRegistry
) -> None:
    pushed(alice, name.replace("lab/tiny", "LAB/Tiny"))

    assert list(registry.manifests) == ["/v2/lab/tiny/manifests/latest"]


def test_name_without_a_host_goes_to_the_default_registry(
    registry: UploadRegistry, make_model: MakeModel, alice: User, settings: Any
) -> None:
    settings.DEFAULT_REGISTRY = f"http://{registry.host}"
    make_model("tiny", alice)

    pushed(alice, "tiny")

    assert list(registry.manifests) == ["/v2/alice/tiny/manifests/latest"]


# ------------------------------------------------------------------ refusals


def test_model_that_is_not_there_is_told_after_two_statuses(
    registry: UploadRegistry, alice: User
) -> None:
    error, told = refused(alice, f"{registry.host}/lab/nothing")

    assert isinstance(error, ModelNotFound)
    assert told == MISSING


def test_stranger_learns_nothing_of_a_private_model(
    registry: UploadRegistry, make_model: MakeModel, alice: User, mallory: User, settings: Any
) -> None:
    settings.DEFAULT_REGISTRY = f"http://{registry.host}"
    make_model("secret", alice)

    error, told = refused(mallory, "alice/secret")

    assert (error.message, told) == ("model 'alice/secret' not found", MISSING)
    assert not registry.asked


def test_bad_name_is_unqualified(alice: User) -> None:
    error, told = refused(alice, "a/b/c/d e:f")

    assert isinstance(error, UnqualifiedName)
    assert error.message == "unqualified name: a/b/c/d e:f"
    assert told == MISSING


def test_two_sources_at_once_are_told(alice: User) -> None:
    error, told = refused(alice, "x:cloud:local")

    assert isinstance(error, ConflictingSuffixes)
    assert told == MISSING


def test_registry_that_is_not_listed_is_refused_before_anything_is_told(alice: User) -> None:
    error, told = refused(alice, "127.0.0.1:9/lab/tiny", is_insecure=True)

    assert isinstance(error, RegistryNotAllowed)
    assert not told


def test_site_itself_pushes_nothing() -> None:
    context = JobContext(job_id="1", principal=None, report=ignore)

    with pytest.raises(Forbidden):
        run(context, PushArguments(name="tiny"))


def test_file_that_is_gone_is_named(name: str, alice: User, store: BlobStore) -> None:
    manifest = manifests.parse_manifest(stored(alice, name).body)
    store.path(manifest.layers[0].blob).unlink()

    error, _ = refused(alice, name)

    assert isinstance(error, BlobNotFound)


def test_refused_manifest_is_told_in_the_registrys_words(
    name: str, alice: User, registry: UploadRegistry
) -> None:
    body = b'{"errors":[{"code":"DENIED","message":"the tag is immutable"}]}'
    pushed(alice, name)
    registry.instead["PUT"] = [Answer(403, body=body)]

    error, told = refused(alice, name)

    assert isinstance(error, RegistryFailed)
    assert error.message == "push model manifest: access denied: the tag is immutable"
    assert told[-1] == Progress("pushing manifest")


def test_cancelled_push_leaves_no_session_behind(
    name: str, alice: User, registry: UploadRegistry
) -> None:
    # The first part is never answered with success: the push is in the middle of a file for good.
    registry.instead["PATCH"] = [Answer(503, {"Retry-After": "60"})] * 2
    registry.instead["PUT blob"] = [Answer(503, {"Retry-After": "60"})] * 2

    def report(event: Progress) -> None:
        if event.digest and has_begun():
            raise JobCancelled

    def has_begun() -> bool:
        """Whether the session has been told to us: its address has been used."""
        return any("/uploads/" in each.path for each in registry.requests("PATCH")) or any(
            "/uploads/" in each.path for each in registry.requests("PUT")
        )

    context = JobContext(job_id="1", principal=principal_for(alice), report=report)
    with pytest.raises(JobCancelled):
        run(context, PushArguments(name=name))

    assert len(registry.requests("DELETE")) == 1
    assert not registry.sessions


# ------------------------------------------------------------------ credentials


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_name_and_password_of_the_request_are_shown_to_a_registry_that_asks(
    name: str, alice: User, registry: UploadRegistry
) -> None:
    registry.instead["HEAD"] = [Answer(401, {"WWW-Authenticate": 'Basic realm="lab"'})]

    pushed(alice, name, username="lab", sealed_password=sealing.seal("sesame"))

    first, second = registry.requests("HEAD")[:2]
    assert "authorization" not in first.headers
    assert second.headers["authorization"] == basic("lab", "sesame")


def test_sites_credentials_are_not_for_users_who_may_not_write_the_library(
    name: str, alice: User, registry: UploadRegistry, settings: Any
) -> None:
    settings.REGISTRY_CREDENTIALS = {registry.host: "site:secret"}
    registry.instead["HEAD"] = [Answer(401, {"WWW-Authenticate": 'Basic realm="lab"'})]

    error, _ = refused(alice, name)

    assert isinstance(error, RegistryFailed)
    assert not any("authorization" in request.headers for request in registry.asked)


def test_sites_credentials_are_for_administrators(
    registry: UploadRegistry, make_model: MakeModel, admin: User, settings: Any
) -> None:
    settings.REGISTRY_CREDENTIALS = {registry.host: "site:secret"}
    registry.instead["HEAD"] = [Answer(401, {"WWW-Authenticate": 'Basic realm="lab"'})]
    make_model("tiny")
    name = f"{registry.host}/lab/tiny"
    library.copy_model(principal_for(admin), "tiny", name)

    pushed(admin, name)

    assert registry.requests("HEAD")[1].headers["authorization"] == basic("site", "secret")


def test_pushed_name_is_still_here(name: str, alice: User) -> None:
    pushed(alice, name)

    record = selectors.find_tag(principal_for(alice), ModelName.parse(name))
    assert record is not None
    assert record.digest == Digest.of(record.manifest).hex

"""What a client asks to have created, under its own eyes: bases and files it may use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models_app import services
from models_app.errors import InvalidModelName, ModelNotFound
from models_app.models import User
from models_app.permissions import Verb
from registry import library
from registry.blobs import BlobStore
from registry.create_request import CreateRequest, create
from registry.digest import Digest
from registry.errors import BlobNotFound, NotYourModel, RegistryNotAllowed
from registry.library import ResolvedModel
from registry.progress import Progress, ignore
from tests.conftest import MakeModel, principal_for

pytestmark = pytest.mark.django_db

Upload = Callable[[User], Digest]


@pytest.fixture
def upload(store: BlobStore, tiny_gguf: Path) -> Upload:
    """Upload the tiny model as somebody."""

    def as_user(user: User) -> Digest:
        blob = store.import_file(tiny_gguf)
        services.record_upload(user.pk, blob.digest.hex, blob.size_bytes)
        return blob.digest

    return as_user


def create_as(user: User, **asked: Any) -> ResolvedModel:
    principal = principal_for(user)
    name = create(principal, CreateRequest(name="mine", **asked), ignore)
    return library.resolve(principal, name, Verb.READ)


def test_own_upload_becomes_a_model(alice: User, upload: Upload) -> None:
    digest = upload(alice)
    assert create_as(alice, files={"x.gguf": digest}).weights == digest.hex


def test_foreign_upload_is_not_found(alice: User, mallory: User, upload: Upload) -> None:
    digest = upload(alice)
    with pytest.raises(BlobNotFound, match=f"blob {digest} not found"):
        create_as(mallory, files={"x.gguf": digest})


def test_weights_of_a_foreign_private_model_are_not_found(
    alice: User, mallory: User, make_model: MakeModel
) -> None:
    make_model("secret", alice)
    secret = library.resolve(principal_for(alice), "secret", Verb.READ)
    with pytest.raises(BlobNotFound):
        create_as(mallory, files={"x.gguf": Digest(secret.weights)})


def test_weights_of_a_shared_model_may_be_used(mallory: User, make_model: MakeModel) -> None:
    make_model("common")
    common = library.resolve(principal_for(mallory), "common", Verb.READ)
    model = create_as(mallory, files={"x.gguf": Digest(common.weights)})
    assert model.weights == common.weights


def test_foreign_upload_is_not_found_as_an_adapter(
    alice: User, mallory: User, make_model: MakeModel, store: BlobStore
) -> None:
    make_model("common")
    blob = store.write_bytes(b"an adapter of Alice's")
    services.record_upload(alice.pk, blob.digest.hex, blob.size_bytes)
    with pytest.raises(BlobNotFound):
        create_as(mallory, base_name="common", adapters={"x.gguf": blob.digest})


def test_base_is_taken_as_its_caller_sees_it(alice: User, make_model: MakeModel) -> None:
    make_model("base", system="everybody's")
    make_model("base", alice, system="alice's")
    assert create_as(alice, base_name="base").system == "alice's"


@pytest.mark.parametrize("name", ["alice/secret", "alice/absent"])
def test_foreign_private_base_is_not_found(
    alice: User, mallory: User, make_model: MakeModel, name: str
) -> None:
    make_model("secret", alice)
    with pytest.raises(ModelNotFound) as refusal:
        create_as(mallory, base_name=name)
    assert refusal.value.message == f"model '{name}' not found"


def test_base_that_nobody_has_here_is_asked_of_the_default_registry(
    alice: User, mallory: User, make_model: MakeModel
) -> None:
    make_model("secret", alice)
    with pytest.raises(RegistryNotAllowed):
        create_as(mallory, base_name="secret")


def test_bad_name_of_a_base_is_refused(alice: User) -> None:
    with pytest.raises(InvalidModelName):
        create_as(alice, base_name="a b")


def test_target_is_checked_before_the_base(alice: User, mallory: User) -> None:
    with pytest.raises(NotYourModel):
        create(principal_for(mallory), CreateRequest(name="alice/x", base_name="absent"), ignore)


def test_files_are_not_looked_at_where_there_is_a_base(alice: User, make_model: MakeModel) -> None:
    make_model("base")
    assert create_as(alice, base_name="base", files={}).parent_model == "base:latest"


def statuses_of(user: User, **asked: Any) -> list[str]:
    events: list[Progress] = []
    create(principal_for(user), CreateRequest(name="mine", **asked), events.append)
    return [event.status.partition(" layer ")[0] for event in events]


def test_statuses_do_not_tell_what_others_keep_secret(
    alice: User, mallory: User, make_model: MakeModel
) -> None:
    make_model("base")
    make_model("secret", alice, system="The code is 1234.")
    right = statuses_of(mallory, base_name="base", system="The code is 1234.")
    wrong = statuses_of(mallory, base_name="base", system="The code is 9999.")
    assert right == wrong

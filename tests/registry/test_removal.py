"""What nothing needs is let go of, and never what somebody is about to need."""

import pytest
from django.db import OperationalError

from models_app import selectors
from models_app.models import Manifest, Tag, User
from models_app.services import drop_unused, record_upload
from registry import removal
from registry.blobs import BlobStore
from registry.digest import Digest
from tests.conftest import MakeModel

pytestmark = pytest.mark.django_db


def files_of(store: BlobStore) -> set[str]:
    return {path.name for path in store.root.iterdir()}


def test_files_go_with_the_last_manifest(make_model: MakeModel, store: BlobStore) -> None:
    make_model("tiny", system="Gone soon.")
    Tag.objects.all().delete()
    removal.remove_unused()

    assert files_of(store) == set()
    assert not Manifest.objects.exists()


def test_files_of_other_models_stay(make_model: MakeModel, store: BlobStore) -> None:
    make_model("one", system="Gone soon.")
    make_model("two")
    kept = {f"sha256-{layer.digest}" for layer in Manifest.objects.latest("pk").blobs.all()}
    Tag.objects.filter(model__name="one").delete()
    removal.remove_unused()

    assert files_of(store) == kept


def test_uploaded_file_stays(make_model: MakeModel, store: BlobStore, bob: User) -> None:
    make_model("tiny", system="Bob has this too.")
    digest = Digest.of(b"Bob has this too.")
    record_upload(bob.pk, digest.hex, 17)
    Tag.objects.all().delete()
    removal.remove_unused()

    assert files_of(store) == {digest.file_name}


def test_file_that_is_needed_again_meanwhile_stays(
    make_model: MakeModel, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop_then_somebody_creates() -> list[str]:
        monkeypatch.setattr("models_app.services.drop_unused", drop_unused)
        dropped = drop_unused()
        make_model("again", system="Needed again.")
        return dropped

    make_model("tiny", system="Needed again.")
    Tag.objects.all().delete()
    monkeypatch.setattr("models_app.services.drop_unused", drop_then_somebody_creates)
    removal.remove_unused()

    digest = Digest.of(b"Needed again.")
    assert selectors.has_layer(None, digest.hex)
    assert store.exists(digest)


def test_file_that_cannot_be_removed_now_is_left(
    make_model: MakeModel, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.blobs._PATIENCE_S", 0.1)
    make_model("tiny")
    before = files_of(store)
    Tag.objects.all().delete()
    with store.in_use():
        removal.remove_unused()

    assert files_of(store) == before


def test_file_that_was_only_on_the_way_goes(make_model: MakeModel, store: BlobStore) -> None:
    make_model("tiny")
    before = files_of(store)
    step = store.write_bytes(b"on the way")
    removal.remove_unused([step.digest, *store.added])

    assert files_of(store) == before


def test_failure_to_remove_is_nobodys_error(
    make_model: MakeModel, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[str]:
        raise OperationalError

    make_model("tiny")
    Tag.objects.all().delete()
    monkeypatch.setattr("models_app.services.drop_unused", fail)
    before = files_of(store)
    removal.remove_unused()

    assert files_of(store) == before

"""Writes: a tag with all that hangs on it, in one transaction."""

from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone

from models_app.models import Blob, LanguageModel, Layer, Manifest, Tag, User, Visibility
from models_app.names import ModelName
from models_app.services import NewLayer, NewManifest, write_tag

pytestmark = pytest.mark.django_db

TINY = ModelName(model="tiny", namespace="library")


def layer(letter: str, gguf: dict[str, str] | None = None) -> NewLayer:
    return NewLayer(digest=letter * 64, size_bytes=1, media_type=f"type/{letter}", gguf=gguf)


def manifest(letter: str, *layers: NewLayer) -> NewManifest:
    return NewManifest(digest=letter * 64, body=letter.encode(), layers=layers or [layer("1")])


def test_layers_keep_their_order() -> None:
    write_tag(TINY, manifest("a", layer("3"), layer("1"), layer("2")), owner_id=None)
    rows = Layer.objects.order_by("position").values_list("position", "blob__digest", "media_type")
    assert list(rows) == [
        (0, "3" * 64, "type/3"),
        (1, "1" * 64, "type/1"),
        (2, "2" * 64, "type/2"),
    ]


def test_shared_blobs_are_one_row() -> None:
    write_tag(TINY, manifest("a", layer("1"), layer("2")), owner_id=None)
    write_tag(TINY, manifest("b", layer("1"), layer("3")), owner_id=None)
    assert Blob.objects.count() == 3


def test_one_blob_may_be_in_a_manifest_twice() -> None:
    write_tag(TINY, manifest("a", layer("1"), layer("1")), owner_id=None)
    assert (Layer.objects.count(), Blob.objects.count()) == (2, 1)


def test_same_manifest_is_one_row() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    write_tag(ModelName(model="other", namespace="library"), manifest("a"), owner_id=None)
    assert (Manifest.objects.count(), Tag.objects.count()) == (1, 2)


def test_name_points_at_the_last_manifest() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    write_tag(TINY, manifest("b"), owner_id=None)
    assert Tag.objects.get().manifest.digest == "b" * 64


def test_writing_moves_the_time_of_change() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    long_ago = timezone.now() - timedelta(days=1)
    Tag.objects.update(modified_at=long_ago)
    write_tag(TINY, manifest("a"), owner_id=None)
    assert Tag.objects.get().modified_at > long_ago


@pytest.mark.parametrize("spelling", ["TINY", "Tiny"])
def test_old_spelling_is_kept(spelling: str) -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    other = ModelName(model=spelling, tag="LATEST", namespace="Library")
    assert write_tag(other, manifest("b"), owner_id=None) == TINY
    assert (LanguageModel.objects.count(), Tag.objects.count()) == (1, 1)


def test_tags_of_a_model_are_kept_apart() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    write_tag(ModelName(model="tiny", tag="q8", namespace="library"), manifest("b"), owner_id=None)
    assert (LanguageModel.objects.count(), Tag.objects.count()) == (1, 2)


def test_new_model_of_the_library_is_for_everyone() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    assert LanguageModel.objects.get().visibility == Visibility.EVERYONE


def test_new_model_elsewhere_is_its_owners_alone(alice: User) -> None:
    write_tag(ModelName(model="tiny", namespace="alice"), manifest("a"), owner_id=alice.pk)
    model = LanguageModel.objects.get()
    assert (model.owner, model.visibility) == (alice, Visibility.PRIVATE)


def test_overwriting_keeps_owner_and_visibility(alice: User, bob: User) -> None:
    name = ModelName(model="tiny", namespace="alice")
    write_tag(name, manifest("a"), owner_id=alice.pk)
    LanguageModel.objects.update(visibility=Visibility.EVERYONE)
    write_tag(name, manifest("b"), owner_id=bob.pk)
    model = LanguageModel.objects.get()
    assert (model.owner, model.visibility) == (alice, Visibility.EVERYONE)


def test_metadata_is_added_to_a_blob_that_lacks_it() -> None:
    write_tag(TINY, manifest("a", layer("1")), owner_id=None)
    write_tag(TINY, manifest("b", layer("1", {"architecture": "x"})), owner_id=None)
    assert Blob.objects.get().gguf == {"architecture": "x"}


def test_failure_leaves_nothing_behind() -> None:
    bad = NewLayer(digest="2" * 64, size_bytes=-1, media_type="x")
    with pytest.raises(IntegrityError):
        write_tag(TINY, manifest("a", layer("1"), bad), owner_id=None)
    counts = [table.objects.count() for table in (Blob, Manifest, Layer, LanguageModel, Tag)]
    assert counts == [0, 0, 0, 0, 0]


def test_blobs_in_use_cannot_be_deleted() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    with pytest.raises(IntegrityError):
        Blob.objects.get().delete()

"""Writes: a tag with all that hangs on it, in one transaction."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.utils import timezone

from models_app import services
from models_app.errors import ModelNotFound
from models_app.models import Blob, LanguageModel, Layer, Manifest, Tag, Upload, User, Visibility
from models_app.names import ModelName
from models_app.services import (
    NewLayer,
    NewManifest,
    copy_tag,
    delete_tag,
    drop_unused,
    record_upload,
    write_tag,
)

pytestmark = pytest.mark.django_db

TINY = ModelName(model="tiny", namespace="library")


def layer(letter: str, gguf: dict[str, Any] | None = None) -> NewLayer:
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


def test_size_of_a_manifest_is_that_of_its_layers() -> None:
    write_tag(TINY, manifest("a", layer("1"), layer("2"), layer("1")), owner_id=None)
    assert Manifest.objects.get().size_bytes == 3


def test_layers_are_uploads_of_their_owner_no_longer(alice: User, bob: User) -> None:
    for user in (alice, bob):
        record_upload(user.pk, "1" * 64, 1)
        record_upload(user.pk, "2" * 64, 1)
    write_tag(TINY, manifest("a", layer("1")), owner_id=alice.pk)
    left = Upload.objects.order_by("user__username", "digest").values_list("user", "digest")
    assert list(left) == [(alice.pk, "2" * 64), (bob.pk, "1" * 64), (bob.pk, "2" * 64)]


def test_upload_is_noted_once(alice: User) -> None:
    record_upload(alice.pk, "1" * 64, 1)
    record_upload(alice.pk, "1" * 64, 1)
    assert Upload.objects.count() == 1


def test_copied_name_points_at_the_same_manifest(alice: User) -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    name = ModelName(model="mine", namespace="alice")
    assert copy_tag("a" * 64, name, owner_id=alice.pk) == name
    assert (Manifest.objects.count(), Tag.objects.count()) == (1, 2)


def test_manifest_that_is_gone_cannot_be_copied() -> None:
    with pytest.raises(ModelNotFound):
        copy_tag("a" * 64, TINY, owner_id=None)
    assert not LanguageModel.objects.exists()


def test_model_goes_with_its_last_tag() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    second = ModelName(model="tiny", namespace="library", tag="v2")
    write_tag(second, manifest("a"), owner_id=None)
    first_id, second_id = Tag.objects.order_by("pk").values_list("pk", flat=True)
    assert delete_tag(first_id)
    assert (LanguageModel.objects.count(), Tag.objects.count()) == (1, 1)
    assert delete_tag(second_id)
    assert not LanguageModel.objects.exists()


def test_tag_that_is_gone_cannot_be_deleted() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    tag_id = Tag.objects.get().pk
    assert delete_tag(tag_id)
    assert not delete_tag(tag_id)


def test_what_no_name_needs_is_dropped() -> None:
    write_tag(TINY, manifest("a", layer("1"), layer("2")), owner_id=None)
    write_tag(TINY, manifest("b", layer("2"), layer("3")), owner_id=None)
    assert drop_unused() == ["1" * 64]
    assert Manifest.objects.get().digest == "b" * 64
    assert set(Blob.objects.values_list("digest", flat=True)) == {"2" * 64, "3" * 64}


def test_nothing_is_dropped_where_all_is_needed() -> None:
    write_tag(TINY, manifest("a"), owner_id=None)
    assert drop_unused() == []
    assert (Manifest.objects.count(), Blob.objects.count()) == (1, 1)


def test_row_that_is_gone_when_it_was_found_taken_is_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, tries = services._manifest, []

    def taken_at_first(new: NewManifest) -> Manifest:
        tries.append(new)
        if len(tries) == 1:
            raise IntegrityError
        return real(new)

    monkeypatch.setattr(services, "_manifest", taken_at_first)
    assert write_tag(TINY, manifest("a"), owner_id=None) == TINY
    assert len(tries) == 2


def test_what_others_write_has_no_nul_in_a_row() -> None:
    told = {"general\0name": ["a\0b", {"c": 1}]}
    new = NewManifest(
        digest="a" * 64, body=b"a", config={"model_family": "a\0"}, layers=[layer("1", told)]
    )
    write_tag(TINY, new, owner_id=None)

    assert Blob.objects.get().gguf == {"general\ufffdname": ["a\ufffdb", {"c": 1}]}
    assert Manifest.objects.get().config == {"model_family": "a\ufffd"}

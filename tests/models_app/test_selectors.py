"""Reads: the record that a name stands for, and nothing that one may not see."""

import pytest

from models_app import selectors
from models_app.models import Blob, LanguageModel, User, Visibility
from models_app.names import ModelName
from models_app.services import NewLayer, NewManifest, record_upload, write_tag
from tests.conftest import principal_for

pytestmark = pytest.mark.django_db


def write(name: str, owner: User | None = None, digest: str = "a" * 64) -> None:
    layer = NewLayer(digest=digest, size_bytes=7, media_type="model", gguf={"architecture": "x"})
    new = NewManifest(digest=digest, body=b"{}", config={"model_family": "x"}, layers=[layer])
    write_tag(ModelName.parse(name), new, owner_id=owner.pk if owner else None)


def test_record_tells_what_is_stored(alice: User) -> None:
    write("alice/tiny:small", alice)
    record = selectors.find_tag(principal_for(alice), ModelName.parse("alice/tiny:small"))
    assert record is not None
    assert record.name == ModelName(model="tiny", tag="small", namespace="alice")
    assert (record.owner_id, record.visibility) == (alice.pk, Visibility.PRIVATE)
    assert (record.digest, record.manifest) == ("a" * 64, b"{}")
    assert record.config == {"model_family": "x"}


def test_bare_name_is_looked_up_in_the_own_namespace_first(alice: User) -> None:
    write("library/tiny")
    write("alice/tiny", alice)
    record = selectors.find_tag(principal_for(alice), ModelName.parse("tiny"))
    assert record is not None
    assert record.name.namespace == "alice"


def test_bare_name_does_not_reach_other_namespaces(alice: User, bob: User) -> None:
    write("alice/tiny", alice)
    LanguageModel.objects.update(visibility=Visibility.EVERYONE)
    assert selectors.find_tag(principal_for(bob), ModelName.parse("tiny")) is None


def test_underscore_in_a_name_is_no_wildcard(alice: User) -> None:
    write("library/a_b")
    assert selectors.find_tag(principal_for(alice), ModelName.parse("axb")) is None
    assert not selectors.is_name_taken(ModelName.parse("library/axb"), alice.pk)


def test_other_host_is_another_model(alice: User) -> None:
    write("library/tiny")
    name = ModelName.parse("hf.co/library/tiny")
    assert selectors.find_tag(principal_for(alice), name) is None


def test_hidden_models_are_not_listed(alice: User, bob: User) -> None:
    write("alice/tiny", alice)
    assert selectors.visible_tags(principal_for(bob)) == []
    assert len(selectors.visible_tags(principal_for(alice))) == 1


def test_name_is_taken_by_others_only(alice: User, bob: User) -> None:
    write("alice/tiny", alice)
    name = ModelName.parse("Alice/TINY")
    assert not selectors.is_name_taken(name, alice.pk)
    assert selectors.is_name_taken(name, bob.pk)


def test_metadata_of_a_blob_is_told() -> None:
    write("library/tiny")
    assert selectors.blob_gguf("a" * 64) == {"architecture": "x"}


def test_blob_without_metadata_tells_nothing() -> None:
    Blob.objects.create(digest="b" * 64, size_bytes=1)
    assert selectors.blob_gguf("b" * 64) == {}
    assert selectors.blob_gguf("c" * 64) == {}


def test_site_has_models_once_one_is_written() -> None:
    assert not selectors.has_models()
    write("library/tiny")
    assert selectors.has_models()


def test_layer_is_there_for_those_who_see_its_model(alice: User, bob: User) -> None:
    write("alice/tiny", owner=alice)
    digest = "a" * 64
    assert selectors.has_layer(principal_for(alice), digest)
    assert selectors.has_layer(None, digest)
    assert not selectors.has_layer(principal_for(bob), digest)
    assert not selectors.has_layer(None, "b" * 64)


def test_file_may_be_used_by_those_who_brought_it(alice: User, bob: User) -> None:
    record_upload(alice.pk, "a" * 64, 1)
    assert selectors.may_use_blob(principal_for(alice), "a" * 64)
    assert not selectors.may_use_blob(principal_for(bob), "a" * 64)


def test_file_of_a_model_may_be_used_by_those_who_see_it(alice: User, bob: User) -> None:
    write("alice/tiny", alice)
    assert selectors.may_use_blob(principal_for(alice), "a" * 64)
    assert not selectors.may_use_blob(principal_for(bob), "a" * 64)
    LanguageModel.objects.update(visibility=Visibility.EVERYONE)
    assert selectors.may_use_blob(principal_for(bob), "a" * 64)


def test_wanted_are_layers_and_uploads(alice: User) -> None:
    write("library/tiny")
    record_upload(alice.pk, "b" * 64, 1)
    wanted = selectors.wanted_blobs(letter * 64 for letter in "abc")
    assert wanted == {"a" * 64, "b" * 64}


def test_own_mirror_hides_that_of_another_in_lists(alice: User, bob: User, admin: User) -> None:
    write("hub.lab/team/tiny", admin, digest="b" * 64)
    write("hub.lab/Team/tiny", alice, digest="c" * 64)
    for user, digest in ((alice, "c" * 64), (bob, "b" * 64)):
        listed = selectors.visible_tags(principal_for(user))
        assert [tag.digest for tag in listed] == [digest]


def test_mirrors_with_unlike_tags_are_all_listed(alice: User, admin: User) -> None:
    write("hub.lab/team/tiny:v1", admin)
    write("hub.lab/team/tiny:v2", alice)
    listed = selectors.visible_tags(principal_for(alice))
    assert [tag.name.tag for tag in listed] == ["v2", "v1"]

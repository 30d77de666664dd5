"""What a namespace holds, may hold, and which of its tags stay as they are."""

from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from models_app import namespaces, services
from models_app.errors import TagIsImmutable
from models_app.models import LanguageModel, Manifest, Namespace, RepositoryBlob, Tag, User
from models_app.models import RepositoryManifest as Revision
from models_app.names import ModelName
from models_app.namespaces import NamespaceRules, charged_namespace, missing_bytes, stored_bytes
from models_app.services import (
    NewLayer,
    NewManifest,
    delete_tag,
    push_manifest,
    record_upload,
    write_tag,
)

pytestmark = pytest.mark.django_db


def manifest_of(*layers: tuple[str, int], digest: str = "f", body: bytes = b"") -> NewManifest:
    return NewManifest(
        digest=digest * 64,
        body=body,
        layers=[
            NewLayer(digest=hex_digit * 64, size_bytes=size_bytes, media_type="type")
            for hex_digit, size_bytes in layers
        ],
    )


def name_of(text: str) -> ModelName:
    return ModelName.parse(text)


def write(name: str, owner: User | None, *layers: tuple[str, int], digest: str = "f") -> None:
    owner_id = owner.pk if owner else None
    write_tag(name_of(name), manifest_of(*layers, digest=digest), owner_id=owner_id)


def rules(name: str = "alice", **given: object) -> NamespaceRules:
    values = {"quota_bytes": None, "immutable_tags": "", "kept_tags": None, **given}
    return NamespaceRules(name=name, **values)  # type: ignore[arg-type]


# ------------------------------------------------------------------ bytes


def test_empty_namespace_holds_nothing(alice: User) -> None:
    assert stored_bytes("alice") == 0


def test_equal_layers_count_once_in_a_namespace(alice: User) -> None:
    write("alice/one", alice, ("1", 10), ("2", 100), digest="a")
    write("alice/two:x", alice, ("1", 10), ("3", 1000), digest="b")
    write("alice/two:y", alice, ("1", 10), ("3", 1000), digest="b")

    assert stored_bytes("ALICE") == 1110


def test_equal_layers_count_in_each_namespace_that_has_them(alice: User, bob: User) -> None:
    write("alice/one", alice, ("1", 10))
    write("bob/one", bob, ("1", 10))

    assert (stored_bytes("alice"), stored_bytes("bob")) == (10, 10)
    assert stored_bytes("library") == 0


def test_uploads_count_until_they_are_layers_and_then_once(alice: User) -> None:
    record_upload(alice.pk, "1" * 64, 10)
    record_upload(alice.pk, "2" * 64, 100)
    before = stored_bytes("alice")
    write("alice/one", alice, ("1", 10))
    record_upload(alice.pk, "1" * 64, 10)

    assert (before, stored_bytes("alice")) == (110, 110)


def test_what_was_pushed_counts_with_and_without_a_manifest(alice: User) -> None:
    write("alice/one", alice, ("1", 10))
    model = LanguageModel.objects.get()
    Revision.objects.create(model=model, manifest=Manifest.objects.get())
    for digest in ("1", "2"):
        RepositoryBlob.objects.create(model=model, digest=digest * 64, size_bytes=10)
    Tag.objects.all().delete()

    assert stored_bytes("alice") == 20


def test_manifests_count_themselves_each_once(alice: User) -> None:
    tagged = manifest_of(digest="a", body=b"x" * 1000)
    push_manifest(name_of("alice/one"), tagged, tags=["x", "y"], owner_id=alice.pk)
    untagged = manifest_of(digest="b", body=b"x" * 100)
    push_manifest(name_of("alice/two"), untagged, tags=[], owner_id=alice.pk)

    assert stored_bytes("alice") == 1100


def test_mirror_counts_to_its_owner(alice: User, bob: User) -> None:
    write("hf.co/bob/one", alice, ("1", 10))

    assert (stored_bytes("alice"), stored_bytes("bob")) == (10, 0)


def test_mirror_of_the_site_itself_counts_to_nobody(alice: User) -> None:
    write("hf.co/alice/one", None, ("1", 10))

    assert stored_bytes("alice") == stored_bytes("library") == 0
    assert charged_namespace(name_of("hf.co/alice/one"), None) is None


@pytest.mark.parametrize(
    ("name", "namespace"),
    [("alice/one", "alice"), ("one", "library"), ("hf.co/x/one", "bob"), ("nobody/one", "bob")],
)
def test_whose_bytes_a_model_takes(alice: User, bob: User, name: str, namespace: str) -> None:
    assert charged_namespace(name_of(name), bob.pk) == namespace


def test_only_what_a_namespace_does_not_hold_is_missing(alice: User) -> None:
    write("alice/one", alice, ("1", 10))
    record_upload(alice.pk, "2" * 64, 100)
    sizes = {"1" * 64: 10, "2" * 64: 100, "3" * 64: 1000}

    assert missing_bytes("alice", sizes) == 1000
    assert missing_bytes("library", sizes) == 1110


def test_bytes_are_counted_with_few_queries(
    alice: User, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    for number in range(20):
        write(f"alice/m{number}", alice, ("1", 10), digest=f"{number:x}"[0])
    with django_assert_max_num_queries(4):  # type: ignore[operator]
        stored_bytes("alice")


# ------------------------------------------------------------------ immutable tags


def test_immutable_tag_is_not_moved(alice: User) -> None:
    namespaces.set_rules(rules(immutable_tags="v*"))
    write("alice/one:V1", alice, ("1", 10), digest="a")
    with pytest.raises(TagIsImmutable, match="the tag 'V1' cannot be changed"):
        write("alice/one:v1", alice, ("2", 10), digest="b")

    assert Tag.objects.get().manifest.digest == "a" * 64


def test_immutable_tag_may_be_written_once_more_as_it_is(alice: User) -> None:
    namespaces.set_rules(rules(immutable_tags="v*"))
    for _ in range(2):
        write("alice/one:v1", alice, ("1", 10))

    assert Tag.objects.count() == 1


def test_nothing_is_copied_over_an_immutable_tag(alice: User) -> None:
    namespaces.set_rules(rules(immutable_tags="v*"))
    write("alice/one:v1", alice, ("1", 10), digest="a")
    write("alice/one:next", alice, ("2", 10), digest="b")
    with pytest.raises(TagIsImmutable):
        services.copy_tag("b" * 64, name_of("alice/one:v1"), owner_id=alice.pk)


def test_immutable_tag_is_not_deleted(alice: User) -> None:
    write("alice/one:v1", alice, ("1", 10))
    namespaces.set_rules(rules(immutable_tags="nothing v?"))
    with pytest.raises(TagIsImmutable):
        delete_tag(Tag.objects.get().pk)

    assert Tag.objects.exists()


def test_other_tags_and_other_namespaces_are_free(alice: User, bob: User) -> None:
    namespaces.set_rules(rules(immutable_tags="v*"))
    for name, owner in (("alice/one:latest", alice), ("bob/one:v1", bob), ("hf.co/a/b:v1", alice)):
        write(name, owner, ("1", 10), digest="a")
        write(name, owner, ("2", 10), digest="b")

    assert {tag.manifest.digest for tag in Tag.objects.all()} == {"b" * 64}


# ------------------------------------------------------------------ rules and command


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "nobody"},
        {"name": ""},
        {"kept_tags": 0},
        {"immutable_tags": "v* " * 200},
        {"quota_bytes": 2**63},
    ],
)
def test_rules_that_cannot_hold_are_refused(alice: User, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        namespaces.set_rules(rules(**wrong))

    assert not Namespace.objects.exists()


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("namespace", *arguments, stdout=out)
    return out.getvalue()


def test_command_sets_and_tells_what_holds(alice: User) -> None:
    write("alice/one", alice, ("1", 1536))

    assert run("alice", "--quota", "2GiB", "--immutable-tags", " v*  r* ", "--keep-tags", "3") == (
        "alice: holds 1.5 KiB, quota 2.0 GiB, 3 tags stay, immutable: v* r*\n"
    )


def test_command_leaves_what_it_does_not_name(alice: User) -> None:
    run("alice", "--quota", "1G", "--keep-tags", "3")

    assert run("ALICE", "--keep-tags", "all", "--immutable-tags", "") == (
        "alice: holds 0 B, quota 1.0 GiB, all tags stay, immutable: none\n"
    )


def test_command_gives_the_quota_of_the_site_back(alice: User) -> None:
    run("alice", "--quota", "1G")

    assert "no quota" in run("alice", "--quota", "default")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nobody"],
        ["alice", "--quota", "much"],
        ["alice", "--keep-tags", "0"],
        ["alice", "--keep-tags", "-1"],
        ["alice", "--keep-tags", "9" * 30],
        ["alice", "--quota", f"{'9' * 30}T"],
    ],
)
def test_command_refuses_what_makes_no_sense(alice: User, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)

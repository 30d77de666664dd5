"""Creating: from a GGUF file, from another model, under the right name, all or nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models_app import selectors
from models_app.errors import InvalidModelName
from models_app.models import Blob, LanguageModel, Manifest, Tag, User
from models_app.permissions import Principal, Verb
from ollamasite.errors import ServiceError
from registry import library, manifests
from registry.blobs import BlobStore
from registry.create import CreateModel, create_model
from registry.digest import Digest
from registry.errors import BlobNotFound, GgufError, InvalidCreate, NotYourModel
from registry.library import ResolvedModel
from registry.progress import Progress
from tests.conftest import MakeModel, principal_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def weights(store: BlobStore, tiny_gguf: Path) -> Digest:
    """The digest of an uploaded model file."""
    return store.import_file(tiny_gguf).digest


@pytest.fixture
def resolved(alice: User) -> Callable[[str], ResolvedModel]:
    """Look a model up as Alice."""
    return lambda name: library.resolve(principal_for(alice), name, Verb.READ)


def statuses_of(request: CreateModel) -> list[str]:
    events: list[Progress] = []
    create_model(request, report=events.append)
    return [event.status for event in events]


def from_file(weights: Digest, principal: Principal | None = None, **changes: Any) -> CreateModel:
    values = {"name": "tiny", "principal": principal, "files": {"tiny.gguf": weights}}
    return CreateModel(**{**values, **changes})


# ------------------------------------------------------------------ from a file


def test_model_from_a_file_has_what_was_given(
    weights: Digest, resolved: Callable[[str], ResolvedModel]
) -> None:
    create_model(
        from_file(
            weights,
            template="{{ .Prompt }}",
            system="Be terse.",
            parameters={"num_ctx": 256, "stop": ["x"]},
            license=("MIT", "Apache"),
            messages=(("user", "hi"), ("assistant", "ho")),
        )
    )
    model = resolved("tiny")
    assert (model.name, model.weights) == ("tiny:latest", weights.hex)
    assert (model.template, model.system) == ("{{ .Prompt }}", "Be terse.")
    assert model.parameters == {"num_ctx": 256, "stop": ["x"]}
    assert model.license == ("MIT", "Apache")
    assert model.messages == (("user", "hi"), ("assistant", "ho"))
    assert model.parent_model == ""


def test_model_from_a_file_alone_has_only_weights(
    weights: Digest, resolved: Callable[[str], ResolvedModel]
) -> None:
    create_model(from_file(weights))
    model = resolved("tiny")
    assert [layer.mediaType for layer in model.manifest.layers] == [manifests.MODEL]
    assert (model.template, model.system, model.parameters, model.messages) == ("", "", {}, ())


def test_config_tells_what_lists_show(
    weights: Digest, resolved: Callable[[str], ResolvedModel]
) -> None:
    create_model(from_file(weights, template="{{ .Tools }}"))
    assert resolved("tiny").config == {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "123K",
        "file_type": "F32",
        "capabilities": ["completion", "tools"],
        "context_length": 512,
        "embedding_length": 64,
        "architecture": "amd64",
        "os": "linux",
    }


def test_every_layer_is_a_verified_blob(
    weights: Digest, store: BlobStore, resolved: Callable[[str], ResolvedModel]
) -> None:
    create_model(from_file(weights, system="Be terse."))
    manifest = resolved("tiny").manifest
    assert all(store.verify(layer.blob) for layer in (manifest.config, *manifest.layers))


def test_digest_is_that_of_the_manifests_bytes(weights: Digest) -> None:
    create_model(from_file(weights))
    row = Manifest.objects.get()
    assert Digest.of(bytes(row.body)).hex == row.digest


def test_statuses_of_a_model_from_a_file(weights: Digest) -> None:
    template = Digest.of(b"{{ .Prompt }}")
    assert statuses_of(from_file(weights, template="{{ .Prompt }}")) == [
        "parsing GGUF",
        "verifying conversion",
        f"creating new layer {weights}",
        f"creating new layer {template}",
        "writing manifest",
        "success",
    ]


def test_known_layers_are_announced_as_existing(weights: Digest) -> None:
    create_model(from_file(weights, template="{{ .Prompt }}"))
    statuses = statuses_of(from_file(weights, name="other", template="{{ .Prompt }}"))
    assert statuses[2:4] == [
        f"using existing layer {weights}",
        f"using existing layer {Digest.of(b'{{ .Prompt }}')}",
    ]


def test_same_request_twice_changes_nothing(weights: Digest) -> None:
    create_model(from_file(weights))
    create_model(from_file(weights))
    assert (Tag.objects.count(), Manifest.objects.count(), Blob.objects.count()) == (1, 1, 2)


def test_recreating_without_a_field_drops_its_layer(
    weights: Digest, resolved: Callable[[str], ResolvedModel]
) -> None:
    create_model(from_file(weights, system="Be terse."))
    create_model(from_file(weights))
    assert resolved("tiny").system == ""


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "neither 'from' or 'files' was specified"),
        ({}, "unknown type"),
        ({"/etc/passwd": "w"}, "file path must be relative"),
        ({"../x.gguf": "w"}, "file path must be relative"),
        ({"a/../../x.gguf": "w"}, "file path must be relative"),
        ({"a.gguf": "w", "b.gguf": "w"}, "only a single GGUF file is supported"),
    ],
)
def test_unusable_files_are_refused(
    weights: Digest, files: dict[str, str] | None, message: str
) -> None:
    given = None if files is None else dict.fromkeys(files, weights)
    with pytest.raises(InvalidCreate) as refusal:
        create_model(CreateModel(name="tiny", principal=None, files=given))
    assert refusal.value.message == message


def test_file_that_was_never_uploaded_is_refused() -> None:
    with pytest.raises(BlobNotFound):
        create_model(from_file(Digest("0" * 64)))


def test_file_that_is_no_model_is_refused_and_leaves_no_row(store: BlobStore) -> None:
    digest = store.write([b"not a model"]).digest
    with pytest.raises(GgufError, match="supplied file was not in GGUF format"):
        create_model(from_file(digest))
    assert (Blob.objects.count(), LanguageModel.objects.count()) == (0, 0)


def test_bad_name_is_refused_before_anything_is_read(weights: Digest) -> None:
    with pytest.raises(InvalidModelName):
        create_model(from_file(weights, name="a b"))


def test_failure_while_rows_are_written_leaves_none(
    weights: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(Tag, "save", fail)
    with pytest.raises(RuntimeError):
        create_model(from_file(weights))
    rows = [table.objects.count() for table in (Blob, Manifest, LanguageModel, Tag)]
    assert rows == [0, 0, 0, 0]


# ------------------------------------------------------------------ from a model


@pytest.fixture
def base(make_model: MakeModel, resolved: Callable[[str], ResolvedModel]) -> ResolvedModel:
    """A library model with a layer of every kind."""
    make_model(
        "base",
        template="{{ .Prompt }}",
        system="Be kind.",
        parameters={"num_ctx": 256, "stop": ["a", "b"]},
        license=("MIT",),
        messages=(("user", "hi"),),
    )
    return resolved("base")


def derive(base: ResolvedModel, alice: User, **changes: Any) -> ResolvedModel:
    principal = principal_for(alice)
    name = create_model(CreateModel(name="mine", principal=principal, base=base, **changes))
    return library.resolve(principal, name, Verb.READ)


def test_derived_model_keeps_what_is_not_given(base: ResolvedModel, alice: User) -> None:
    mine = derive(base, alice)
    assert (mine.template, mine.system, mine.weights) == (base.template, base.system, base.weights)
    assert (mine.parameters, mine.messages) == (base.parameters, base.messages)
    assert mine.license == base.license


def test_derived_model_names_its_parent(base: ResolvedModel, alice: User) -> None:
    assert derive(base, alice).details.parent_model == "base:latest"


def test_parameters_are_merged_key_by_key(base: ResolvedModel, alice: User) -> None:
    mine = derive(base, alice, parameters={"stop": ["c"], "temperature": 0})
    assert mine.parameters == {"num_ctx": 256, "stop": ["c"], "temperature": 0}


def test_null_parameter_leaves_the_bases(base: ResolvedModel, alice: User) -> None:
    assert derive(base, alice, parameters={"num_ctx": None}).parameters["num_ctx"] == 256


def test_texts_that_are_given_replace_the_bases(base: ResolvedModel, alice: User) -> None:
    mine = derive(base, alice, template="{{ .System }}", system="Be brief.")
    assert (mine.template, mine.system) == ("{{ .System }}", "Be brief.")


def test_empty_text_does_not_remove_the_bases(base: ResolvedModel, alice: User) -> None:
    assert derive(base, alice, template="", system="").system == "Be kind."


def test_messages_are_replaced_as_a_whole(base: ResolvedModel, alice: User) -> None:
    mine = derive(base, alice, messages=(("user", "one"), ("user", "two")))
    assert mine.messages == (("user", "one"), ("user", "two"))


def test_licenses_are_appended(base: ResolvedModel, alice: User) -> None:
    assert derive(base, alice, license=("Mine",)).license == ("MIT", "Mine")


def test_capabilities_follow_the_new_template(base: ResolvedModel, alice: User) -> None:
    mine = derive(base, alice, template="{{ .Tools }}")
    assert mine.capabilities == ("completion", "tools")
    assert mine.config["capabilities"] == ["completion", "tools"]


def test_statuses_of_a_derived_model_name_kept_layers_first(
    base: ResolvedModel, alice: User
) -> None:
    request = CreateModel(
        name="mine", principal=principal_for(alice), base=base, system="Be brief."
    )
    kept = [x.digest for x in base.manifest.layers if x.mediaType != manifests.SYSTEM]
    assert statuses_of(request) == [
        *(f"using existing layer {digest}" for digest in kept),
        f"creating new layer {Digest.of(b'Be brief.')}",
        "writing manifest",
        "success",
    ]


# ------------------------------------------------------------------ under which name


def test_bare_name_goes_to_the_own_namespace(weights: Digest, alice: User) -> None:
    name = create_model(from_file(weights, principal_for(alice)))
    model = LanguageModel.objects.get()
    assert name.short == "alice/tiny:latest"
    assert (model.owner, model.visibility) == (alice, "private")


def test_bare_name_of_an_admin_goes_to_the_library(weights: Digest, admin: User) -> None:
    name = create_model(from_file(weights, principal_for(admin)))
    assert (name.short, name.namespace) == ("tiny:latest", "library")
    assert LanguageModel.objects.get().visibility == "everyone"


def test_library_must_not_be_written_by_others(weights: Digest, mallory: User) -> None:
    with pytest.raises(NotYourModel):
        create_model(from_file(weights, principal_for(mallory), name="library/tiny"))


@pytest.mark.parametrize("name", ["alice/tiny", "ALICE/tiny", "nobody/tiny"])
@pytest.mark.parametrize("who", ["mallory", "admin"])
def test_foreign_namespace_must_not_be_written(
    weights: Digest, request: pytest.FixtureRequest, alice: User, name: str, who: str
) -> None:
    user = request.getfixturevalue(who)
    with pytest.raises(NotYourModel):
        create_model(from_file(weights, principal_for(user), name=name))
    assert not selectors.has_models()


def test_refusal_does_not_tell_whether_the_model_exists(
    weights: Digest, make_model: MakeModel, alice: User, mallory: User
) -> None:
    make_model("secret", alice)
    texts: set[str] = set()
    for name in ("alice/secret", "alice/absent"):
        with pytest.raises(ServiceError) as refusal:
            create_model(from_file(weights, principal_for(mallory), name=name))
        texts.add(refusal.value.message)
    assert texts == {"you may not write to the namespace 'alice'"}


def test_namespace_of_a_former_user_is_not_inherited(
    weights: Digest, make_model: MakeModel, alice: User
) -> None:
    make_model("tiny", alice)
    alice.delete()
    namesake = User.objects.create_user("alice")
    with pytest.raises(NotYourModel):
        create_model(from_file(weights, principal_for(namesake)))


def test_other_spelling_overwrites_under_the_old_one(weights: Digest, alice: User) -> None:
    create_model(from_file(weights, principal_for(alice), name="Tiny:Small"))
    name = create_model(from_file(weights, principal_for(alice), name="ALICE/tiny:SMALL"))
    assert name.short == "alice/Tiny:Small"
    assert (LanguageModel.objects.count(), Tag.objects.count()) == (1, 1)


def test_gguf_metadata_is_kept_with_the_weights_only(weights: Digest) -> None:
    create_model(from_file(weights, system="x"))
    kept = Blob.objects.exclude(gguf=None).get()
    assert kept.digest == weights.hex
    assert json.loads(json.dumps(kept.gguf))["architecture"] == "llama"


def test_all_texts_together_have_a_limit(base: ResolvedModel, alice: User) -> None:
    texts = tuple(f"{number}" + "x" * (3 * 1024**2) for number in range(3))
    with pytest.raises(InvalidCreate, match="the texts of a model may have 8388608 bytes at most"):
        create_model(
            CreateModel(name="m", principal=principal_for(alice), base=base, license=texts)
        )

"""Resolving and listing: who sees what, and at what cost."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from models_app.errors import InvalidModelName, ModelNotFound
from models_app.grants import AccessChange, change_access
from models_app.models import CacheScope, LanguageModel, User, Visibility
from models_app.names import ModelName
from models_app.permissions import Verb
from registry import library, manifests
from registry.blobs import BlobStore
from registry.errors import NotYourModel
from tests.conftest import MakeModel, principal_for
from tests.model_layers import add_layer

pytestmark = pytest.mark.django_db

Cast = dict[str, User]


@pytest.fixture
def cast(alice: User, bob: User, mallory: User, admin: User) -> Cast:
    return {"alice": alice, "bob": bob, "mallory": mallory, "admin": admin}


@pytest.fixture
def models(make_model: MakeModel, cast: Cast) -> None:
    """One of each kind: Alice's private one, one she shares, and one of the library."""
    make_model("private", cast["alice"])
    make_model("shared", cast["alice"])
    LanguageModel.objects.filter(name="shared").update(visibility=Visibility.EVERYONE)
    make_model("common")


@pytest.fixture
def _cold() -> Iterator[None]:
    """Nothing is remembered from an earlier test."""
    library._contents.cache_clear()
    yield
    library._contents.cache_clear()


FOUND, ABSENT, FORBIDDEN = "found", "absent", "forbidden"
READ_OR_USE = [Verb.READ, Verb.USE]


def outcome(user: User, name: str, verb: Verb) -> str:
    try:
        library.resolve(principal_for(user), name, verb)
    except ModelNotFound:
        return ABSENT
    except NotYourModel:
        return FORBIDDEN
    return FOUND


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("verb", READ_OR_USE)
@pytest.mark.parametrize(
    ("name", "who", "expected"),
    [
        ("alice/private", "alice", FOUND),
        ("alice/private", "bob", ABSENT),
        ("alice/private", "mallory", ABSENT),
        ("alice/private", "admin", ABSENT),
        ("alice/shared", "alice", FOUND),
        ("alice/shared", "bob", FOUND),
        ("alice/shared", "mallory", FOUND),
        ("alice/shared", "admin", FOUND),
        ("common", "alice", FOUND),
        ("common", "bob", FOUND),
        ("common", "admin", FOUND),
        ("library/common", "mallory", FOUND),
        ("private", "alice", FOUND),
        ("private", "bob", ABSENT),
        ("shared", "bob", ABSENT),
        ("alice/common", "alice", ABSENT),
        ("absent", "alice", ABSENT),
    ],
)
def test_who_may_read_and_use(cast: Cast, verb: Verb, name: str, who: str, expected: str) -> None:
    assert outcome(cast[who], name, verb) == expected


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("name", "who", "expected"),
    [
        ("alice/private", "alice", FOUND),
        ("alice/private", "bob", ABSENT),
        ("alice/private", "admin", ABSENT),
        ("alice/shared", "alice", FOUND),
        ("alice/shared", "mallory", FORBIDDEN),
        ("alice/shared", "admin", FORBIDDEN),
        ("common", "alice", FORBIDDEN),
        ("common", "mallory", FORBIDDEN),
        ("common", "admin", FOUND),
    ],
)
def test_who_may_manage(cast: Cast, name: str, who: str, expected: str) -> None:
    assert outcome(cast[who], name, Verb.MANAGE) == expected


@pytest.mark.usefixtures("models")
def test_hidden_and_absent_models_answer_alike(cast: Cast) -> None:
    answers: list[tuple[Any, ...]] = []
    for name in ("alice/private", "alice/absentt"):
        with pytest.raises(ModelNotFound) as refusal:
            library.resolve(principal_for(cast["mallory"]), name, Verb.USE)
        error = refusal.value
        answers.append((type(error), error.status, error.message.replace(name, "X")))
    assert answers[0] == answers[1]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    "name",
    ["common", "Common", "COMMON:LATEST", "library/common", "LIBRARY/Common:latest", " common "],
)
def test_spelling_does_not_matter(alice: User, name: str) -> None:
    assert library.resolve(principal_for(alice), name, Verb.READ).name == "common:latest"


@pytest.mark.usefixtures("models")
def test_full_name_is_written_out(alice: User) -> None:
    model = library.resolve(principal_for(alice), "private", Verb.READ)
    assert (model.name, model.full_name) == (
        "alice/private:latest",
        "registry.ollama.ai/alice/private:latest",
    )


def test_own_model_hides_the_librarys_of_the_same_name(
    make_model: MakeModel, alice: User, bob: User
) -> None:
    make_model("twin")
    make_model("twin", alice)
    assert library.resolve(principal_for(alice), "twin", Verb.USE).name == "alice/twin:latest"
    assert library.resolve(principal_for(bob), "twin", Verb.USE).name == "twin:latest"


def test_tag_belongs_to_the_name(make_model: MakeModel, alice: User) -> None:
    make_model("tiny:small")
    assert outcome(alice, "tiny:small", Verb.USE) == FOUND
    assert outcome(alice, "tiny", Verb.USE) == ABSENT


def test_orphaned_private_model_is_seen_by_nobody(
    make_model: MakeModel, alice: User, admin: User
) -> None:
    make_model("tiny", alice)
    alice.delete()
    namesake = User.objects.create_user("alice")
    assert outcome(namesake, "alice/tiny", Verb.READ) == ABSENT
    assert outcome(admin, "alice/tiny", Verb.READ) == ABSENT


def test_text_is_named_as_it_was_given(alice: User) -> None:
    with pytest.raises(ModelNotFound, match=r"^model 'Nope' not found$"):
        library.resolve(principal_for(alice), "Nope", Verb.USE)


def test_parsed_name_is_named_with_its_tag(alice: User) -> None:
    with pytest.raises(ModelNotFound, match=r"^model 'nope:latest' not found$"):
        library.resolve(principal_for(alice), ModelName.parse("nope"), Verb.USE)


def test_empty_name_is_a_model_that_is_not_there(alice: User) -> None:
    with pytest.raises(ModelNotFound, match=r"^model '' not found$"):
        library.resolve(principal_for(alice), "", Verb.USE)


@pytest.mark.parametrize("name", ["a b", "../x", "a/b/c/../d", "x:y:z", "-x", "a\0", "a" * 500])
def test_bad_name_is_refused(alice: User, name: str) -> None:
    with pytest.raises(InvalidModelName):
        library.resolve(principal_for(alice), name, Verb.USE)


@pytest.mark.usefixtures("_cold")
def test_first_resolve_costs_two_queries(
    make_model: MakeModel, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_model("tiny", system="Be terse.", parameters={"num_ctx": 256})
    with django_assert_num_queries(2):
        library.resolve(principal_for(alice), "tiny", Verb.USE)


@pytest.mark.usefixtures("_cold")
def test_next_resolve_costs_one_query(
    make_model: MakeModel, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_model("tiny", system="Be terse.")
    library.resolve(principal_for(alice), "tiny", Verb.USE)
    with django_assert_num_queries(1):
        library.resolve(principal_for(alice), "tiny", Verb.USE)


@pytest.mark.usefixtures("_cold")
def test_overwritten_model_is_seen_at_once(make_model: MakeModel, alice: User) -> None:
    make_model("tiny", system="old")
    before = library.resolve(principal_for(alice), "tiny", Verb.USE)
    make_model("tiny", system="new")
    after = library.resolve(principal_for(alice), "tiny", Verb.USE)
    assert (before.system, after.system) == ("old", "new")
    assert before.digest != after.digest


def test_weights_are_where_the_store_has_them(
    make_model: MakeModel, alice: User, store: BlobStore
) -> None:
    make_model("tiny")
    model = library.resolve(principal_for(alice), "tiny", Verb.USE)
    assert model.weights_path == store.root / f"sha256-{model.weights}"
    assert model.weights_path.is_file()


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("alice", {"alice/private:latest", "alice/shared:latest", "common:latest"}),
        ("bob", {"alice/shared:latest", "common:latest"}),
        ("mallory", {"alice/shared:latest", "common:latest"}),
        ("admin", {"alice/shared:latest", "common:latest"}),
    ],
)
def test_list_has_what_one_may_see(cast: Cast, who: str, expected: set[str]) -> None:
    listed = library.list_models(principal_for(cast[who]))
    assert {model.name for model in listed} == expected


def test_list_begins_with_the_newest(make_model: MakeModel, alice: User) -> None:
    for name in ("one", "two", "three"):
        make_model(name)
    make_model("two", system="x")
    names = [model.name for model in library.list_models(principal_for(alice))]
    assert names == ["two:latest", "three:latest", "one:latest"]


def test_list_costs_one_query_and_one_for_aliases(
    make_model: MakeModel, alice: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        make_model(f"model{number}", system=str(number))
    with django_assert_num_queries(2):
        assert len(library.list_models(principal_for(alice))) == 5


def test_listed_model_tells_size_and_details(make_model: MakeModel, alice: User) -> None:
    make_model("tiny")
    (listed,) = library.list_models(principal_for(alice))
    model = library.resolve(principal_for(alice), "tiny", Verb.READ)
    assert (listed.size_bytes, listed.digest) == (model.size_bytes, model.digest)
    assert (listed.parameter_size, listed.quantization_level) == ("123K", "F32")
    assert (listed.context_length, listed.embedding_length) == (512, 64)


def test_projector_and_adapters_are_told_by_their_digests(
    make_model: MakeModel, alice: User
) -> None:
    name = make_model("seeing")
    projector = add_layer(name, manifests.PROJECTOR, b"a projector")
    adapters = (
        add_layer(name, manifests.ADAPTER, b"an adapter"),
        add_layer(name, manifests.ADAPTER, b"another"),
    )
    model = library.resolve(principal_for(alice), name, Verb.USE)

    assert (model.projector, model.adapters) == (projector, adapters)
    assert model.capabilities == ("completion", "vision")


def test_model_made_from_one_that_sees_is_listed_as_seeing(
    make_model: MakeModel, alice: User
) -> None:
    name = make_model("seeing")
    add_layer(name, manifests.PROJECTOR, b"a projector")
    base = library.resolve(principal_for(alice), name, Verb.USE)
    make_model("alice/mine", alice, base=base, system="Look.")
    [mine] = [m for m in library.list_models(principal_for(alice)) if m.namespace == "alice"]

    assert mine.capabilities == ("completion", "vision")


def test_how_a_model_is_served_holds_at_once(make_model: MakeModel, alice: User) -> None:
    make_model("tiny")
    before = library.resolve(principal_for(alice), "tiny", Verb.USE)
    wanted = AccessChange(cache_scope=CacheScope.EVERYONE, is_pinned=True)
    change_access(ModelName.parse("tiny"), wanted, by=None)
    after = library.resolve(principal_for(alice), "tiny", Verb.USE)

    assert (before.cache_scope, before.is_pinned) == ("user", False)
    assert (after.cache_scope, after.is_pinned) == ("everyone", True)

"""Models under the names that they bear in other registries: everybody has their own."""

import pytest

from models_app.errors import ModelNotFound
from models_app.models import LanguageModel, User, Visibility
from models_app.names import DEFAULT_HOST, ModelName
from models_app.permissions import Verb
from registry import library
from registry.errors import NotYourModel
from tests.conftest import MakeModel, principal_for

pytestmark = pytest.mark.django_db

ELSEWHERE = "registry.lab:5000/team/tiny:v1"


def test_two_users_have_the_same_name_each_for_themselves(
    make_model: MakeModel, alice: User, bob: User
) -> None:
    make_model(ELSEWHERE, alice, system="Alice's.")
    make_model(ELSEWHERE, bob, system="Bob's.")
    systems = [
        library.resolve(principal_for(user), ELSEWHERE, Verb.READ).system for user in (alice, bob)
    ]
    assert systems == ["Alice's.", "Bob's."]


def test_mirror_of_another_does_not_exist(make_model: MakeModel, alice: User, bob: User) -> None:
    make_model(ELSEWHERE, alice)
    with pytest.raises(ModelNotFound):
        library.resolve(principal_for(bob), ELSEWHERE, Verb.READ)
    assert library.list_models(principal_for(bob)) == []


def test_what_an_administrator_brings_is_for_everybody(
    make_model: MakeModel, admin: User, bob: User
) -> None:
    make_model(ELSEWHERE, admin)
    assert library.resolve(principal_for(bob), ELSEWHERE, Verb.USE).name == ELSEWHERE
    with pytest.raises(NotYourModel):
        library.delete_model(principal_for(bob), ELSEWHERE)


def test_own_one_hides_what_everybody_sees(make_model: MakeModel, admin: User, alice: User) -> None:
    make_model(ELSEWHERE, admin, system="Everybody's.")
    make_model(ELSEWHERE, alice, system="Alice's.")
    assert library.resolve(principal_for(alice), ELSEWHERE, Verb.READ).system == "Alice's."
    library.delete_model(principal_for(alice), ELSEWHERE)
    assert library.resolve(principal_for(alice), ELSEWHERE, Verb.READ).system == "Everybody's."


def test_model_is_copied_to_the_name_it_will_be_pushed_by(
    make_model: MakeModel, alice: User
) -> None:
    make_model("tiny", alice)
    library.copy_model(principal_for(alice), "tiny", ELSEWHERE)
    assert library.resolve(principal_for(alice), ELSEWHERE, Verb.READ).name == ELSEWHERE
    row = LanguageModel.objects.get(namespace="team")
    assert (row.is_mirror, row.owner, row.visibility) == (True, alice, Visibility.PRIVATE)


def test_library_of_another_registry_is_not_the_one_here(
    make_model: MakeModel, alice: User
) -> None:
    name = make_model("registry.lab/library/tiny", alice)
    assert name == "registry.lab/library/tiny:latest"
    library.delete_model(principal_for(alice), name)
    assert not LanguageModel.objects.exists()


def test_namespace_that_is_nobodys_here_is_pulled_to_and_not_written_to(alice: User) -> None:
    name = ModelName(model="tiny", namespace="someone", host=DEFAULT_HOST)
    principal = principal_for(alice)
    assert library.pull_target(principal, name) == name
    with pytest.raises(NotYourModel):
        library.write_target(principal, name)


@pytest.mark.parametrize("namespace", ["bob", "BOB", "library"])
def test_namespace_of_others_here_is_not_pulled_to(alice: User, bob: User, namespace: str) -> None:
    assert bob.username == "bob"
    name = ModelName(model="tiny", namespace=namespace)
    with pytest.raises(NotYourModel):
        library.pull_target(principal_for(alice), name)


def test_bare_name_is_pulled_to_where_it_is_written(alice: User, admin: User) -> None:
    name = ModelName(model="tiny")
    places = [library.pull_target(principal_for(user), name).namespace for user in (alice, admin)]
    assert places == ["alice", "library"]


def test_user_who_comes_later_has_the_namespace_beside_what_was_pulled(
    make_model: MakeModel, alice: User, django_user_model: type[User]
) -> None:
    from models_app import services
    from registry.library import resolve

    make_model("tiny", alice)
    digest = resolve(principal_for(alice), "tiny", Verb.READ).digest
    pulled = ModelName(model="tiny", namespace="newcomer")
    services.copy_tag(digest, pulled, owner_id=alice.pk)
    newcomer = django_user_model.objects.create_user("newcomer")
    make_model("tiny", newcomer, system="Mine.")
    assert resolve(principal_for(newcomer), "newcomer/tiny", Verb.MANAGE).system == "Mine."
    assert resolve(principal_for(alice), "newcomer/tiny", Verb.MANAGE).system == ""

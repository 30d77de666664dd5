"""Aliases: who reaches what by them, what comes first, and which may not be written."""

from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from models_app import selectors
from models_app.aliases import remove_alias, set_alias
from models_app.models import Alias, LanguageModel, Tag, User, Visibility
from models_app.names import ModelName
from models_app.services import NewLayer, NewManifest, delete_tag, write_tag
from tests.conftest import principal_for

pytestmark = pytest.mark.django_db


def write(name: str, owner: User | None = None) -> None:
    layer = NewLayer(digest="1" * 64, size_bytes=7, media_type="type")
    new = NewManifest(digest="a" * 64, body=b"{}", config={}, layers=[layer])
    write_tag(ModelName.parse(name), new, owner_id=owner.pk if owner else None)


def reached(user: User, name: str) -> str | None:
    """What a name stands for, for somebody."""
    record = selectors.find_tag(principal_for(user), ModelName.parse(name))
    return None if record is None else record.name.short


def listed(user: User) -> list[str]:
    return sorted(tag.name.short for tag in selectors.visible_tags(principal_for(user)))


@pytest.fixture
def tiny() -> None:
    """A model of the library."""
    write("library/tiny:135m")


# ---------------------------------------------------------------- reaching models


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("asked", ["gpt-4o-mini", "gpt-4o-mini:latest", "GPT-4o-Mini"])
def test_alias_stands_for_its_model_in_any_spelling(alice: User, asked: str) -> None:
    set_alias("gpt-4o-mini", "tiny:135m")

    assert reached(alice, asked) == "tiny:135m"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "asked",
    ["gpt-4o-mini:other", "library/gpt-4o-mini", "alice/gpt-4o-mini", "hf.co/a/gpt-4o-mini"],
)
def test_alias_is_the_bare_name_alone(alice: User, asked: str) -> None:
    set_alias("gpt-4o-mini", "tiny:135m")

    assert reached(alice, asked) is None


@pytest.mark.usefixtures("tiny")
def test_record_tells_by_which_alias_it_was_found(alice: User) -> None:
    set_alias("gpt", "tiny:135m")
    principal = principal_for(alice)
    by_alias = selectors.find_tag(principal, ModelName.parse("gpt"))
    by_name = selectors.find_tag(principal, ModelName.parse("tiny:135m"))

    assert by_alias is not None
    assert by_name is not None
    assert (by_alias.alias, by_name.alias) == ("gpt:latest", "")


@pytest.mark.usefixtures("tiny")
def test_own_model_comes_before_an_alias(alice: User, bob: User) -> None:
    set_alias("gpt", "tiny:135m")
    write("alice/gpt", alice)

    assert (reached(alice, "gpt"), reached(bob, "gpt")) == ("alice/gpt:latest", "tiny:135m")


@pytest.mark.usefixtures("tiny")
def test_model_of_the_library_comes_before_an_alias(alice: User) -> None:
    set_alias("gpt", "tiny:135m")
    write("library/gpt")

    assert reached(alice, "gpt") == "gpt:latest"
    assert listed(alice) == ["gpt:latest", "tiny:135m"]


def test_alias_of_a_private_model_is_there_for_its_owner_alone(alice: User, bob: User) -> None:
    write("alice/secret", alice)
    set_alias("gpt", "alice/secret")

    assert (reached(alice, "gpt"), reached(bob, "gpt")) == ("alice/secret:latest", None)
    assert (listed(alice), listed(bob)) == (["alice/secret:latest", "gpt:latest"], [])


def test_alias_of_a_shared_model_is_there_for_all(alice: User, bob: User) -> None:
    write("alice/shared", alice)
    LanguageModel.objects.update(visibility=Visibility.EVERYONE)
    set_alias("gpt", "alice/shared")

    assert reached(bob, "gpt") == "alice/shared:latest"
    assert listed(bob) == ["alice/shared:latest", "gpt:latest"]


def test_bare_target_is_never_somebodys_own(alice: User) -> None:
    write("library/tiny")
    set_alias("gpt", "tiny")
    write("alice/tiny", alice)

    assert reached(alice, "gpt") == "tiny:latest"


@pytest.mark.usefixtures("tiny")
def test_alias_is_followed_once(alice: User) -> None:
    set_alias("first", "tiny:135m")
    Alias.objects.create(name="second:latest", target="first:latest")

    assert reached(alice, "second") is None
    assert listed(alice) == ["first:latest", "tiny:135m"]


@pytest.mark.usefixtures("tiny")
def test_alias_outlives_its_model(alice: User) -> None:
    set_alias("gpt", "tiny:135m")
    delete_tag(Tag.objects.get(name="135m").pk)
    gone = reached(alice, "gpt"), listed(alice)
    write("library/tiny:135m")

    assert gone == (None, [])
    assert reached(alice, "gpt") == "tiny:135m"


@pytest.mark.usefixtures("tiny")
def test_own_model_hides_the_alias_from_its_owners_list(alice: User, bob: User) -> None:
    set_alias("gpt", "tiny:135m")
    write("alice/GPT", alice)

    assert listed(alice) == ["alice/GPT:latest", "tiny:135m"]
    assert listed(bob) == ["gpt:latest", "tiny:135m"]


# ---------------------------------------------------------------- writing them


@pytest.mark.usefixtures("tiny")
def test_alias_is_pointed_elsewhere_in_any_spelling() -> None:
    write("library/other")
    set_alias("gpt", "tiny:135m")
    set_alias("GPT", "other")

    assert [(alias.name, alias.target) for alias in Alias.objects.all()] == [
        ("gpt:latest", "other:latest")
    ]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("name", "target", "field", "sentence"),
    [
        ("a b", "tiny:135m", "name", "'a b' is not the name of a model."),
        ("gpt", "tiny/", "target", "'tiny/' is not the name of a model."),
        ("a/b", "tiny:135m", "name", "An alias has no namespace: write a name without '/'."),
        ("hf.co/a/b", "tiny:135m", "name", "An alias has no namespace: write a name without '/'."),
        ("gpt", "missing", "target", "There is no model missing:latest."),
        ("gpt", "tiny", "target", "There is no model tiny:latest."),
        (
            *("TINY:135m", "tiny:135m", "name"),
            "There is a model TINY:135m in the library, which comes first.",
        ),
    ],
)
def test_alias_that_could_not_work_is_refused(
    name: str, target: str, field: str, sentence: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        set_alias(name, target)

    assert refusal.value.message_dict == {field: [sentence]}
    assert not Alias.objects.exists()


@pytest.mark.usefixtures("tiny")
def test_removed_alias_leaves_its_model(alice: User) -> None:
    set_alias("gpt", "tiny:135m")
    remove_alias("GPT")

    assert listed(alice) == ["tiny:135m"]


def test_alias_that_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(ValidationError, match="There is no alias gpt:latest"):
        remove_alias("gpt")


# ---------------------------------------------------------------- the command


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("alias", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.usefixtures("tiny")
def test_command_sets_and_removes_an_alias() -> None:
    assert run("gpt", "tiny:135m") == "gpt:latest stands for tiny:135m\n"
    assert run("gpt", "--remove") == "gpt is no alias any longer\n"
    assert not Alias.objects.exists()


@pytest.mark.parametrize("arguments", [["gpt"], ["gpt", "tiny:135m", "--remove"]])
def test_command_needs_a_model_or_the_wish_to_remove(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="either the model"):
        run(*arguments)


@pytest.mark.parametrize("arguments", [["gpt", "missing"], ["gpt", "--remove"], ["a/b", "x"]])
def test_command_tells_what_is_wrong(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match=r"\.$"):
        run(*arguments)

"""`ollamasite set-model`: how a model is served."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from models_app.errors import ModelNotFound
from models_app.grants import AccessChange, change_access
from models_app.models import CacheScope, LanguageModel
from models_app.names import ModelName
from models_app.services import NewLayer, NewManifest, write_tag

pytestmark = pytest.mark.django_db

TINY = ModelName(model="tiny", namespace="library")


@pytest.fixture(autouse=True)
def _model() -> None:
    layer = NewLayer(digest="1" * 64, size_bytes=1, media_type="type")
    write_tag(TINY, NewManifest(digest="a" * 64, body=b"{}", layers=[layer]), owner_id=None)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("set_model", *arguments, stdout=out)
    return out.getvalue()


def served() -> tuple[str, bool]:
    model = LanguageModel.objects.get()
    return model.cache_scope, model.is_pinned


def test_new_model_shares_nothing_and_may_leave() -> None:
    assert served() == ("user", False)


def test_scope_and_pin_are_set_and_told() -> None:
    assert run("tiny", "--cache-scope", "everyone", "--pin") == (
        "tiny: cache scope everyone, pinned, visible to everyone\n"
    )
    assert served() == ("everyone", True)


def test_what_is_not_named_stays() -> None:
    change_access(TINY, AccessChange(cache_scope=CacheScope.EVERYONE, is_pinned=True), by=None)
    run("library/tiny:other", "--unpin")

    assert served() == ("everyone", False)


@pytest.mark.parametrize("name", ["TINY", "library/Tiny:latest"])
def test_spelling_does_not_matter(name: str) -> None:
    run(name, "--pin")

    assert served() == ("user", True)


@pytest.mark.parametrize("name", ["nope", "alice/tiny", "a b"])
def test_name_without_a_model_is_an_error(name: str) -> None:
    with pytest.raises(CommandError):
        run(name, "--pin")


@pytest.mark.parametrize("arguments", [["--cache-scope", "team"], ["--pin", "--unpin"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        run("tiny", *arguments)


def test_service_names_what_is_not_there() -> None:
    with pytest.raises(ModelNotFound, match="model 'nope:latest' not found"):
        change_access(ModelName(model="nope"), AccessChange(is_pinned=True), by=None)

"""Aliases on the routes that list, copy and delete models."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.aliases import set_alias
from models_app.models import Alias, Tag, User
from tests.conftest import KeyClient, MakeModel

pytestmark = pytest.mark.django_db(transaction=True)

ClientFor = Callable[[User], KeyClient]


@pytest.fixture
def client(client_for: ClientFor, alice: User) -> KeyClient:
    return client_for(alice)


@pytest.fixture(autouse=True)
def _models(make_model: MakeModel, bob: User) -> None:
    """A model of the library and Bob's, each with an alias."""
    make_model("tiny")
    make_model("secret", bob)
    set_alias("gpt-4o-mini", "tiny")
    set_alias("hidden", "bob/secret")


async def tags_of(client: KeyClient) -> dict[str, Any]:
    listed = (await client.get("/api/tags")).json()["models"]
    return {model["name"]: model for model in listed}


async def test_tags_have_aliases_of_visible_models(client: KeyClient) -> None:
    models = await tags_of(client)

    assert list(models) == ["tiny:latest", "gpt-4o-mini:latest"]
    alias = models["gpt-4o-mini:latest"]
    assert alias == {**models["tiny:latest"], "name": alias["name"], "model": alias["name"]}


async def test_aliases_are_models_for_openai_clients(client: KeyClient) -> None:
    data = (await client.get("/v1/models")).json()["data"]

    assert [(model["id"], model["owned_by"]) for model in data] == [
        ("tiny:latest", "library"),
        ("gpt-4o-mini:latest", "library"),
    ]


async def test_alias_is_owned_by_the_namespace_of_its_model(
    client_for: ClientFor, bob: User
) -> None:
    client = client_for(bob)
    data = (await client.get("/v1/models")).json()["data"]
    one = (await client.get("/v1/models/hidden")).json()

    assert {model["id"]: model["owned_by"] for model in data}["hidden:latest"] == "bob"
    assert (one["id"], one["owned_by"]) == ("hidden", "bob")


@pytest.mark.parametrize("name", ["gpt-4o-mini", "gpt-4o-mini:latest", "GPT-4o-mini"])
async def test_one_alias_is_told_under_the_name_that_was_asked_for(
    client: KeyClient, name: str
) -> None:
    response = await client.get(f"/v1/models/{name}")

    assert (response.status_code, response.json()["id"]) == (200, name)


async def test_alias_of_a_model_one_may_not_see_is_not_found(client: KeyClient) -> None:
    hidden = await client.get("/v1/models/hidden")
    missing = await client.get("/v1/models/missin")

    assert hidden.status_code == missing.status_code == 404
    assert hidden.content == missing.content.replace(b"missin", b"hidden")


async def test_show_tells_about_the_model_behind_an_alias(client: KeyClient) -> None:
    shown = await client.post(
        "/api/show", {"model": "gpt-4o-mini"}, content_type="application/json"
    )

    assert shown.status_code == 200
    assert shown.json()["model_info"]["general.architecture"] == "llama"


async def test_copy_of_an_alias_is_a_copy_of_its_model(client: KeyClient) -> None:
    body = {"source": "gpt-4o-mini", "destination": "mine"}
    response = await client.post("/api/copy", body, content_type="application/json")
    models = await tags_of(client)

    assert response.status_code == 200
    assert models["alice/mine:latest"]["digest"] == models["tiny:latest"]["digest"]


async def test_copy_under_the_name_of_an_alias_comes_before_it(client: KeyClient) -> None:
    body = {"source": "tiny", "destination": "gpt-4o-mini"}
    await client.post("/api/copy", body, content_type="application/json")

    assert sorted(await tags_of(client)) == ["alice/gpt-4o-mini:latest", "tiny:latest"]


@pytest.mark.parametrize("is_admin", [False, True])
async def test_alias_cannot_be_deleted_like_a_model(
    client_for: ClientFor, alice: User, admin: User, *, is_admin: bool
) -> None:
    client = client_for(admin if is_admin else alice)
    response = await client.delete(
        "/api/delete", {"model": "gpt-4o-mini"}, content_type="application/json"
    )

    assert response.status_code == 400
    assert response.json() == {
        "error": "'gpt-4o-mini:latest' is an alias of 'tiny:latest': "
        "only an administrator removes it"
    }
    assert await sync_to_async(Tag.objects.count)() == await sync_to_async(Alias.objects.count)()


async def test_deleting_an_alias_of_a_hidden_model_finds_nothing(client: KeyClient) -> None:
    response = await client.delete(
        "/api/delete", {"model": "hidden"}, content_type="application/json"
    )

    assert (response.status_code, response.json()) == (404, {"error": "model 'hidden' not found"})

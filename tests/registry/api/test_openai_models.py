"""`GET /v1/models` and `/v1/models/<name>` (contract 3.6)."""

from collections.abc import Callable

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from models_app.keys import KeyRules, create_key
from models_app.models import Tag, User
from models_app.permissions import Scope
from tests.conftest import KeyClient, MakeModel
from tests.registry.api.test_tags import MOMENT

pytestmark = pytest.mark.django_db(transaction=True)

ClientFor = Callable[[User], KeyClient]
CREATED = int(MOMENT.timestamp())


@pytest.fixture
def client(client_for: ClientFor, alice: User) -> KeyClient:
    return client_for(alice)


@pytest.fixture
def models(make_model: MakeModel, alice: User) -> None:
    """One model of the library and one of Alice's."""
    make_model("mine", alice)
    make_model("tiny")
    Tag.objects.update(modified_at=MOMENT)


async def test_empty_site_lists_an_empty_array(client: KeyClient) -> None:
    response = await client.get("/v1/models")
    assert response.content == b'{"object":"list","data":[]}\n'
    assert response["Content-Type"] == "application/json"


@pytest.mark.usefixtures("models")
async def test_models_are_listed_with_their_namespace_as_owner(client: KeyClient) -> None:
    response = await client.get("/v1/models")
    assert response.content.decode() == (
        '{"object":"list","data":['
        f'{{"id":"tiny:latest","object":"model","created":{CREATED},"owned_by":"library"}},'
        f'{{"id":"alice/mine:latest","object":"model","created":{CREATED},"owned_by":"alice"}}'
        "]}\n"
    )


@pytest.mark.usefixtures("models")
async def test_foreign_models_are_not_listed(client_for: ClientFor, mallory: User) -> None:
    data = (await client_for(mallory).get("/v1/models")).json()["data"]
    assert [model["id"] for model in data] == ["tiny:latest"]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("tiny", "library"),
        ("tiny:latest", "library"),
        ("TINY", "library"),
        ("library/tiny", "library"),
        ("mine", "alice"),
        ("alice/mine:latest", "alice"),
        ("alice%2Fmine", "alice"),
        ("alice%2Fmine%3Alatest", "alice"),
    ],
)
async def test_one_model_is_told_under_the_name_that_was_asked_for(
    client: KeyClient, name: str, owner: str
) -> None:
    response = await client.get(f"/v1/models/{name}")
    shown = name.replace("%2F", "/").replace("%3A", ":")
    assert response.content.decode() == (
        f'{{"id":"{shown}","object":"model","created":{CREATED},"owned_by":"{owner}"}}\n'
    )
    assert response["Content-Type"] == "application/json"


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", ["nope", "alice/mine"])
async def test_unknown_and_hidden_models_are_not_found(
    client_for: ClientFor, mallory: User, name: str
) -> None:
    response = await client_for(mallory).get(f"/v1/models/{name}")
    assert response.content.decode() == (
        f'{{"error":{{"message":"model \'{name}:latest\' not found","type":"not_found_error",'
        '"param":"model","code":"model_not_found"}}\n'
    )
    assert (response.status_code, response["Content-Type"]) == (404, "application/json")


@pytest.mark.usefixtures("models")
async def test_own_model_is_deleted(client: KeyClient) -> None:
    response = await client.delete("/v1/models/alice%2Fmine%3Alatest")

    assert response.content == b'{"id":"alice/mine:latest","object":"model","deleted":true}\n'
    assert response["Content-Type"] == "application/json"
    assert (await client.get("/v1/models/alice/mine")).status_code == 404


@pytest.mark.usefixtures("models")
async def test_shared_model_cannot_be_deleted_by_everyone(client: KeyClient) -> None:
    response = await client.delete("/v1/models/tiny")

    assert response.status_code == 403
    assert (await client.get("/v1/models/tiny")).status_code == 200


@pytest.mark.usefixtures("models")
async def test_hidden_model_is_not_there_to_be_deleted(
    client_for: ClientFor, mallory: User
) -> None:
    hidden = await client_for(mallory).delete("/v1/models/alice/mine")
    missing = await client_for(mallory).delete("/v1/models/alice/none")

    assert hidden.status_code == missing.status_code == 404
    assert hidden.content.replace(b"mine", b"none") == missing.content


@pytest.mark.usefixtures("models")
async def test_key_that_may_only_read_deletes_nothing(client: KeyClient, alice: User) -> None:
    _, secret = await sync_to_async(create_key)(alice, "reader", KeyRules(scopes=(Scope.READ,)))
    reader = {"Authorization": f"Bearer {secret}"}

    response = await AsyncClient().delete("/v1/models/mine", headers=reader)
    seen = await AsyncClient().get("/v1/models/mine", headers=reader)

    assert (response.status_code, seen.status_code) == (403, 200)


async def test_bad_name_is_refused(client: KeyClient) -> None:
    response = await client.get("/v1/models/a%20b")
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_no_key_no_list(db: None) -> None:
    response = await AsyncClient().get("/v1/models")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


async def test_post_is_refused(client: KeyClient) -> None:
    response = await client.post("/v1/models")
    assert response.status_code == 405
    assert response.json()["error"]["message"] == "405 method not allowed"

"""`POST /api/copy`: one more name for a model (contract 1.9, 2.3)."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.models import LanguageModel, Manifest, Tag, User, Visibility
from registry.blobs import BlobStore
from tests.conftest import KeyClient, MakeModel

pytestmark = pytest.mark.django_db(transaction=True)

ClientFor = Callable[[User], KeyClient]


async def copy(client: KeyClient, source: Any, destination: Any) -> Any:
    body = {"source": source, "destination": destination}
    return await client.post("/api/copy", body, content_type="application/json")


async def names_of(client: KeyClient) -> set[str]:
    listed = (await client.get("/api/tags")).json()["models"]
    return {model["name"] for model in listed}


@pytest.fixture
def client(client_for: ClientFor, alice: User) -> KeyClient:
    return client_for(alice)


@pytest.fixture
def admin_client(client_for: ClientFor, admin: User) -> KeyClient:
    return client_for(admin)


@pytest.fixture
def tiny(make_model: MakeModel) -> str:
    return make_model("tiny", system="Be terse.")


@pytest.mark.usefixtures("tiny")
async def test_copy_is_answered_with_nothing(client: KeyClient) -> None:
    response = await copy(client, "tiny", "copy1")

    assert (response.status_code, response.content) == (200, b"")
    assert "Content-Type" not in response
    assert response["Content-Length"] == "0"


@pytest.mark.usefixtures("tiny")
async def test_copy_is_the_same_model_in_ones_own_namespace(client: KeyClient) -> None:
    await copy(client, "tiny", "copy1:v2")
    models = (await client.get("/api/tags")).json()["models"]

    assert [model["name"] for model in models] == ["alice/copy1:v2", "tiny:latest"]
    assert len({model["digest"] for model in models}) == 1


@pytest.mark.usefixtures("tiny")
async def test_admin_copies_within_the_library(admin_client: KeyClient) -> None:
    await copy(admin_client, "tiny", "copy1")

    assert await names_of(admin_client) == {"tiny:latest", "copy1:latest"}


@pytest.mark.usefixtures("tiny")
async def test_copy_is_private(client: KeyClient, client_for: ClientFor, bob: User) -> None:
    await copy(client, "tiny", "copy1")

    assert await names_of(client_for(bob)) == {"tiny:latest"}


async def test_destination_is_overwritten_and_what_it_was_is_gone(
    client: KeyClient, make_model: MakeModel, alice: User, tiny: str, store: BlobStore
) -> None:
    await sync_to_async(make_model)("old", alice, system="An old text.")
    files_before = len(list(store.root.iterdir()))
    response = await copy(client, "tiny", "old")

    assert response.status_code == 200
    assert await Manifest.objects.acount() == 1
    assert len(list(store.root.iterdir())) < files_before
    shown = await client.post("/api/show", {"model": "old"}, content_type="application/json")
    assert shown.json()["system"] == "Be terse."


async def test_existing_spelling_of_the_destination_is_kept(
    client: KeyClient, make_model: MakeModel, alice: User, tiny: str
) -> None:
    await sync_to_async(make_model)("Mine", alice)
    await copy(client, "TINY:Latest", "mIne:LATEST")

    assert await names_of(client) == {"tiny:latest", "alice/Mine:latest"}


async def test_copy_onto_itself_changes_nothing(
    client: KeyClient, make_model: MakeModel, alice: User
) -> None:
    await sync_to_async(make_model)("mine", alice)
    before = await Tag.objects.aget()
    response = await copy(client, "mine", "alice/MINE")

    assert response.status_code == 200
    assert (await Tag.objects.aget()).modified_at == before.modified_at


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("source", "destination", "status", "message"),
    [
        ("", "x", 400, 'source "" is invalid'),
        ("tiny", "", 400, 'destination "" is invalid'),
        (None, None, 400, 'source "" is invalid'),
        ("a b", "x", 400, 'source "a b" is invalid'),
        ("tiny ", "x", 400, 'source "tiny " is invalid'),
        ("tiny", "x ", 400, 'destination "x " is invalid'),
        ("tiny", "../../x", 400, 'destination "../../x" is invalid'),
        ("tiny", 'a"b', 400, 'destination "a\\"b" is invalid'),
        ("x:cloud:local", "x", 400, 'source "x:cloud:local" is invalid'),
        ("nope", "x", 404, 'model "nope" not found'),
        ("nope:7b", "x", 404, 'model "nope:7b" not found'),
        ("nope", "a b", 400, 'destination "a b" is invalid'),
        (
            3,
            "x",
            400,
            "json: cannot unmarshal number into Go struct field CopyRequest.source of type string",
        ),
    ],
)
async def test_bad_request_is_refused(
    client: KeyClient, source: Any, destination: Any, status: int, message: str
) -> None:
    response = await copy(client, source, destination)

    assert (response.status_code, response.json()) == (status, {"error": message})


async def test_empty_body_is_refused(client: KeyClient) -> None:
    response = await client.post("/api/copy", "", content_type="text/plain")

    assert (response.status_code, response.json()) == (400, {"error": "missing request body"})


async def test_private_source_looks_absent(
    client_for: ClientFor, make_model: MakeModel, alice: User, mallory: User, admin: User
) -> None:
    await sync_to_async(make_model)("secret", alice)
    for user in (mallory, admin):
        answers = [await copy(client_for(user), f"alice/{n}", "x") for n in ("secret", "absent")]
        hidden, absent = ((r.status_code, r.content.replace(b"secret", b"absent")) for r in answers)

        assert hidden == absent
        assert hidden[0] == 404


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("destination", ["bob/x", "library/x", "library/tiny"])
async def test_foreign_namespace_is_refused(client: KeyClient, destination: str) -> None:
    response = await copy(client, "tiny", destination)

    assert response.status_code == 403
    assert await names_of(client) == {"tiny:latest"}


async def test_shared_model_of_another_may_be_copied(
    client_for: ClientFor, make_model: MakeModel, alice: User, bob: User
) -> None:
    await sync_to_async(make_model)("shared", alice)
    await LanguageModel.objects.aupdate(visibility=Visibility.EVERYONE)
    client = client_for(bob)

    assert (await copy(client, "alice/shared", "shared")).status_code == 200
    assert await names_of(client) == {"alice/shared:latest", "bob/shared:latest"}


async def test_get_is_refused(client: KeyClient) -> None:
    response = await client.get("/api/copy")

    assert (response.status_code, response["Allow"]) == (405, "POST")

"""`DELETE /api/delete`: a name goes, and what only it needed (contract 1.9, 2.3, 8.3)."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.models import Blob, LanguageModel, Manifest, Tag, Upload, User, Visibility
from registry.blobs import BlobStore
from tests.conftest import KeyClient, MakeModel

pytestmark = pytest.mark.django_db(transaction=True)

ClientFor = Callable[[User], KeyClient]


async def delete(client: KeyClient, body: Any) -> Any:
    content = body if isinstance(body, str) else json.dumps(body)
    return await client.delete("/api/delete", content, content_type="text/plain")


@pytest.fixture
def client(client_for: ClientFor, alice: User) -> KeyClient:
    return client_for(alice)


@pytest.fixture
def mine(make_model: MakeModel, alice: User) -> str:
    return make_model("mine", alice, system="Only here.")


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    "body",
    [
        {"model": "mine"},
        {"name": "mine"},
        {"model": "MINE:Latest"},
        {"Model": "alice/mine"},
        {"model": "", "name": "mine"},
        {"model": "mine:local"},
        '{"model":"mine"} trailing',
    ],
)
async def test_model_is_deleted_without_a_word(
    client: KeyClient, store: BlobStore, body: Any
) -> None:
    response = await delete(client, body)

    assert (response.status_code, response.content) == (200, b"")
    assert "Content-Type" not in response
    tables = (LanguageModel, Tag, Manifest, Blob)
    assert [await table.objects.acount() for table in tables] == [0, 0, 0, 0]
    assert list(store.root.iterdir()) == []


@pytest.mark.usefixtures("mine")
async def test_deleted_model_is_not_found(client: KeyClient) -> None:
    await delete(client, {"model": "mine"})
    response = await delete(client, {"model": "mine"})

    assert (response.status_code, response.json()) == (404, {"error": "model 'mine' not found"})


async def test_files_that_others_need_are_kept(
    client: KeyClient, make_model: MakeModel, alice: User, mine: str, store: BlobStore
) -> None:
    await sync_to_async(make_model)("other", alice, system="Something else.")
    before = {path.name for path in store.root.iterdir()}
    await delete(client, {"model": "mine"})
    after = {path.name for path in store.root.iterdir()}

    assert after == {f"sha256-{blob.digest}" async for blob in Blob.objects.all()}
    assert len(before - after) == 1  # the system text; the configs are alike
    shown = await client.post("/api/show", {"model": "other"}, content_type="application/json")
    assert shown.status_code == 200


@pytest.mark.usefixtures("mine")
async def test_copy_keeps_everything(client: KeyClient, store: BlobStore) -> None:
    before = {path.name for path in store.root.iterdir()}
    body = {"source": "mine", "destination": "copy1"}
    await client.post("/api/copy", body, content_type="application/json")
    await delete(client, {"model": "mine"})

    assert {path.name for path in store.root.iterdir()} == before
    shown = await client.post("/api/show", {"model": "copy1"}, content_type="application/json")
    assert shown.json()["system"] == "Only here."


@pytest.mark.usefixtures("mine")
async def test_file_that_somebody_has_uploaded_is_kept(
    client: KeyClient, store: BlobStore, bob: User
) -> None:
    blob = await Blob.objects.order_by("-size_bytes").afirst()
    assert blob is not None
    await Upload.objects.acreate(user=bob, digest=blob.digest, size_bytes=blob.size_bytes)
    await delete(client, {"model": "mine"})

    assert [path.name for path in store.root.iterdir()] == [f"sha256-{blob.digest}"]


@pytest.mark.usefixtures("mine")
async def test_other_tags_stay(client: KeyClient, make_model: MakeModel, alice: User) -> None:
    await sync_to_async(make_model)("mine:v2", alice)
    await delete(client, {"model": "mine"})

    assert [str(tag) async for tag in Tag.objects.select_related("model")] == ["alice/mine:v2"]


@pytest.mark.usefixtures("mine")
async def test_model_that_is_made_again_is_private_again(
    client: KeyClient, make_model: MakeModel, alice: User
) -> None:
    await LanguageModel.objects.aupdate(visibility=Visibility.EVERYONE)
    await delete(client, {"model": "mine"})
    await sync_to_async(make_model)("mine", alice)

    assert (await LanguageModel.objects.aget()).visibility == Visibility.PRIVATE


@pytest.mark.usefixtures("mine")
async def test_model_whose_file_is_lost_can_be_deleted(client: KeyClient, store: BlobStore) -> None:
    for path in store.root.iterdir():
        path.unlink()

    assert (await delete(client, {"model": "mine"})).status_code == 200
    assert not await Tag.objects.aexists()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("", 400, "missing request body"),
        ({}, 400, "model is required"),
        ("null", 400, "model is required"),
        ({"model": "", "name": ""}, 400, "model is required"),
        ({"model": "a b"}, 400, 'name "a b" is invalid'),
        ({"name": "../x"}, 400, 'name "../x" is invalid'),
        ({"model": "mine "}, 400, 'name "mine " is invalid'),
        ({"model": "nope"}, 404, "model 'nope' not found"),
        ({"name": "nope:7b"}, 404, "model 'nope:7b' not found"),
        (
            {"model": 1},
            400,
            "json: cannot unmarshal number into Go struct field DeleteRequest.model of type string",
        ),
    ],
)
async def test_bad_request_is_refused(
    client: KeyClient, body: Any, status: int, message: str
) -> None:
    response = await delete(client, body)

    assert (response.status_code, response.json()) == (status, {"error": message})
    assert response["Content-Type"] == "application/json; charset=utf-8"


@pytest.fixture
def user(request: pytest.FixtureRequest) -> User:
    """The member of the cast that a test is parametrized with."""
    found: User = request.getfixturevalue(request.param)
    return found


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("user", ["mallory", "admin"], indirect=True)
async def test_foreign_private_model_looks_absent(client_for: ClientFor, user: User) -> None:
    client = client_for(user)
    answers = [await delete(client, {"model": f"alice/{name}"}) for name in ("mine", "none")]
    hidden, absent = ((r.status_code, r.content.replace(b"mine", b"none")) for r in answers)

    assert hidden == absent
    assert await Tag.objects.acount() == 1


@pytest.mark.parametrize(
    ("user", "status"), [("alice", 403), ("mallory", 403), ("admin", 200)], indirect=["user"]
)
async def test_only_admins_delete_models_of_the_library(
    client_for: ClientFor, make_model: MakeModel, user: User, status: int
) -> None:
    await sync_to_async(make_model)("common")

    assert (await delete(client_for(user), {"model": "common"})).status_code == status
    assert await Tag.objects.aexists() == (status == 403)


async def test_shared_model_of_another_is_not_deleted(
    client_for: ClientFor, mine: str, bob: User
) -> None:
    await LanguageModel.objects.aupdate(visibility=Visibility.EVERYONE)
    response = await delete(client_for(bob), {"model": "alice/mine"})

    assert response.status_code == 403
    assert await Tag.objects.aexists()


@pytest.mark.parametrize("method", ["get", "post"])
async def test_other_methods_are_refused(client: KeyClient, method: str) -> None:
    response = await getattr(client, method)("/api/delete")

    assert (response.status_code, response["Allow"]) == (405, "DELETE")

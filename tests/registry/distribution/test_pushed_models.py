"""A model that was pushed to `/v2` is there on `/api` at once, and for as long as its tag."""

from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.models import Blob, LanguageModel, Manifest, User
from registry import manifests
from registry.blobs import BlobStore
from registry.manifests import CONFIG_TYPE, MANIFEST_TYPE
from tests.conftest import MakeModel
from tests.registry.distribution.conftest import OCI_INDEX, Caller, digest_of, encoded


async def model(owner: Caller, weights: bytes, *, system: bytes = b"Be terse.") -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": await owner.add(b'{"model_format":"gguf"}', CONFIG_TYPE),
        "layers": [
            await owner.add(weights, manifests.MODEL),
            await owner.add(system, manifests.SYSTEM),
        ],
    }


async def names_of(caller: Caller) -> list[str]:
    return [entry["name"] for entry in (await caller.client.get("/api/tags")).json()["models"]]


@pytest.fixture
def weights(tiny_gguf: Path) -> bytes:
    return tiny_gguf.read_bytes()


async def test_pushed_model_is_its_owners_at_once(
    owner: Caller, other: Caller, weights: bytes
) -> None:
    document = await model(owner, weights)
    pushed = await owner.put(document, "v1")
    assert pushed.status == 201, pushed.text
    assert await names_of(owner) == ["alice/thing:v1"]
    listed = (await owner.client.get("/api/tags")).json()["models"][0]
    assert listed["digest"] == digest_of(encoded(document)).removeprefix("sha256:")
    shown = await owner.client.post("/api/show", {"model": "thing:v1"})
    assert shown.json()["system"] == "Be terse."
    assert await names_of(other) == []


async def test_model_in_the_library_is_for_everybody(
    owner: Caller, administrator: Caller, weights: bytes
) -> None:
    library = administrator.about("library/all")
    await library.put(await model(library, weights), "latest")
    assert await names_of(owner) == ["all:latest"]


async def test_model_goes_with_its_tag(owner: Caller, weights: bytes) -> None:
    await owner.put(await model(owner, weights), "v1")
    await owner.ask("DELETE", "manifests/v1")
    assert await names_of(owner) == []


async def test_model_that_api_deletes_leaves_nothing_in_the_registry(
    owner: Caller, weights: bytes
) -> None:
    document = await model(owner, weights)
    await owner.put(document, "v1")
    deleted = await owner.client.request("DELETE", "/api/delete", data={"model": "thing:v1"})
    assert deleted.status == 200
    digest = digest_of(encoded(document))
    assert (await owner.ask("GET", f"manifests/{digest}")).status == 404
    assert not await Manifest.objects.aexists()
    assert not await Blob.objects.aexists()


async def test_model_without_a_tag_is_no_model_yet(owner: Caller, weights: bytes) -> None:
    document = await model(owner, weights)
    await owner.put(document)
    assert await names_of(owner) == []
    await owner.put(document, "v1")
    assert await names_of(owner) == ["alice/thing:v1"]


async def test_what_is_no_model_is_not_listed_among_them(owner: Caller) -> None:
    await owner.put({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, "v1")
    assert await owner.tags() == ["v1"]
    assert await names_of(owner) == []
    shown = await owner.client.post("/api/show", {"model": "thing:v1"})
    assert shown.status == 404


async def test_weights_that_are_no_gguf_are_refused(owner: Caller) -> None:
    answer = await owner.put(await model(owner, b"no weights"), "v1")
    assert (answer.status, answer.json()["errors"][0]["code"]) == (400, "MANIFEST_INVALID")
    assert not await LanguageModel.objects.filter(tags__isnull=False).aexists()


async def test_model_that_was_created_here_is_pulled(
    owner: Caller, make_model: MakeModel, alice: User, store: BlobStore
) -> None:
    await sync_to_async(make_model)("tiny:v1", alice)
    created = owner.about("alice/tiny")
    answer = await created.ask("GET", "manifests/v1")
    assert (answer.status, answer.content_type) == (200, MANIFEST_TYPE)
    listed = (await owner.client.get("/api/tags")).json()["models"][0]
    assert digest_of(answer.body) == f"sha256:{listed['digest']}"
    assert await created.tags() == ["v1"]


async def test_model_that_was_created_here_goes_whole_with_its_tag(
    owner: Caller, make_model: MakeModel, alice: User, store: BlobStore
) -> None:
    await sync_to_async(make_model)("tiny:v1", alice)
    assert (await owner.about("alice/tiny").ask("DELETE", "manifests/v1")).status == 202
    assert not await LanguageModel.objects.aexists()
    assert list(store.root.glob("sha256-*")) == []

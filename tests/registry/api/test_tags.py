"""`GET /api/tags`: exact shape and order (contract 1.7)."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import AsyncClient

from models_app.models import LanguageModel, Manifest, Tag, User, Visibility
from registry.api.native import format_time
from tests.conftest import KeyClient, MakeModel

pytestmark = pytest.mark.django_db(transaction=True)

ClientFor = Callable[[User], KeyClient]
MOMENT = datetime(2026, 11, 22, 0, 46, 58, 693015, tzinfo=UTC)


@pytest.fixture
def client(client_for: ClientFor, alice: User) -> KeyClient:
    return client_for(alice)


async def test_empty_site_lists_an_empty_array(client: KeyClient) -> None:
    response = await client.get("/api/tags")
    assert response.content == b'{"models":[]}'
    assert response["Content-Type"] == "application/json; charset=utf-8"


@pytest.fixture
def tiny(make_model: MakeModel) -> Manifest:
    """One model of the library, made at a known time."""
    make_model("tiny")
    Tag.objects.update(modified_at=MOMENT)
    return Manifest.objects.get()


async def test_entry_has_every_field_in_ollamas_order(client: KeyClient, tiny: Manifest) -> None:
    response = await client.get("/api/tags")
    size = response.json()["models"][0]["size"]
    assert response.content.decode() == (
        '{"models":[{"name":"tiny:latest","model":"tiny:latest",'
        f'"modified_at":"2026-11-22T00:46:58.693015Z","size":{size},"digest":"{tiny.digest}",'
        '"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],'
        '"parameter_size":"123K","quantization_level":"F32","context_length":512,'
        '"embedding_length":64},"capabilities":["completion"]}]}'
    )


async def test_what_the_config_does_not_tell_is_left_out(client: KeyClient, tiny: Manifest) -> None:
    await Manifest.objects.filter(pk=tiny.pk).aupdate(config={"model_format": "gguf"})
    (entry,) = (await client.get("/api/tags")).json()["models"]
    assert entry["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }
    assert "capabilities" not in entry


@pytest.fixture
def private_and_shared(make_model: MakeModel, alice: User) -> None:
    """Two models of Alice's, one for everybody, and one of the library."""
    make_model("private", alice)
    make_model("shared", alice)
    make_model("common")
    LanguageModel.objects.filter(name="shared").update(visibility=Visibility.EVERYONE)


@pytest.mark.usefixtures("private_and_shared")
async def test_own_models_are_listed_with_their_namespace(client: KeyClient) -> None:
    models = (await client.get("/api/tags")).json()["models"]
    names = [model["name"] for model in models]
    assert names == ["common:latest", "alice/shared:latest", "alice/private:latest"]


@pytest.mark.usefixtures("private_and_shared")
async def test_foreign_private_models_are_not_listed(client_for: ClientFor, mallory: User) -> None:
    response = await client_for(mallory).get("/api/tags")
    names = [model["name"] for model in response.json()["models"]]
    assert names == ["common:latest", "alice/shared:latest"]


async def test_head_has_no_body(client: KeyClient) -> None:
    response = await client.head("/api/tags")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
async def test_other_methods_are_refused(client: KeyClient, method: str) -> None:
    response = await getattr(client, method)("/api/tags")
    assert (response.status_code, response.content) == (405, b"405 method not allowed")


async def test_no_key_no_list(db: None) -> None:
    response = await AsyncClient().get("/api/tags")
    assert (response.status_code, response.json()) == (401, {"error": "unauthorized"})


@pytest.fixture
def thousand_models(tiny: Manifest) -> None:
    """A thousand more models, each with a manifest of its own."""
    manifests = Manifest.objects.bulk_create(
        Manifest(
            digest=f"{number:064x}",
            body=bytes(tiny.body),
            config=tiny.config,
            size_bytes=tiny.size_bytes,
        )
        for number in range(1000)
    )
    models = LanguageModel.objects.bulk_create(
        LanguageModel(name=f"model{number}", visibility=Visibility.EVERYONE)
        for number in range(1000)
    )
    Tag.objects.bulk_create(
        Tag(model=model, name="latest", manifest=manifest)
        for model, manifest in zip(models, manifests, strict=True)
    )


@pytest.mark.usefixtures("thousand_models")
async def test_a_thousand_models_are_listed_at_once(client: KeyClient) -> None:
    assert len((await client.get("/api/tags")).json()["models"]) == 1001
    times_s = []
    for _ in range(5):
        start = time.process_time()
        await client.get("/api/tags")
        times_s.append(time.process_time() - start)
    # The aim is 50 ms on a quiet machine; those that test are slow and busy.
    assert min(times_s) < 0.25


@pytest.mark.parametrize(
    ("microsecond", "zone", "text"),
    [
        (693015, "UTC", "2026-11-22T00:46:58.693015Z"),
        (500000, "UTC", "2026-11-22T00:46:58.5Z"),
        (0, "UTC", "2026-11-22T00:46:58Z"),
        (0, "Europe/Berlin", "2026-11-22T01:46:58+01:00"),
        (1, "America/St_Johns", "2026-11-21T21:16:58.000001-03:30"),
    ],
)
def test_time_is_written_as_go_does(settings: Any, microsecond: int, zone: str, text: str) -> None:
    settings.TIME_ZONE = zone
    assert format_time(MOMENT.replace(microsecond=microsecond)) == text

"""`GET /api/ps`: what is in memory, as far as one may know (contract 1.7)."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from msgspec import structs

from inference.messages import LoadedModel
from models_app.models import User
from tests.fakes.engine import FakeNode
from tests.fakes.http import AsgiClient
from tests.inference.conftest import bearer_for

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def loaded(name: str, digest: str, **changes: Any) -> LoadedModel:
    model = LoadedModel(
        name=name,
        digest=digest,
        size_bytes=209505483,
        size_vram_bytes=0,
        context_length=4096,
        expires_in_s=300.0,
    )
    return structs.replace(model, **changes)


async def digest_of(api: AsgiClient, name: str) -> str:
    models = (await api.get("/api/tags")).json()["models"]
    [digest] = [model["digest"] for model in models if model["name"] == name]
    return str(digest)


async def test_nothing_is_loaded_at_first(node: FakeNode, model: str, api: AsgiClient) -> None:
    answer = await api.get("/api/ps")

    assert answer.status == 200
    assert answer.content_type == "application/json; charset=utf-8"
    assert answer.text == '{"models":[]}'


async def test_loaded_model_is_listed_in_the_contracts_order(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post("/api/generate", {"model": model})
    [entry] = (await api.get("/api/ps")).json()["models"]

    assert list(entry) == [
        "name",
        "model",
        "size",
        "digest",
        "details",
        "expires_at",
        "size_vram",
        "context_length",
    ]
    assert (entry["name"], entry["model"]) == (model, model)
    assert entry["digest"] == await digest_of(api, model)
    assert entry["context_length"] == 4096
    assert list(entry["details"]) == [
        "parent_model",
        "format",
        "family",
        "families",
        "parameter_size",
        "quantization_level",
    ]


async def test_expiry_is_a_time(node: FakeNode, model: str, api: AsgiClient) -> None:
    await api.post("/api/generate", {"model": model, "keep_alive": "10m"})
    [entry] = (await api.get("/api/ps")).json()["models"]

    assert TIME.fullmatch(entry["expires_at"])
    expires = datetime.fromisoformat(entry["expires_at"])
    assert timedelta(minutes=9) < expires - datetime.now(UTC) <= timedelta(minutes=10)


async def test_model_kept_for_ever_expires_in_about_292_years(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post("/api/generate", {"model": model, "keep_alive": -1})
    [entry] = (await api.get("/api/ps")).json()["models"]

    years = datetime.fromisoformat(entry["expires_at"]).year - datetime.now(UTC).year
    assert years in {292, 293}


async def test_stranger_does_not_see_a_private_model(
    node: FakeNode, model: str, bobs_model: str, bob_api: AsgiClient, api: AsgiClient
) -> None:
    await bob_api.post("/api/generate", {"model": bobs_model})

    assert len((await bob_api.get("/api/ps")).json()["models"]) == 1
    assert (await api.get("/api/ps")).json() == {"models": []}


async def test_model_is_shown_under_a_name_that_one_may_know(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    digest = await digest_of(api, model)
    node.loaded[digest] = loaded("bob/secret:latest", digest)

    [entry] = (await api.get("/api/ps")).json()["models"]

    assert entry["name"] == model


async def test_deleted_model_is_shown_to_whom_it_belonged(
    node: FakeNode, model: str, api: AsgiClient, bob_api: AsgiClient
) -> None:
    node.loaded["f" * 64] = loaded("alice/gone:latest", "f" * 64)

    [entry] = (await api.get("/api/ps")).json()["models"]

    assert (entry["name"], entry["digest"]) == ("alice/gone:latest", "f" * 64)
    assert entry["details"]["format"] == "gguf"
    assert (await bob_api.get("/api/ps")).json() == {"models": []}


async def test_name_it_was_loaded_under_is_kept_after_its_deletion(
    node: FakeNode, model: str, api: AsgiClient, bob_api: AsgiClient
) -> None:
    digest = await digest_of(api, model)
    node.loaded[digest] = loaded("alice/copy:latest", digest)

    [own] = (await api.get("/api/ps")).json()["models"]
    [others] = (await bob_api.get("/api/ps")).json()["models"]

    assert (own["name"], others["name"]) == ("alice/copy:latest", model)


async def test_deleted_model_of_the_library_is_shown_to_who_may_write_there(
    node: FakeNode, model: str, api: AsgiClient, admin: User
) -> None:
    root_api = AsgiClient(await sync_to_async(bearer_for)(admin))
    node.loaded["f" * 64] = loaded("gone:latest", "f" * 64)

    assert len((await root_api.get("/api/ps")).json()["models"]) == 1
    assert (await api.get("/api/ps")).json() == {"models": []}


async def test_own_name_on_another_host_is_not_ones_own(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.loaded["f" * 64] = loaded("elsewhere.example/alice/x:latest", "f" * 64)

    assert (await api.get("/api/ps")).json() == {"models": []}


async def test_latest_expiry_comes_first(
    node: FakeNode, model: str, api: AsgiClient, bob_api: AsgiClient
) -> None:
    for name, seconds in (("soon", 60.0), ("never", None), ("later", 600.0)):
        digest = name[0] * 64
        node.loaded[digest] = loaded(f"alice/{name}:latest", digest, expires_in_s=seconds)

    names = [entry["name"] for entry in (await api.get("/api/ps")).json()["models"]]

    assert names == ["alice/never:latest", "alice/later:latest", "alice/soon:latest"]


async def test_engine_that_is_away_is_a_503(model: str, api: AsgiClient, settings: Any) -> None:
    settings.ENGINE_SOCKET = settings.RUN_DIR / "nobody.sock"
    answer = await api.get("/api/ps")

    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    assert list(answer.json()) == ["error"]

"""The health routes of a process that stands alone: no Redis, no engine."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import AsyncClient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def starting_mark() -> Iterator[None]:
    settings.RUN_DIR.mkdir(parents=True, exist_ok=True)
    settings.STARTING_MARK.touch()
    yield
    settings.STARTING_MARK.unlink()


async def read_readyz(async_client: AsyncClient) -> tuple[int, Any]:
    response = await async_client.get("/readyz")
    return response.status_code, response.json()


async def test_healthz_is_ok_without_anything_else(async_client: AsyncClient) -> None:
    response = await async_client.get("/healthz")

    assert (response.status_code, response.content) == (200, b"ok")
    assert response["Content-Type"] == "text/plain; charset=utf-8"


async def test_readyz_names_what_is_missing(async_client: AsyncClient) -> None:
    status, body = await read_readyz(async_client)

    assert status == 503
    assert body == {
        "status": "unavailable",
        "checks": {
            "database": "ok",
            "redis": "unavailable",
            "engine": "unavailable",
            "start": "ok",
        },
    }


@pytest.mark.usefixtures("starting_mark")
async def test_readyz_says_starting_during_the_first_start(async_client: AsyncClient) -> None:
    status, body = await read_readyz(async_client)

    assert (status, body["status"]) == (503, "starting")


async def test_readyz_is_not_kept_by_a_proxy(async_client: AsyncClient) -> None:
    response = await async_client.get("/readyz")

    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_read_only(async_client: AsyncClient, path: str) -> None:
    assert (await async_client.post(path)).status_code == 405

"""`GET /api/status`: there is no cloud behind this site (contract 1.1)."""

from collections.abc import Callable

import pytest

from models_app.models import User
from tests.conftest import KeyClient

pytestmark = pytest.mark.django_db(transaction=True)


async def test_cloud_is_disabled(client_for: Callable[[User], KeyClient], alice: User) -> None:
    response = await client_for(alice).get("/api/status")

    assert response.content == b'{"cloud":{"disabled":true,"source":"config"}}'
    assert response["Content-Type"] == "application/json; charset=utf-8"

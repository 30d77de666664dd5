"""`GET /api/storage`: how much one's namespaces hold and may hold."""

from collections.abc import Callable

import pytest
from asgiref.sync import sync_to_async
from pytest_django.fixtures import Settings

from models_app.models import User
from models_app.namespaces import stored_bytes
from tests.conftest import KeyClient, MakeModel

pytestmark = pytest.mark.django_db(transaction=True)


async def test_own_namespace_is_told(
    client_for: Callable[[User], KeyClient], alice: User, settings: Settings
) -> None:
    settings.NAMESPACE_QUOTA_BYTES = 5
    response = await client_for(alice).get("/api/storage")

    assert response.status_code == 200
    assert response.json() == {
        "namespaces": [{"namespace": "alice", "used_bytes": 0, "quota_bytes": 5}]
    }


async def test_admin_is_told_of_the_library_too(
    make_model: MakeModel, client_for: Callable[[User], KeyClient], admin: User
) -> None:
    await sync_to_async(make_model)("shared")
    used_bytes = await sync_to_async(stored_bytes)("library")
    response = await client_for(admin).get("/api/storage")

    assert used_bytes > 0
    assert response.json()["namespaces"] == [
        {"namespace": "root", "used_bytes": 0, "quota_bytes": None},
        {"namespace": "library", "used_bytes": used_bytes, "quota_bytes": None},
    ]

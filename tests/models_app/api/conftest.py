"""Clients for the routes about people: each of the cast with a key, in the real application."""

from collections.abc import Iterator
from typing import Any

import pytest

from models_app import principal_cache
from models_app.models import User
from tests.fakes.http import AsgiClient
from tests.inference.conftest import bearer_for


@pytest.fixture(autouse=True)
def _nothing_is_remembered(transactional_db: None) -> Iterator[None]:
    """Roles change between two requests of a test, within what a process remembers of a key."""
    principal_cache.forget_all()
    yield
    principal_cache.forget_all()


class Caller:
    """Somebody with a key, whose changed roles count at once."""

    def __init__(self, user: User) -> None:
        self._client = AsgiClient(bearer_for(user))

    async def __call__(self, method: str, path: str, data: Any = None) -> Any:
        """Send a request and return the answer."""
        principal_cache.forget_all()
        return await self._client.request(method, path, data=data)


@pytest.fixture
def as_admin(admin: User) -> Caller:
    return Caller(admin)


@pytest.fixture
def as_alice(alice: User) -> Caller:
    return Caller(alice)


@pytest.fixture
def as_bob(bob: User) -> Caller:
    return Caller(bob)


@pytest.fixture
def as_mallory(mallory: User) -> Caller:
    return Caller(mallory)


@pytest.fixture
def stranger(transactional_db: None) -> AsgiClient:
    """Nobody."""
    return AsgiClient()

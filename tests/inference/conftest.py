"""A fake engine behind the real site, a model to ask, clients that go through the whole stack."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inference.fleet import engine_fleet
from models_app.keys import create_key
from models_app.models import User
from tests.conftest import MakeModel
from tests.fakes.engine import FakeNode, running_node
from tests.fakes.http import AsgiClient

CHATML = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
    "{{ end }}<|im_start|>assistant\n"
)
MODEL = "smollm2:135m"


def bearer_for(user: User) -> dict[str, str]:
    """Return the header that carries a new key of the user."""
    return {"authorization": f"Bearer {create_key(user, 'test key')[1]}"}


@pytest.fixture
async def node(settings: Any) -> AsyncIterator[FakeNode]:
    """A fake engine where the site looks for its engine."""
    async with running_node() as running:
        settings.ENGINE_SOCKET = running.socket_path
        yield running
        engine_fleet(running.socket_path).close()
        await asyncio.sleep(0)


@pytest.fixture
def model(transactional_db: None, make_model: MakeModel) -> str:
    """A model of the library that everyone may use."""
    stops = ["<|im_start|>", "<|im_end|>"]
    return make_model(MODEL, template=CHATML, parameters={"stop": stops})


@pytest.fixture
def api(transactional_db: None, alice: User) -> AsgiClient:
    """Alice with a key."""
    return AsgiClient(bearer_for(alice))


@pytest.fixture
def stranger(transactional_db: None) -> AsgiClient:
    """Nobody."""
    return AsgiClient()


@pytest.fixture
def bobs_model(transactional_db: None, bob: User, make_model: MakeModel) -> str:
    """A model that only Bob may know of."""
    return make_model("bob/secret", bob, system="Bob's own words")


@pytest.fixture
def bob_api(transactional_db: None, bob: User) -> AsgiClient:
    """Bob with a key."""
    return AsgiClient(bearer_for(bob))

"""Each WebSocket × credential × role is what the policy table says."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app import principal_cache
from models_app.policy import WEBSOCKETS
from models_app.sockets import CLOSE_FORBIDDEN, CLOSE_UNAUTHENTICATED
from tests.access.presented import Person, Role, Shown, make_person
from tests.credentials import ORIGIN
from tests.fakes.websocket import Socket


def expected(route: str, person: Person, shown: Shown) -> int | None:
    """Return the code with which a socket is closed; None: it is not."""
    if shown is Shown.NO_CSRF:  # a page of another site opens it
        return CLOSE_FORBIDDEN
    principal = person.principals.get(shown)
    if principal is None or shown is Shown.SIGNATURE:  # nobody signs one
        return CLOSE_UNAUTHENTICATED
    return None if WEBSOCKETS[route].admits(principal, "GET") else CLOSE_FORBIDDEN


async def closing_code(path: str, headers: dict[str, str]) -> int | None:
    """Return the code with which the site closes a socket; None: it says something instead."""
    raw = tuple((name.encode(), text.encode()) for name, text in headers.items())
    wire = Socket(*raw, path=path).wire
    await wire.connect()
    await wire.send_to(text_data="{}")
    event: dict[str, Any] = await wire.receive_output(timeout=20)
    await wire.disconnect(timeout=20)
    return int(event["code"]) if event["type"] == "websocket.close" else None


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("route", WEBSOCKETS)
async def test_every_credential_of_every_role_gets_what_the_table_says(
    transactional_db: None, route: str, role: Role
) -> None:
    person = await sync_to_async(make_person)(role)
    principal_cache.forget_all()
    path, wrong = f"/{route}", {}
    for shown in Shown:
        _, headers = person.request(shown, "GET", path)
        origin = {"origin": "http://elsewhere.example" if shown is Shown.NO_CSRF else ORIGIN}
        code = await closing_code(path, {**headers, **origin})
        if code != expected(route, person, shown):
            wrong[shown.name] = code

    assert wrong == {}

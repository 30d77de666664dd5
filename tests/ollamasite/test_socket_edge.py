"""WebSockets while the database or Redis is away, and behind a client that has left."""

import asyncio
import contextlib
import importlib
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError

from models_app import sockets
from models_app.keys import KeyRules, create_key
from models_app.models import User
from models_app.permissions import Scope
from ollamasite import outages
from ollamasite.outages import Outage
from ollamasite.socket_edge import SocketEdge
from tests.fakes.websocket import Socket

# Threads that are lent may have connections of earlier tests, which are looked at.
pytestmark = pytest.mark.django_db

AWAY = "connection is bad: no such file or directory"
ROUTES = ["ws/chat", "ws/chats", "ws/jobs"]


@pytest.fixture(scope="module", autouse=True)
def _application() -> None:
    """Loading it sets up logging anew, and a test's own handler would be gone."""
    importlib.import_module("ollamasite.asgi")


@pytest.fixture
def key(transactional_db: None, alice: User) -> tuple[bytes, bytes]:
    _, secret = create_key(alice, "key", KeyRules(scopes=tuple(Scope)))
    return (b"x-api-key", secret.encode())


@pytest.fixture
async def socket(key: tuple[bytes, bytes]) -> AsyncIterator[Socket]:
    socket = Socket(key, path="/ws/chat")
    yield socket
    with contextlib.suppress(asyncio.CancelledError):
        await socket.wire.disconnect(timeout=20)


@pytest.fixture
def _database_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError(AWAY)

    monkeypatch.setattr(sockets, "_authenticate", fail)


@pytest.mark.usefixtures("_database_away")
@pytest.mark.parametrize("route", ROUTES)
async def test_handshake_is_refused_while_the_database_is_away(
    route: str, caplog: pytest.LogCaptureFixture
) -> None:
    socket = Socket(path=f"/{route}")
    socket.wire.scope["extensions"] = {"websocket.http.response": {}}
    await socket.wire.send_input({"type": "websocket.connect"})
    begin = await socket.wire.receive_output(timeout=20)
    body = await socket.wire.receive_output(timeout=20)

    assert (begin["type"], begin["status"]) == ("websocket.http.response.start", 503)
    assert b"please try again" in body["body"]
    assert AWAY.encode() not in body["body"]
    [line] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert AWAY in line.getMessage()
    assert line.exc_info is None


@pytest.mark.usefixtures("_database_away")
async def test_server_that_cannot_refuse_with_words_closes_before_it_accepts() -> None:
    socket = Socket(path="/ws/chats")
    await socket.wire.send_input({"type": "websocket.connect"})
    assert await socket.close_code() == 1013


async def test_open_socket_is_closed_with_come_again(
    socket: Socket, request: pytest.FixtureRequest
) -> None:
    assert (await socket.wire.connect(timeout=20))[0]
    request.getfixturevalue("_database_away")
    messages = [{"role": "user", "content": "Hello"}]
    await socket.send(type="chat", id="a", model="tiny", messages=messages)

    assert await socket.close_code() == 1013


async def test_unknown_failure_is_an_internal_error_with_an_id(
    socket: Socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await socket.wire.connect(timeout=20))[0]

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sockets, "_authenticate", fail)
    messages = [{"role": "user", "content": "Hello"}]
    await socket.send(type="chat", id="a", model="tiny", messages=messages)

    assert await socket.close_code() == 1011
    assert "unexpected error" in caplog.text


async def test_who_has_left_hears_nothing_and_nobody_fails() -> None:
    sent: list[str] = []

    async def consumer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        for _ in range(3):
            await send({"type": "websocket.send", "text": "x"})
        assert (await receive())["type"] == "websocket.disconnect"
        await send({"type": "websocket.close", "code": 1000})

    async def send(event: Any) -> None:
        sent.append(event["type"])
        if event["type"] == "websocket.send":
            raise BrokenPipeError

    async def receive() -> Any:
        return {"type": "websocket.disconnect", "code": 1006}

    await SocketEdge(consumer)({"type": "websocket"}, receive, send)

    assert sent == ["websocket.accept", "websocket.send"]


async def test_sockets_do_not_share_one_thread() -> None:
    together = threading.Barrier(4)

    async def consumer(scope: Any, receive: Any, send: Any) -> None:
        await sync_to_async(together.wait)(timeout=60)

    async def send(event: Any) -> None:
        raise AssertionError(event)  # it would tell of a barrier that is broken

    edge = SocketEdge(consumer)
    await asyncio.gather(*(edge({"type": "websocket"}, None, send) for _ in range(4)))


def test_outage_is_told_of_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("the cellar", "there is no wine")
    outage.ends()
    for _ in range(3):
        outage.begins(OSError("locked"))
    assert outage.is_on
    for _ in range(2):
        outage.ends()
    outage.begins(OSError("locked"))

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert told[0] == told[2] == "the cellar does not answer: there is no wine (locked)"
    assert told[1].startswith("the cellar answers again after")


def test_what_a_library_says_of_redis_again_and_again_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages.redis, "_began_s", None)
    library = logging.getLogger("channels_redis.pubsub")
    for error in (RedisConnectionError("gone"), RedisConnectionError("gone"), KeyError("bug")):
        library.error("Unexpected exception in receive task", exc_info=error)

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("Redis does not answer")
    assert caplog.records[1].exc_info is not None

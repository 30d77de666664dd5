"""A real WebSocket client against a really listening site."""

import json

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from inference.messages import Cancel
from tests.contract.conftest import RunningSite
from tests.fakes.engine import Script


def opened(site: RunningSite, headers: dict[str, str]) -> ClientConnection:
    url = site.url.replace("http", "ws") + "/ws/chat"
    return connect(url, additional_headers=headers, open_timeout=60)


def question(model: str) -> str:
    messages = [{"role": "user", "content": "Hello"}]
    return json.dumps({"type": "chat", "id": "a", "model": model, "messages": messages})


def test_answer_is_streamed(site: RunningSite, model: str) -> None:
    with opened(site, {"X-Api-Key": site.key}) as socket:
        socket.send(question(model))
        messages = [json.loads(socket.recv(timeout=60)) for _ in range(3)]

    assert [message["type"] for message in messages] == ["token", "token", "done"]


def test_client_that_drops_off_cancels(site: RunningSite, model: str) -> None:
    site.node.scripts.append(Script(pieces=("a",), is_held=True))
    with opened(site, {"X-Api-Key": site.key}) as socket:
        socket.send(question(model))
        socket.recv(timeout=60)

    site.wait_for(Cancel)


def test_nobody_learns_why_the_socket_closes(site: RunningSite) -> None:
    with opened(site, {}) as socket, pytest.raises(ConnectionClosedError) as caught:
        socket.recv(timeout=60)

    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401

"""How a web process goes: who is let in, which connections stay, who is told."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from ollamasite import draining, leaving


@pytest.fixture(autouse=True)
def _stays() -> Iterator[None]:
    yield
    leaving.stay()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_whoever_is_in_is_accepted_and_nobody_else(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as let_in:
        let_in.sendall(b"asked")
        draining.let_nobody_in([listener])
        with socket.socket() as late:
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            let_in.sendall(b" and more")
            said = b""
            while len(said) < len(b"asked and more"):
                said += accepted.recv(100)
            accepted.sendall(b"answered")
            answered = let_in.recv(100)

    assert (said, answered) == (b"asked and more", b"answered")


def test_socket_that_is_not_tcp_is_no_reason_to_stop(tmp_path: Any) -> None:
    draining.let_nobody_in([])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        draining.let_nobody_in([listener])


class Heard:
    """Counts how often it was told."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_listeners_hear_once_and_late_ones_at_once() -> None:
    early, forgotten, late = Heard(), Heard(), Heard()
    leaving.listen(early)
    leaving.listen(forgotten)
    leaving.forget(forgotten)
    leaving.begin()
    leaving.begin()
    leaving.listen(late)
    leaving.forget(late)
    leaving.forget(early)

    assert (early.times, forgotten.times, late.times) == (1, 0, 1)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.2 if scope["path"] == "/slow" else 0)
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


class Served:
    """A server in this loop, and raw connections to it."""

    def __init__(self) -> None:
        config = uvicorn.Config(
            _app,
            http=draining.DrainingProtocol,
            ws=draining.DrainingWebSocket,
            lifespan="off",
            log_config=None,
            access_log=False,
        )
        config.load()
        self.server = uvicorn.Server(config)
        self.server.lifespan = config.lifespan_class(config)
        self.listener = socket.create_server(("127.0.0.1", 0))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.listener.getsockname())


@pytest.fixture
async def served() -> Any:
    served = Served()
    await served.server.startup(sockets=[served.listener])
    yield served
    await served.server.shutdown(sockets=[served.listener])


def question(path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def test_question_on_its_way_is_answered_and_is_the_last(served: Served) -> None:
    fresh_reader, fresh = await served.connect()
    used_reader, used = await served.connect()
    used.write(question())
    assert b"200 OK" in await used_reader.readuntil(b"ok")
    leaving.begin()
    going = asyncio.create_task(served.server.shutdown(sockets=[served.listener]))
    await asyncio.sleep(0.1)
    fresh.write(question("/slow"))
    used.write(question())
    answers = [await reader.read() for reader in (fresh_reader, used_reader)]
    await going
    for writer in (fresh, used):
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    for answer in answers:
        assert answer.endswith(b"ok")
        assert b"connection: close" in answer


async def test_connection_on_which_nothing_is_asked_is_closed(served: Served) -> None:
    reader, writer = await served.connect()
    await asyncio.wait_for(served.server.shutdown(sockets=[served.listener]), 20)
    assert await reader.read() == b""
    writer.close()

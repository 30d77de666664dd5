"""How serve asks its own web process: against a small real server on a socket."""

import asyncio
from collections.abc import Callable

import pytest

from ollamasite.self_probe import SelfProbe


async def serve(answer: Callable[[str], bytes]) -> tuple[asyncio.Server, SelfProbe]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(request.split()[1].decode()))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, SelfProbe("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104
        ("::", "http://[::1]:80"),
        ("10.0.0.7", "http://10.0.0.7:80"),
        ("gpu-box", "http://gpu-box:80"),
    ],
)
def test_url_can_be_opened_on_this_machine(host: str, url: str) -> None:
    assert SelfProbe(host, 80).url == url


@pytest.mark.parametrize(("status", "is_well"), [("200 OK", True), ("500 Oh", False)])
async def test_site_answers_when_healthz_is_200(status: str, is_well: bool) -> None:
    server, probe = await serve(lambda _: f"HTTP/1.1 {status}\r\n\r\nok".encode())

    async with server:
        assert await probe.answers() is is_well


async def test_nobody_listening_is_no_answer() -> None:
    server, probe = await serve(lambda _: b"")
    server.close()
    await server.wait_closed()

    assert not await probe.answers()


async def test_something_that_is_not_http_is_no_answer() -> None:
    server, probe = await serve(lambda _: b"SSH-2.0-OpenSSH\r\n")

    async with server:
        assert not await probe.answers()


async def test_wait_ends_once_the_site_is_ready() -> None:
    answers = iter([b"HTTP/1.1 503 No\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n\r\n{}"])
    server, probe = await serve(lambda _: next(answers))

    async with server:
        assert await probe.wait_until_ready(10)


async def test_what_is_missing_is_said_when_the_site_does_not_get_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, probe = await serve(lambda _: b'HTTP/1.1 503 No\r\n\r\n{"checks":{"redis":"gone"}}')

    async with server:
        assert not await probe.wait_until_ready(0.1)
    assert '{"redis":"gone"}' in caplog.text

"""Large bodies: read past the parser where that can be, and the same bytes in any case."""

import asyncio
import gzip
from collections.abc import Callable

import pytest

from ollamasite.errors import OutboundFailed, OutboundTimedOut, OutboundTooLarge
from ollamasite.outbound.client import Answer, Caps, OutboundClient
from ollamasite.outbound.hosts import AllowedHosts
from tests.fakes.peer import Asked, Names, Peer, Reply, answer, head, peer

BODY = bytes(range(256)) * 2000


def client_of(server: Peer, **caps: float) -> OutboundClient:
    hosts = AllowedHosts.parse([f"http://peer.test:{server.port}"], private=["peer.test"])
    limits = {"body_bytes": 1024 * 1024, **caps}
    names = Names({"peer.test": ["127.0.0.1"]})
    return OutboundClient(hosts, Caps(**limits), resolve=names)  # type: ignore[arg-type]


async def filled(found: Answer, size: int) -> bytes:
    buffer = memoryview(bytearray(size))
    whole = b""
    while count := await found.fill(buffer):
        whole += buffer[:count]
    return whole


def in_pieces(*pieces: bytes) -> Reply:
    async def reply(_: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    return reply


HEAD = head(200, {"Content-Length": str(len(BODY))})
CHUNKED = head(200, {"Transfer-Encoding": "chunked"})
ZIPPED = gzip.compress(BODY)


@pytest.mark.parametrize("size", [7000, 1 << 20])
@pytest.mark.parametrize(
    "reply",
    [
        answer(BODY),
        in_pieces(HEAD, BODY),
        in_pieces(HEAD[:20], HEAD[20:], BODY),
        in_pieces(HEAD[:-2], HEAD[-2:] + BODY),
        in_pieces(HEAD + BODY[:1], BODY[1:]),
        in_pieces(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + BODY),
        in_pieces(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + BODY[:5], BODY[5:]),
        in_pieces(CHUNKED + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"),
        in_pieces(head(200, {}) + BODY),
        in_pieces(
            head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(ZIPPED))}) + ZIPPED
        ),
    ],
)
async def test_buffer_is_filled_with_the_body(reply: Reply, size: int) -> None:
    async with (
        peer(reply) as server,
        client_of(server) as client,
        client.stream("GET", server.url()) as found,
    ):
        assert await filled(found, size) == BODY


async def test_next_request_is_answered_after_a_body_past_the_parser() -> None:
    async with peer(answer(BODY)) as server, client_of(server) as client:
        for _ in range(3):
            async with client.stream("GET", server.url()) as found:
                assert await filled(found, 100_000) == BODY


async def test_body_that_is_left_in_the_middle_spoils_no_other() -> None:
    async with peer(answer(BODY)) as server, client_of(server) as client:
        async with client.stream("GET", server.url()) as found:
            assert await found.fill(memoryview(bytearray(10))) == 10
        assert await client.read(server.url()) == BODY


async def test_bytes_behind_the_body_are_not_its_own() -> None:
    async with (
        peer(in_pieces(HEAD + BODY + b"more")) as server,
        client_of(server) as client,
        client.stream("GET", server.url()) as found,
    ):
        assert await filled(found, 1 << 20) == BODY


@pytest.mark.parametrize(
    "reply", [in_pieces(HEAD + BODY[:-1]), in_pieces(HEAD[:9], HEAD[9:] + BODY[:-1])]
)
async def test_cut_body_is_told(reply: Reply) -> None:
    async with peer(reply) as server, client_of(server) as client:
        with pytest.raises(OutboundFailed):
            async with client.stream("GET", server.url()) as found:
                await filled(found, 1 << 20)


async def test_body_that_stalls_is_told() -> None:
    async def stall(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + BODY[:5])
        await writer.drain()
        await asyncio.sleep(5)

    async with peer(stall) as server, client_of(server, read_s=0.1) as client:
        with pytest.raises(OutboundTimedOut):
            async with client.stream("GET", server.url()) as found:
                await filled(found, 1 << 20)


@pytest.mark.parametrize("make", [answer, lambda body: in_pieces(head(200, {}) + body)])
async def test_body_over_the_cap_is_not_read(make: Callable[[bytes], Reply]) -> None:
    async with peer(make(BODY)) as server, client_of(server, body_bytes=1000) as client:
        with pytest.raises(OutboundTooLarge):
            async with client.stream("GET", server.url()) as found:
                await filled(found, 1 << 20)

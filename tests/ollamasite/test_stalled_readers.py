"""Readers of a real socket: who takes nothing is cut, who takes little and who has all is not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from ollamasite import meters
from ollamasite.stalled_readers import StalledReaders

WITHIN_S = 60.0
# Far more than two kernels keep for a client that does not read.
MUCH = bytes(64 * 1024 * 1024)


class Served(asyncio.Protocol):
    """The server's side of a connection."""

    def __init__(self, connections: set["Served"]) -> None:
        self._connections = connections
        self.is_lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.is_lost.set()


@dataclass
class Line:
    """One connection: the client's socket, the server's side, and who looks at it."""

    client: socket.socket
    served: Served
    readers: StalledReaders
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def settle(self) -> None:
        """Wait until the kernels have moved what they can."""
        sizes = [-1, self.unsent]
        while sizes[-1] != sizes[-2]:
            await asyncio.sleep(0.2)
            sizes.append(self.unsent)

    @property
    def unsent(self) -> int:
        return self.served.transport.get_write_buffer_size()

    async def take(self, count: int) -> None:
        """Read so much."""
        while count > 0:
            count -= len(await self.loop.sock_recv(self.client, min(count, 1024 * 1024)))


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    connections: set[Served] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Served(connections), "127.0.0.1", 0)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        while not connections:
            await asyncio.sleep(0.01)
        [served] = connections
        yield Line(client, served, StalledReaders(connections, within_s=WITHIN_S))
    server.close()


def cuts() -> float:
    return meters.REGISTRY.get_sample_value("ollamasite_stalled_readers_total") or 0.0


async def test_who_takes_nothing_is_cut_and_counted(line: Line) -> None:
    before = cuts()
    line.served.transport.write(MUCH)
    await line.settle()
    line.readers.look(0.0)
    line.readers.look(WITHIN_S - 1)
    assert not line.served.transport.is_closing()
    line.readers.look(WITHIN_S)

    await asyncio.wait_for(line.served.is_lost.wait(), 60)
    assert cuts() == before + 1


async def test_who_takes_a_little_each_time_is_not_cut(line: Line) -> None:
    line.served.transport.write(MUCH)
    for minutes in range(4):
        await line.settle()
        line.readers.look(minutes * WITHIN_S)
        await line.take(1024 * 1024)

    assert not line.served.is_lost.is_set()
    assert line.unsent > 0


async def test_who_reads_as_fast_as_it_is_written_to_is_not_cut(line: Line) -> None:
    # What waits is the same each time, and yet all of it is other bytes.
    for minutes in range(4):
        line.served.transport.write(MUCH[: 8 * 1024 * 1024])
        await line.settle()
        line.readers.look(minutes * WITHIN_S)
        await line.take(8 * 1024 * 1024)

    assert not line.served.is_lost.is_set()


async def test_who_has_nothing_to_take_is_not_cut(line: Line) -> None:
    for minutes in range(4):
        line.readers.look(minutes * WITHIN_S)

    assert not line.served.is_lost.is_set()


async def test_connection_that_is_being_closed_is_cut_too(line: Line) -> None:
    line.served.transport.write(MUCH)
    await line.settle()
    line.served.transport.close()  # waits for what is unsent
    line.readers.look(0.0)
    line.readers.look(WITHIN_S)

    await asyncio.wait_for(line.served.is_lost.wait(), 60)


async def test_watching_cuts_by_itself(line: Line) -> None:
    readers = StalledReaders({line.served}, within_s=0.4)
    line.served.transport.write(MUCH)
    watching = asyncio.create_task(readers.watch())

    await asyncio.wait_for(line.served.is_lost.wait(), 60)
    watching.cancel()

"""Other machines: small HTTP servers on 127.0.0.1 that do what a test says, and their names.

Knows no client.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Reply = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Asked:
    """One request as it came in. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Peer:
    """A running server."""

    port: int
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str = "/", *, host: str = "peer.test") -> str:
        """The address of something on it."""
        return f"http://{host}:{self.port}{path}"


@asynccontextmanager
async def peer(reply: Reply) -> AsyncIterator[Peer]:
    """Run a server that answers every request by `reply` and then closes the connection."""
    running = Peer(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            method, path, _ = first.split(" ")
            pairs = (line.partition(":")[::2] for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            running.asked.append(Asked(method, path, headers))
            await reply(running.asked[-1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has seen enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()


def answer(
    body: bytes = b"", *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    """Return a reply with a whole body."""

    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        whole = {"Content-Length": str(len(body)), **(headers or {})}
        writer.write(head(status, whole) + (b"" if asked.method == "HEAD" else body))
        await writer.drain()

    return reply


def redirect(location: str, *, status: int = 302) -> Reply:
    """Return a reply that leads elsewhere."""
    return answer(status=status, headers={"Location": location})


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the first lines of an answer."""
    lines = [f"HTTP/1.1 {status} Word", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


class Names:
    """A resolver with the names it was given; notes what it was asked."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return a host's addresses."""
        del port
        self.asked.append(host)
        if host not in self._names:
            raise OSError("unknown name")
        return self._names[host]

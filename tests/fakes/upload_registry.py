"""A registry that is pushed to, with faults as a test says; on 127.0.0.1, everything in memory.

Knows no client.
"""

import asyncio
import contextlib
import hashlib
import threading
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

_READ_BYTES = 64 * 1024


@dataclass
class Request:
    """One request as it came in. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass
class Answer:
    """What it is answered with."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class UploadRegistry:
    """What the registry has, what it was asked, and what it does wrong."""

    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)  # digest → bytes
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # path → type, bytes
    sessions: dict[str, bytearray] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    # After how many bytes of the next bodies the connection is cut.
    cuts: list[int] = field(default_factory=list)
    # After how many bytes of the next bodies nothing more is read, nor is anything answered.
    stalls: list[int] = field(default_factory=list)
    keeps_cut_bytes: bool = True  # else the session is lost, as docker-registry's is
    tells_exactly: bool = True
    tells_relative: bool = False
    # Answers given instead, by method, one after another; "PUT blob" for the end of an upload.
    instead: dict[str, list[Answer]] = field(default_factory=dict)
    mounts: dict[str, int] = field(default_factory=dict)  # source → status

    def requests(self, method: str) -> list[Request]:
        """Return what came with a method."""
        return [request for request in self.asked if request.method == method]

    @property
    def host(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def upload_registry(**faults: object) -> AsyncIterator[UploadRegistry]:
    """Run one."""
    registry = UploadRegistry(**faults)  # type: ignore[arg-type]

    is_over = asyncio.Event()
    served: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await _serve(registry, reader, writer, is_over)
        writer.close()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.create_task(serve_one(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    registry.port = server.sockets[0].getsockname()[1]
    try:
        yield registry
    finally:
        server.close()
        is_over.set()
        await asyncio.gather(*served)


@contextlib.contextmanager
def upload_registry_in_thread(**faults: object) -> Iterator[UploadRegistry]:
    """Run one beside code that blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running = upload_registry(**faults)
    try:
        yield asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(_end(running), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(running: contextlib.AbstractAsyncContextManager[UploadRegistry]) -> None:
    await running.__aexit__(None, None, None)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _serve(
    registry: UploadRegistry,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    is_over: asyncio.Event,
) -> None:
    request = await _read_head(reader)
    registry.asked.append(request)
    length = int(request.headers.get("content-length", "0"))
    cut = registry.cuts.pop(0) if registry.cuts and length else None
    stall = registry.stalls.pop(0) if registry.stalls and length else None
    ends = [end for end in (cut, stall, length) if end is not None]
    body = await _read_body(reader, min(ends))
    if len(ends) > 1:
        _lose(registry, request, body)
        if stall is not None:
            await is_over.wait()
        writer.transport.abort()
        return
    kind = "PUT blob" if request.method == "PUT" and "/uploads/" in request.path else request.method
    scripted = registry.instead.get(kind)
    answer = scripted.pop(0) if scripted else _answer(registry, request, body)
    headers = {"Content-Length": str(len(answer.body)), "Connection": "close", **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} Word", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
    await writer.drain()


async def _read_head(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    parts = urllib.parse.urlsplit(target)
    pairs = (line.partition(":")[::2] for line in lines)
    headers = {name.lower(): value.strip() for name, value in pairs}
    return Request(method, parts.path, dict(urllib.parse.parse_qsl(parts.query)), headers)


async def _read_body(reader: asyncio.StreamReader, length: int) -> bytes:
    body = bytearray()
    while len(body) < length:
        piece = await reader.read(min(_READ_BYTES, length - len(body)))
        if not piece:
            break
        body += piece
    return bytes(body)


def _lose(registry: UploadRegistry, request: Request, body: bytes) -> None:
    name = request.path.rpartition("/")[2]
    if registry.keeps_cut_bytes:
        registry.sessions[name] += body
    else:
        registry.sessions.pop(name, None)


def _answer(registry: UploadRegistry, request: Request, body: bytes) -> Answer:
    if "/manifests/" in request.path:
        registry.manifests[request.path] = (request.headers["content-type"], body)
        return Answer(201)
    if request.method == "HEAD":
        return Answer(200 if request.path.rpartition("/")[2] in registry.blobs else 404)
    if request.method == "POST":
        return _begin(registry, request)
    name = request.path.rpartition("/")[2]
    session = registry.sessions.get(name)
    if session is None:
        return Answer(404)
    if request.method == "GET":
        return Answer(204, _place(registry, name))
    if request.method == "DELETE":
        del registry.sessions[name]
        return Answer(204)
    return _take(registry, request, name, body)


def _begin(registry: UploadRegistry, request: Request) -> Answer:
    source = request.query.get("from")
    if source is not None and registry.mounts.get(source, 202) != 202:
        return Answer(registry.mounts[source])
    name = f"s{len(registry.requests('POST'))}"
    registry.sessions[name] = bytearray()
    return Answer(202, _place(registry, name))


def _take(registry: UploadRegistry, request: Request, name: str, body: bytes) -> Answer:
    session = registry.sessions[name]
    told = request.headers.get("content-range", f"{len(session)}-").partition("-")[0]
    if int(told) != len(session):
        return Answer(416, _place(registry, name))
    session += body
    if request.method == "PATCH":
        return Answer(202, _place(registry, name))
    digest = f"sha256:{hashlib.sha256(session).hexdigest()}"
    if digest != request.query.get("digest"):
        error = b'{"errors":[{"code":"DIGEST_INVALID","message":"it is another digest"}]}'
        return Answer(400, body=error)
    registry.blobs[digest] = bytes(registry.sessions.pop(name))
    return Answer(201)


def _place(registry: UploadRegistry, name: str) -> dict[str, str]:
    start = "" if registry.tells_relative else f"http://{registry.host}"
    received = len(registry.sessions[name])
    headers = {
        "Location": f"{start}/v2/lab/tiny/blobs/uploads/{name}?state={len(registry.asked)}",
        "Range": f"0-{max(0, received - 1)}",
    }
    return headers | ({"X-Upload-Bytes": str(received)} if registry.tells_exactly else {})

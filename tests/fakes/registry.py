"""A registry that is pulled from, with faults as a test says; on 127.0.0.1, in a thread.

Knows no client.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MODEL_TYPE = "application/vnd.ollama.image.model"
TOKEN = "a-good-token"


@dataclass
class Asked:
    """One request as it came in. Header names are in lower case."""

    method: str
    path: str  # with the query
    headers: dict[str, str]

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's values."""
        return parse_qs(urlsplit(self.path).query)


@dataclass
class Answer:
    """What a request is answered with.

    `cut_at`: the connection is closed after so many bytes of the body; `stall_at`: nothing comes
    after so many.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_at: int | None = None
    stall_at: int | None = None


Script = Callable[[Asked], Answer | None]


@dataclass
class FakeRegistry:
    """What the registry has, what it was asked, and what it does wrong."""

    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)  # digest → bytes
    manifests: dict[str, bytes] = field(default_factory=dict)  # path → body
    asked: list[Asked] = field(default_factory=list)
    # The first answer that one of these gives is the answer.
    scripts: list[Script] = field(default_factory=list)
    # Faults of the next GETs of blobs, one after another.
    cuts: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ignores_ranges: bool = False
    pause_s: float = 0.0  # before every 64 KiB of a blob
    holds_at: int | None = None  # of a blob: as long as it is set, no byte comes behind this one
    challenge: str = ""  # what those without the token are told; empty: nobody needs one
    logins: tuple[str, ...] = ()  # Authorization headers that get the token; empty: any

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def add_blob(self, data: bytes) -> str:
        """Have a file; return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def add_manifest(
        self,
        repository: str,
        layers: list[tuple[str, bytes]],
        *,
        tag: str = "latest",
        config: bytes = b"{}",
    ) -> dict[str, Any]:
        """Have a model of layers, given by media type; return its manifest."""
        entries = [self._entry(media_type, data) for media_type, data in layers]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self._entry(CONFIG_TYPE, config),
            "layers": entries,
        }
        self.set_manifest(repository, manifest, tag=tag)
        return manifest

    def add_model(self, repository: str, gguf: bytes) -> dict[str, Any]:
        """Have a model of one file; return its manifest."""
        config = b'{"model_format":"gguf","model_family":"llama"}'
        return self.add_manifest(repository, [(MODEL_TYPE, gguf)], config=config)

    def set_manifest(self, repository: str, manifest: object, *, tag: str = "latest") -> None:
        """Have a manifest as it is."""
        body = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        self.manifests[f"/v2/{repository}/manifests/{tag}"] = body

    def gets_of(self, digest: str) -> list[Asked]:
        """The GETs of a file that have come so far."""
        return [it for it in self.asked if it.method == "GET" and it.path.endswith(digest)]

    def answer(self, asked: Asked) -> Answer:
        """Return what a request is answered with."""
        for script in self.scripts:
            scripted = script(asked)
            if scripted is not None:
                return scripted
        path = urlsplit(asked.path).path
        if path == "/token":
            return self._token(asked)
        if self.challenge and asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return Answer(401, {"WWW-Authenticate": self.challenge.replace("HOST", self.host)})
        if path in self.manifests:
            return Answer(headers={"Content-Type": MANIFEST_TYPE}, body=self.manifests[path])
        _, _, digest = path.partition("/blobs/")
        if digest in self.blobs:
            return self._blob(asked, self.blobs[digest])
        error = {"errors": [{"code": "UNKNOWN", "message": "there is no such thing"}]}
        return Answer(404, body=json.dumps(error).encode())

    def _entry(self, media_type: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.add_blob(data), "size": len(data)}

    def _token(self, asked: Asked) -> Answer:
        if self.logins and asked.headers.get("authorization") not in self.logins:
            return Answer(401, body=b'{"error":"who are you?"}')
        return Answer(body=json.dumps({"token": TOKEN}).encode())

    def _blob(self, asked: Asked, data: bytes) -> Answer:
        if asked.method == "HEAD":
            return Answer(body=data)
        if self.statuses:
            return Answer(self.statuses.pop(0))
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
        answer = Answer(body=data)
        if found and not self.ignores_ranges:
            start, end = int(found[1]), min(int(found[2]) + 1, len(data))
            if start >= len(data):
                return Answer(416, body=b"no such range")
            told = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
            answer = Answer(206, told, data[start:end])
        if self.cuts:
            answer.cut_at = self.cuts.pop(0)
        elif self.stalls:
            answer.stall_at = self.stalls.pop(0)
        return answer


@contextmanager
def fake_registry(port: int = 0) -> Iterator[FakeRegistry]:
    """Run a registry until the end of the block, on some free port where none is given."""
    registry = FakeRegistry()
    is_ready = threading.Event()
    end: list[Callable[[], object]] = []

    async def serve() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.create_task(_serve(registry, reader, writer)))

        server = await asyncio.start_server(begin, "127.0.0.1", port)
        registry.port = server.sockets[0].getsockname()[1]
        end.append(partial(loop.call_soon_threadsafe, ended.set))
        is_ready.set()
        await ended.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    is_ready.wait()
    try:
        yield registry
    finally:
        end[0]()
        thread.join()


def wait_until(is_so: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


async def _serve(
    registry: FakeRegistry, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            method, path, _ = first.split(" ")
            pairs = (line.partition(":")[::2] for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            asked = Asked(method, path, headers)
            registry.asked.append(asked)
            await _reply(registry, asked, writer)
    finally:
        writer.close()


async def _reply(registry: FakeRegistry, asked: Asked, writer: asyncio.StreamWriter) -> None:
    answer = registry.answer(asked)
    headers = {"Content-Length": str(len(answer.body)), "Connection": "close", **answer.headers}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([f"HTTP/1.1 {answer.status} Word", *lines, "", ""]).encode())
    if asked.method == "HEAD":
        return await writer.drain()
    last = min(
        place for place in (answer.cut_at, answer.stall_at, len(answer.body)) if place is not None
    )
    for start in range(0, last, 65536):
        if registry.pause_s and "/blobs/" in asked.path:
            await asyncio.sleep(registry.pause_s)
        while (
            registry.holds_at is not None and start >= registry.holds_at and "/blobs/" in asked.path
        ):
            await asyncio.sleep(0.01)
        writer.write(answer.body[start : min(start + 65536, last)])
        await writer.drain()
    if answer.stall_at is not None:
        await asyncio.sleep(60)
    return None

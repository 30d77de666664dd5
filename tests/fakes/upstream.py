"""An engine elsewhere: a raw HTTP server on 127.0.0.1 that answers as a test says, honest or not.

Knows no client. Bodies are handed over as they came.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from inference.messages import UpstreamRef

Behave = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Asked:
    """One request as it came in. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass
class FakeUpstream:
    """A running server. `left`: how many clients went before the answer's end."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    left: int = 0

    def ref(self, **fields: Any) -> UpstreamRef:
        """Return what names it."""
        known: dict[str, Any] = {
            "name": "gpu",
            "url": f"http://127.0.0.1:{self.port}/v1",
            "kind": "vllm",
            "model": "org/model",
        }
        return UpstreamRef(**{**known, **fields})


@asynccontextmanager
async def fake_upstream(behave: Behave) -> AsyncIterator[FakeUpstream]:
    """Run a server that answers every request by `behave` and then closes the connection."""
    running = FakeUpstream()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            method, path, _ = first.split(" ")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            asked = Asked(method, path, headers, body)
            running.asked.append(asked)
            leaving = asyncio.create_task(reader.read(1))
            answering = asyncio.ensure_future(behave(asked, writer))
            await asyncio.wait([leaving, answering], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                running.left += 1
            for task in (leaving, answering):
                task.cancel()
            await asyncio.gather(leaving, answering, return_exceptions=True)
        except (asyncio.IncompleteReadError, ConnectionError):
            running.left += 1
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()


def head(status: int = 200, *lines: str, kind: str = "text/event-stream") -> bytes:
    """Return the head of an answer that ends with its connection."""
    further = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{further}\r\n".encode()


def event(data: Any) -> bytes:
    """Return one event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n".encode()


def piece(text: str = "", *, index: int = 0, **delta: Any) -> dict[str, Any]:
    """Return a chunk of a chat's answer."""
    said = {"content": text} if text else {}
    return {"choices": [{"index": index, "delta": {**said, **delta}, "finish_reason": None}]}


def end(reason: str = "stop", *, index: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the chunk that ends a choice."""
    return {"choices": [{"index": index, "delta": {}, "finish_reason": reason, **fields}]}


def usage(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    """Return the chunk that tells what was counted."""
    told = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    return {"choices": [], "usage": told}


def says(*chunks: Any, done: bool = True) -> Behave:
    """Return a server that streams these chunks."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        writer.write(head())
        for chunk in chunks:
            writer.write(event(chunk))
        if done:
            writer.write(event("[DONE]"))
        await writer.drain()

    return behave


def answers(status: int, body: Any, *lines: str) -> Behave:
    """Return a server that answers with one JSON body, or with these bytes."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        del asked
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        size = f"content-length: {len(content)}"
        writer.write(head(status, size, *lines, kind="application/json") + content)
        await writer.drain()

    return behave

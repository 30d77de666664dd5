"""A server that answers chats as a test says, on a port of its own: raw sockets and no model.

Speaks enough of `/v1/chat/completions` and `/api/chat` to be measured. Knows nothing of measuring.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

_CHUNKED = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


@dataclass
class ChatServer:
    """How it answers. `slots`: so many at a time, the others wait; 0: everybody at once."""

    pieces: int = 5
    first_s: float = 0.0
    gap_s: float = 0.0
    slots: int = 0
    status: int = 200
    error: Any = None  # of a refusal, or in the stream behind the first piece
    cuts: bool = False  # behind the first piece
    queue_ms: int = 0
    words_to_tokens: float = 1.5
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _turn: asyncio.Semaphore | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ChatServer"]:
        """Serve for the time of the block."""
        self._turn = asyncio.Semaphore(self.slots or 10_000)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
            body = json.loads(await reader.readexactly(int(fields["content-length"])))
            self.asked.append(body)
            self.keys.append(fields["authorization"])
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            try:
                await self._answer(head.split()[1], body, writer)
            finally:
                self._now -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, body: Any, writer: asyncio.StreamWriter) -> None:
        if self.status != 200:
            text = json.dumps({"error": self.error}).encode()
            head = f"HTTP/1.1 {self.status} No\r\nContent-Length: {len(text)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + text)
            await writer.drain()
            return
        assert self._turn is not None
        async with self._turn:
            await asyncio.sleep(self.first_s)
            head = f"HTTP/1.1 200 OK\r\nX-Queue-Ms: {self.queue_ms}\r\nConnection: close\r\n"
            writer.write(head.encode() + _CHUNKED + b"\r\n")
            is_openai = path.startswith("/v1")
            for number in range(self.pieces):
                if number:
                    await asyncio.sleep(self.gap_s)
                self._send(writer, _openai(number) if is_openai else _ollama(number))
                await writer.drain()
                if self.cuts:
                    writer.transport.abort()
                    return
                if self.error is not None:
                    self._send(writer, _line({"error": self.error}, is_openai=is_openai))
                    writer.write(b"0\r\n\r\n")
                    return
            words = sum(len(message["content"].split()) for message in body["messages"])
            tokens = round(words * self.words_to_tokens) + 7
            self._send(writer, _end(tokens, self.pieces, is_openai=is_openai))
            writer.write(b"0\r\n\r\n")
            await writer.drain()

    @staticmethod
    def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send a chunk in two pieces: what is read need not end where a line does."""
        for part in (data[:5], data[5:]):
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")


def _openai(number: int) -> bytes:
    return _line({"choices": [{"delta": {"content": f"{number} "}}]}, is_openai=True)


def _ollama(number: int) -> bytes:
    return _line({"message": {"role": "assistant", "content": f"{number} "}}, is_openai=False)


def _end(prompt_tokens: int, tokens: int, *, is_openai: bool) -> bytes:
    if not is_openai:
        end = {"done": True, "prompt_eval_count": prompt_tokens, "eval_count": tokens}
        return _line({**end, "message": {"content": ""}}, is_openai=False)
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
    last = {"choices": [{"delta": {}, "finish_reason": "length"}]}
    return (
        _line(last, is_openai=True)
        + _line({"choices": [], "usage": usage}, is_openai=True)
        + b"data: [DONE]\n\n"
    )


def _line(value: Any, *, is_openai: bool) -> bytes:
    text = json.dumps(value).encode()
    return b"data: " + text + b"\n\n" if is_openai else text + b"\n"

"""Answers with files of the store, sent past Django: past the server too where that is possible.

Knows no repository and no right: who may read what has been decided.
"""

import asyncio
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from asgiref.sync import sync_to_async

from models_app.access_watch import access_kept
from models_app.errors import AccessEnded
from models_app.permissions import Principal
from ollamasite.error_responses import dialect_headers
from ollamasite.raw_sockets import LEAST_BYTES, Passage, passage_of
from registry.byte_ranges import ByteRange

_READ_BYTES: Final = 4 * 1024 * 1024
_READER_IDLE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class FilePart:
    """What of a file is sent; `is_whole` allows to leave it to the server.

    It is open already: what is removed meanwhile can still be read to its end. Who reads it is cut
    off when their access ends.
    """

    path: Path
    opened: IO[bytes]
    part: ByteRange
    is_whole: bool
    reader: Principal | None = None  # None: nobody's access is watched meanwhile


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer without a body of its own, or with a part of a file."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    file: FilePart | None = None


async def send_reply(reply: Reply, scope: Any, receive: Any, send: Any) -> None:
    """Send an answer, and what of a file goes with it."""
    sent = {**reply.headers, **dialect_headers(scope["path"])}
    if reply.status not in {204, 304}:
        sent.setdefault("Content-Length", "0")
    raw = [(name.lower().encode(), text.encode("latin-1")) for name, text in sent.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    if reply.file is None:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    # Whoever may not be here any longer is cut off: it is too late for words.
    with suppress(AccessEnded), reply.file.opened:
        async with access_kept(reply.file.reader) if reply.file.reader else nullcontext():
            await _send_by_best_way(reply.file, scope, receive, send)


async def _send_by_best_way(file: FilePart, scope: Any, receive: Any, send: Any) -> None:
    passage = passage_of(scope)
    if passage is not None and file.part.size_bytes >= LEAST_BYTES:
        await _send_past_server(passage, file, send)
    elif file.is_whole and "http.response.pathsend" in (scope.get("extensions") or {}):
        await send({"type": "http.response.pathsend", "path": str(file.path)})
    else:
        await _send_file(file, receive, send)


async def _send_past_server(passage: Passage, file: FilePart, send: Any) -> None:
    part = file.part
    try:
        is_sent = await passage.send_file(
            file.opened.fileno(), part.first, part.size_bytes, idle_s=_READER_IDLE_S
        )
    except TimeoutError:
        return  # the reader has fallen asleep
    if is_sent:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_file(file: FilePart, receive: Any, send: Any) -> None:
    """Send a part of a file. Those who only look at the headers and leave are quite usual."""
    gone = asyncio.create_task(_wait_for_end(receive))
    file.opened.seek(file.part.first)
    left = file.part.size_bytes
    read = sync_to_async(file.opened.read)
    try:
        while not gone.done():
            piece = await read(min(left, _READ_BYTES))
            if left and not piece:
                raise EOFError(f"{file.path} is shorter than it was")
            left -= len(piece)
            await _send_piece(send, piece, has_more=left > 0)
            if not left:
                return
    except TimeoutError:
        return  # the reader has fallen asleep
    finally:
        gone.cancel()


async def _send_piece(send: Any, piece: bytes, *, has_more: bool) -> None:
    async with asyncio.timeout(_READER_IDLE_S):
        await send({"type": "http.response.body", "body": piece, "more_body": has_more})


async def _wait_for_end(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

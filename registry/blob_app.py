"""`POST /api/blobs/<digest>` as an ASGI application of its own, beside Django.

Django's handler would spool the whole body to a file before any view runs, and a cut upload would
leave it behind; here the bytes go to the store in batches, as they come (contract/registry.md
5.1 to 5.3). Who may send is decided by the gate as for every other route. How large a body may be
is `ollamasite.guard`'s business: an oversized one looks here like a client that has left.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import DatabaseError, connections

from models_app.gate import admit_scope
from ollamasite.error_responses import to_service_error
from ollamasite.errors import ServiceError
from ollamasite.raw_answers import answer, refuse
from registry import uploads
from registry.uploads import BlobPath

ROUTE: Final = "api/blobs/<str:digest>"
_PREFIX: Final = "/api/blobs/"
_BATCH_BYTES: Final = 1024 * 1024
# A client that is silent for so long has gone without a word.
_IDLE_S: Final = 300.0
_MAX_DIGITS: Final = 19
_CREATED: Final = 201
_TIMEOUT: Final = 408
_OK: Final = 200


def is_upload(scope: Any) -> bool:
    """Whether this application answers the request."""
    path: str = scope["path"]
    is_blob = path.startswith(_PREFIX) and "/" not in path[len(_PREFIX) :]
    return is_blob and path != _PREFIX and scope["method"] == "POST"


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Receive one file; a client that leaves leaves nothing behind."""
    # The request has a thread of its own, as Django gives each of its requests one.
    async with ThreadSensitiveContext():
        try:
            status = await _receive_file(scope, receive)
        except _ClientLeft:
            return
        except TimeoutError:
            await answer(send, _TIMEOUT, [(b"connection", b"close")])
        except (ServiceError, DatabaseError, OSError) as error:
            # The server passes over what is still to come: a client that is cut off while it
            # sends does not get to read why.
            await refuse(send, to_service_error(error), scope["path"], closes=False)
        else:
            await answer(send, status)
        finally:
            await sync_to_async(connections.close_all)()


class _ClientLeft(Exception):
    """Nobody waits for an answer any longer."""


async def _receive_file(scope: Any, receive: Any) -> int:
    """Return the status of the answer. Raises _ClientLeft, TimeoutError, ServiceError."""
    principal = await sync_to_async(admit_scope)(scope, ROUTE)
    asked = BlobPath.parse(scope["path"].removeprefix(_PREFIX))
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if await sync_to_async(uploads.is_known)(principal, asked):
        # One that waits for leave to send is spared the sending.
        if b"expect" not in headers:
            await _pass_over(receive)
        return _OK
    await sync_to_async(connections.close_all)()  # the file may take hours
    length = headers.get(b"content-length", b"")
    is_number = length.isdigit() and len(length) <= _MAX_DIGITS
    draft = await sync_to_async(uploads.begin)(int(length) if is_number else None)
    try:
        async for batch in _batches(receive):
            await sync_to_async(uploads.add)(draft, batch)
        await sync_to_async(uploads.finish)(principal, draft, asked)
    finally:
        await sync_to_async(draft.close)()
    return _CREATED


async def _pass_over(receive: Any) -> None:
    async for _ in _pieces(receive):
        pass


async def _batches(receive: Any) -> AsyncIterator[bytes]:
    """Yield the body in parts that are worth a thread's turn. Raises what _pieces does."""
    pieces: list[bytes] = []
    size_bytes = 0
    async for piece in _pieces(receive):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes >= _BATCH_BYTES:
            yield b"".join(pieces)
            pieces, size_bytes = [], 0
    yield b"".join(pieces)


async def _pieces(receive: Any) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Raises _ClientLeft, TimeoutError for one who says nothing."""
    has_more = True
    while has_more:
        event = await asyncio.wait_for(receive(), _IDLE_S)
        if event["type"] == "http.disconnect":
            raise _ClientLeft
        yield event.get("body", b"")
        has_more = event.get("more_body", False)

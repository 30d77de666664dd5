"""`POST /api/blobs/<digest>` as an ASGI application of its own, beside Django.

Django's handler would spool the whole body to a file before any view runs, and a cut upload would
leave it behind; here the bytes go to the store in batches, as they come (contract/registry.md
5.1 to 5.3). Who may send is decided by the gate as for every other route. How large a body may be
is `ollamasite.guard`'s business: an oversized one looks here like a client that has left.
"""

from functools import partial
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections

from models_app.access_watch import access_kept
from models_app.gate import admit_scope
from ollamasite.error_responses import to_service_error
from ollamasite.errors import ServiceError
from ollamasite.raw_answers import answer, refuse
from registry import uploads
from registry.raw_bodies import ClientLeft, drain, pass_over
from registry.uploads import BlobPath

ROUTE: Final = "api/blobs/<str:digest>"
_PREFIX: Final = "/api/blobs/"
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
    try:
        status = await _receive_file(scope, receive)
    except ClientLeft:
        return
    except TimeoutError:
        await answer(send, _TIMEOUT, [(b"connection", b"close")])
    except (ServiceError, DatabaseError, OSError) as error:
        # The server passes over what is still to come: a client that is cut off while it
        # sends does not get to read why.
        await refuse(send, to_service_error(error), scope, closes=False)
    else:
        await answer(send, status)
    finally:
        await sync_to_async(connections.close_all)()


async def _receive_file(scope: Any, receive: Any) -> int:
    """Return the status of the answer. Raises ClientLeft, TimeoutError, ServiceError."""
    principal = await sync_to_async(admit_scope)(scope, ROUTE)
    asked = BlobPath.parse(scope["path"].removeprefix(_PREFIX))
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if await sync_to_async(uploads.is_known)(principal, asked):
        # One that waits for leave to send is spared the sending.
        if b"expect" not in headers:
            await pass_over(receive, idle_s=_IDLE_S)
        return _OK
    await sync_to_async(connections.close_all)()  # the file may take hours
    length = headers.get(b"content-length", b"")
    is_told = length.isdigit() and len(length) <= _MAX_DIGITS
    draft = await sync_to_async(uploads.begin)(principal, int(length) if is_told else None)
    write = partial(uploads.add, draft, None if is_told else principal.namespace)
    try:
        async with access_kept(principal):
            await drain(scope, receive, write, idle_s=_IDLE_S)
        await sync_to_async(uploads.finish)(principal, draft, asked)
    finally:
        await sync_to_async(draft.close)()
    return _CREATED

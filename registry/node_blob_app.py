"""`GET /api/nodes/blobs/<digest>`: files that models run from, for the site's nodes, beside Django.

A node asks by digest for what a request needs that was sent to it, so there is no repository and no
name; the gate lets in nodes alone. What models say of themselves, and what somebody has sent that
is in no model, is no business of theirs. `Range` continues a transfer that was cut. Sends as
`registry.file_answers` does.
"""

import os
from pathlib import Path
from typing import Any, BinaryIO, Final

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections

from models_app import stored_files
from models_app.gate import admit_scope
from ollamasite.error_responses import to_service_error
from ollamasite.errors import ServiceError
from ollamasite.raw_answers import refuse
from registry import manifests
from registry.blobs import blob_store
from registry.byte_ranges import ByteRange, parse_range
from registry.distribution_request import parse_digest
from registry.errors import BlobNotFound
from registry.file_answers import FilePart, Reply, send_reply

ROUTE: Final = "api/nodes/blobs/<str:digest>"
METHODS: Final = ("GET", "HEAD")
_PREFIX: Final = "/api/nodes/blobs/"
_RUN_FROM: Final = (manifests.MODEL, manifests.PROJECTOR, manifests.ADAPTER)
_OK: Final = 200
_PARTIAL: Final = 206


def is_node_blob_request(scope: Any) -> bool:
    """Whether this application answers the request."""
    path: str = scope["path"]
    last = path.removeprefix(_PREFIX)
    return (
        path.startswith(_PREFIX)
        and last not in {"", path}
        and "/" not in last
        and (scope["method"] in METHODS)
    )


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request of which `is_node_blob_request` holds."""
    try:
        reply = await sync_to_async(_reply)(scope)
    except (ServiceError, DatabaseError, OSError) as error:
        await refuse(send, to_service_error(error), scope, closes=False)
    else:
        await send_reply(reply, scope, receive, send)
    finally:
        await sync_to_async(connections.close_all)()


def _reply(scope: Any) -> Reply:
    """Raises BlobNotFound, InvalidDigest, RangeNotSatisfiable, and what the gate raises."""
    admit_scope(scope, ROUTE)
    digest = parse_digest(scope["path"].removeprefix(_PREFIX))
    if not stored_files.is_layer(digest.hex, _RUN_FROM):
        raise BlobNotFound(str(digest))
    opened = blob_store().open(digest)
    try:
        return _reply_with(opened, scope)
    except BaseException:
        opened.close()
        raise


def _reply_with(opened: BinaryIO, scope: Any) -> Reply:
    size_bytes = os.fstat(opened.fileno()).st_size
    asked: dict[bytes, bytes] = dict(scope["headers"])
    text = asked.get(b"range", b"").decode("latin-1")
    part = parse_range(text, size_bytes) if text else None
    shown = part or ByteRange(0, size_bytes - 1)
    headers = {"Content-Length": str(shown.size_bytes), "Content-Type": "application/octet-stream"}
    if part is not None:
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{size_bytes}"
    status = _PARTIAL if part else _OK
    if scope["method"] == "HEAD":
        opened.close()
        return Reply(status, headers)
    file = FilePart(Path(opened.name), opened, shown, is_whole=part is None)
    return Reply(status, headers, file)

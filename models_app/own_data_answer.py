"""The answer that has everything of somebody in it, for a program and for a page. Async.

Knows no route and no row of the database.
"""

from collections.abc import AsyncGenerator, Iterator

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from models_app import own_data
from models_app.access_watch import while_access
from models_app.permissions import Principal
from ollamasite.http import JSON


async def export_answer(principal: Principal) -> StreamingHttpResponse:
    """Return all that this site knows of the caller, as one JSON document to keep as a file."""
    pieces = await sync_to_async(own_data.export)(principal.username)
    document = while_access(principal, _on_threads(pieces))
    response = StreamingHttpResponse(document, content_type=JSON)
    name = f"{principal.username}.json"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


async def _on_threads(pieces: Iterator[bytes]) -> AsyncGenerator[bytes]:
    while piece := await sync_to_async(_next)(pieces):
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")

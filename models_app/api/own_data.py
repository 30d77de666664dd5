"""`/api/me/export`, `/api/me/delete`: one's own data, to take along and to have forgotten. Ours.

Knows no row of the database.
"""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from models_app import own_data, sign_ins
from models_app.access_watch import while_access
from models_app.permissions import Principal
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, ReadView, read_body
from ollamasite.http import JSON


class DeleteMeBody(msgspec.Struct):
    """The body of `POST /api/me/delete`: who has left their browser open is not gone by that."""

    password: str = ""


class ExportView(ReadView):
    """`GET /api/me/export`."""

    http_method_names = ["get"]

    async def get(self, request: Any) -> StreamingHttpResponse:
        """Tell everything that this site knows of the caller, as one JSON document."""
        pieces = await sync_to_async(own_data.export)(request.user.username)
        document = while_access(request.user, _on_threads(pieces))
        response = StreamingHttpResponse(document, content_type=JSON)
        name = f"{request.user.username}.json"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        response["Cache-Control"] = "no-store"
        return response


class DeleteView(CallView):
    """`POST /api/me/delete`."""

    async def post(self, request: Any) -> HttpResponse:
        """Delete the caller's account and all that is theirs. Wants the password again."""
        body = await read_body(request, DeleteMeBody, "Request", empty_message=NATIVE_EMPTY_BODY)
        await sync_to_async(_delete)(request._request, request.user, body.password)  # noqa: SLF001 - DRF's own
        return HttpResponse(status=204)


def _delete(request: HttpRequest, principal: Principal, password: str) -> None:
    sign_ins.require_password(request, principal, password)
    own_data.forget(principal.username, by=principal)
    request.session.flush()


async def _on_threads(pieces: Iterator[bytes]) -> AsyncGenerator[bytes]:
    while piece := await sync_to_async(_next)(pieces):
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes:
    return next(pieces, b"")

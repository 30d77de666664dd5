"""`/api/me/export`, `/api/me/delete`: one's own data, to take along and to have forgotten. Ours.

Knows no row of the database.
"""

from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from models_app import own_data, sign_ins
from models_app.own_data_answer import export_answer
from models_app.permissions import Principal
from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, ReadView, read_body


class DeleteMeBody(msgspec.Struct):
    """The body of `POST /api/me/delete`: who has left their browser open is not gone by that."""

    password: str = ""


class ExportView(ReadView):
    """`GET /api/me/export`."""

    http_method_names = ["get"]

    async def get(self, request: Any) -> StreamingHttpResponse:
        """Tell everything that this site knows of the caller, as one JSON document."""
        return await export_answer(request.user)


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

"""`/api/copy` and `/api/delete` in Ollama's own dialect (contract/ollama.md 1.9, 2.3).

Knows no file and no row of the database.
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponse

from ollamasite.api_views import NATIVE_EMPTY_BODY, CallView, read_body
from registry import library
from registry.api.schemas import CopyBody, DeleteBody


class CopyView(CallView):
    """`POST /api/copy`."""

    async def post(self, request: Any) -> HttpResponse:
        """Give a model one more name."""
        body = await read_body(request, CopyBody, "CopyRequest", empty_message=NATIVE_EMPTY_BODY)
        await sync_to_async(library.copy_model)(request.user, body.source, body.destination)
        return _done()


class DeleteView(CallView):
    """`DELETE /api/delete`, with a JSON body."""

    http_method_names = ["delete"]

    async def delete(self, request: Any) -> HttpResponse:
        """Delete a name."""
        body = await read_body(
            request, DeleteBody, "DeleteRequest", empty_message=NATIVE_EMPTY_BODY
        )
        await sync_to_async(library.delete_model)(request.user, body.asked_model)
        return _done()


def _done() -> HttpResponse:
    response = HttpResponse()
    del response["Content-Type"]
    return response

"""`HEAD /api/blobs/<digest>`: need the caller send this file (contract/ollama.md 1.9)?

`POST` is `registry.blob_app`, beside Django. Knows no row of the database.
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpResponse

from ollamasite.api_views import ReadView
from registry import uploads
from registry.uploads import BlobPath


class BlobView(ReadView):
    """`HEAD /api/blobs/<digest>`."""

    http_method_names = ["head"]

    @property
    def allowed_methods(self) -> list[str]:
        """The methods that the path knows."""
        return ["HEAD", "POST"]

    async def head(self, request: Any, digest: str) -> HttpResponse:
        """Answer 200 where the caller may use the file, 404 where not."""
        await sync_to_async(uploads.require_known)(request.user, BlobPath.parse(digest))
        response = HttpResponse()
        del response["Content-Type"]
        return response

"""`/api/storage`: how much one's namespaces hold and may hold. Knows no row of the database."""

from typing import Any

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpResponse

from ollamasite.api_views import ReadView
from ollamasite.http import json_response
from registry import storage


class StorageEntry(msgspec.Struct, kw_only=True):
    """A namespace; `quota_bytes` is null where there is no limit."""

    namespace: str
    used_bytes: int
    quota_bytes: int | None


class StorageReply(msgspec.Struct, kw_only=True):
    """Answer of `/api/storage`."""

    namespaces: list[StorageEntry]


class StorageView(ReadView):
    """`GET /api/storage`."""

    async def get(self, request: Any) -> HttpResponse:
        """Tell what the caller's namespaces hold, their own first."""
        used = await sync_to_async(storage.own_namespaces)(request.user)
        entries = [
            StorageEntry(
                namespace=each.namespace,
                used_bytes=each.used_bytes,
                quota_bytes=each.quota_bytes,
            )
            for each in used
        ]
        return json_response(StorageReply(namespaces=entries))

"""`/v2`: is it there, manifests, tags, the catalog, referrers (contract/registry.md 2.1, 2.2).

Files go through `registry.distribution_app`, beside Django. Knows no row and no file.
"""

from collections.abc import Mapping
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag

from ollamasite.api_views import CallView, ReadView, raw_body
from ollamasite.challenges import asked_of_request
from ollamasite.errors import BodyTooLarge
from ollamasite.http import json_response
from registry import revisions
from registry.api.distribution.paging import link_to_next, page_of
from registry.manifests import MAX_MANIFEST_BYTES, OCI_INDEX_TYPE
from registry.revisions import Push, Pushed

_ACCEPTED: Final = 202
_CREATED: Final = 201


class PingView(ReadView):
    """`GET /v2/`."""

    async def get(self, request: Any) -> HttpResponse:
        """Say that this is a registry."""
        del request
        return json_response({})


class ManifestView(CallView):
    """`/v2/<name>/manifests/<tag or digest>`."""

    http_method_names = ["get", "head", "put", "delete"]

    async def get(self, request: Any, name: str, reference: str) -> HttpResponse:
        """Return a manifest as it was pushed, whatever the client accepts."""
        found = await sync_to_async(revisions.read_manifest)(request.user, name, reference)
        digest = f"sha256:{found.digest}"
        etag = quote_etag(digest)
        headers = {"Docker-Content-Digest": digest, "ETag": etag}
        response = HttpResponse(found.body, content_type=found.media_type, headers=headers)
        return get_conditional_response(request._request, etag, response=response) or response  # noqa: SLF001

    async def put(self, request: Any, name: str, reference: str) -> HttpResponse:
        """Take a manifest whose files are there."""
        push = Push(
            reference=reference,
            body=_manifest_bytes(request),
            media_type=request.headers.get("Content-Type", ""),
            tags=request.GET.getlist("tag"),
        )
        pushed = await sync_to_async(revisions.push_manifest)(request.user, name, push)
        return _empty(_CREATED, _pushed_headers(request, pushed))

    async def delete(self, request: Any, name: str, reference: str) -> HttpResponse:
        """Delete a tag, or a manifest with all of its tags."""
        await sync_to_async(revisions.delete_manifest)(request.user, name, reference)
        return _empty(_ACCEPTED)


class TagsView(ReadView):
    """`GET /v2/<name>/tags/list`."""

    async def get(self, request: Any, name: str) -> HttpResponse:
        """List a repository's tags."""
        path, tags = await sync_to_async(revisions.list_tags)(request.user, name)
        return _listed(request, tags, {"name": path}, "tags")


class CatalogView(ReadView):
    """`GET /v2/_catalog`."""

    async def get(self, request: Any) -> HttpResponse:
        """List the repositories that one may see."""
        names = await sync_to_async(revisions.list_repositories)(request.user)
        return _listed(request, names, {}, "repositories")


class ReferrersView(ReadView):
    """`GET /v2/<name>/referrers/<digest>`."""

    async def get(self, request: Any, name: str, digest: str) -> HttpResponse:
        """List the manifests whose subject is this one, as an index."""
        query = request.GET.dict()
        artifact_type = query.get("artifactType", "")
        found = await sync_to_async(revisions.list_referrers)(
            request.user, name, digest, artifact_type=artifact_type, after=query.get("last", "")
        )
        headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type else {}
        if found.last:
            headers["Link"] = link_to_next(request.path, query, found.last)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX_TYPE, "manifests": found.manifests}
        return json_response(index, content_type=OCI_INDEX_TYPE, headers=headers)


def _manifest_bytes(request: Any) -> bytes:
    """Return the request's body. Raises BodyTooLarge."""
    body = raw_body(request)
    if len(body) > MAX_MANIFEST_BYTES:
        raise BodyTooLarge(f"a manifest may have {MAX_MANIFEST_BYTES} bytes at most")
    return body


def _pushed_headers(request: Any, pushed: Pushed) -> dict[str, str]:
    digest = str(pushed.digest)
    # Absolute: a real Ollama follows no other.
    origin = asked_of_request(request).origin
    headers = {
        "Location": f"{origin}/v2/{pushed.path}/manifests/{digest}",
        "Docker-Content-Digest": digest,
    }
    if pushed.subject:
        headers["OCI-Subject"] = str(pushed.subject)
    if pushed.tags:
        headers["OCI-Tag"] = ", ".join(pushed.tags)
    return headers


def _listed(request: Any, names: list[str], first: Mapping[str, str], key: str) -> HttpResponse:
    query = request.GET.dict()
    page = page_of(names, query)
    headers = {}
    if page.next_last:
        headers["Link"] = link_to_next(request.path, query, page.next_last)
    return json_response({**first, key: page.names}, headers=headers)


def _empty(status: int, headers: Mapping[str, str] | None = None) -> HttpResponse:
    response = HttpResponse(status=status, headers=headers)
    del response["Content-Type"]
    return response

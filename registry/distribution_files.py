"""What is answered to who reads or removes a file of a repository, headers and all.

OCI distribution spec, and what a real Ollama needs besides (contract/registry.md 0): an absolute
`Location` that can be read without a credential. Who may do what is decided by the gate and
`registry.repositories`. Sends nothing itself: that is `registry.distribution_app`.
"""

from typing import Final

from models_app.gate import admit_scope
from models_app.permissions import Principal
from ollamasite import client_address
from ollamasite.errors import Unauthenticated
from registry import removal, repositories, signed_urls
from registry.blobs import blob_store
from registry.byte_ranges import ByteRange, parse_range
from registry.digest import Digest
from registry.distribution_request import BlobRequest, parse_digest
from registry.errors import BlobNotFound
from registry.file_answers import FilePart, Reply
from registry.repositories import Action, Repository

# A file never changes under its name; to whom it is sent does.
_CACHING: Final = "private, max-age=31536000"


def reply_with_file(request: BlobRequest) -> Reply:
    """Answer GET and HEAD. Raises BlobNotFound, RangeNotSatisfiable, and what the gate raises."""
    reader = _signed_reader(request)
    principal = reader or admit_scope(request.scope, request.place.route)
    digest = parse_digest(request.last)
    repository = repositories.find_repository(principal, request.name, Action.PULL)
    size_bytes = require_file(repository, digest)
    headers = _headers_of(digest)
    if _has_it_already(request, headers["ETag"]):
        return Reply(304, headers)
    # A signed URL is answered with itself: nobody can make it live longer.
    signature = (
        request.query["sig"] if reader else signed_urls.sign(principal, request.name, digest)
    )
    headers["Location"] = f"{request.url(str(digest))}?sig={signature}"
    part = _asked_part(request, headers["ETag"], size_bytes)
    shown = part or ByteRange(0, size_bytes - 1)
    headers["Content-Length"] = str(shown.size_bytes)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{size_bytes}"
    file = None
    if request.method == "GET":
        store = blob_store()
        opened = store.open(digest)
        file = FilePart(store.path(digest), opened, shown, is_whole=part is None, reader=principal)
    return Reply(206 if part else 200, headers, file)


def reply_to_removal(request: BlobRequest) -> Reply:
    """Answer DELETE. Raises BlobNotFound, BlobInUse, and what the gate raises."""
    principal = admit_scope(request.scope, request.place.route)
    digest = parse_digest(request.last)
    repository = repositories.find_repository(principal, request.name, Action.DELETE)
    if not repositories.unlink_blob(repository, digest):
        raise _not_found(digest)
    removal.remove_unused([digest])
    return Reply(202)


def require_file(repository: Repository, digest: Digest) -> int:
    """Return the size in bytes of a file that the repository has. Raises BlobNotFound."""
    size_bytes = repositories.blob_size(repository, digest)
    if size_bytes is None:
        raise _not_found(digest)
    return size_bytes


def _signed_reader(request: BlobRequest) -> Principal | None:
    """Return who was given a signed URL; None for others. Raises Unauthenticated, InvalidDigest."""
    signature = request.query.get("sig")
    if signature is None or "authorization" in request.headers:
        return None
    address = client_address.address_of_scope(request.scope)
    reader = signed_urls.reader_of(signature, request.name, parse_digest(request.last), address)
    if reader is None:
        raise Unauthenticated
    return reader


def _headers_of(digest: Digest) -> dict[str, str]:
    return {
        "Docker-Content-Digest": str(digest),
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": _CACHING,
        "Content-Type": "application/octet-stream",
    }


def _not_found(digest: Digest) -> BlobNotFound:
    error = BlobNotFound(str(digest))
    error.detail = str(digest)
    return error


def _has_it_already(request: BlobRequest, etag: str) -> bool:
    known = request.headers.get("if-none-match", "")
    return etag in known or known.strip() == "*"


def _asked_part(request: BlobRequest, etag: str, size_bytes: int) -> ByteRange | None:
    asked = request.headers.get("range")
    is_same = request.headers.get("if-range", etag).strip() == etag
    if asked is None or not is_same or request.method != "GET":
        return None
    return parse_range(asked, size_bytes)

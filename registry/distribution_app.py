"""Files of the registry, `/v2/<name>/blobs/…`, as an ASGI application of its own, beside Django.

Django's handler would spool a whole upload to a file first and hold a whole download in memory
(contract/registry.md 5.1). Here bytes go to and from the store in batches. Which requests these
are says `registry.distribution_request`; methods that a place does not know, Django answers. Who
may do what is decided by the gate and `registry.repositories`; how an upload is kept, and what is
told about a file, is the business of `registry.upload_sessions` and `distribution_files`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections

from models_app.access_watch import access_kept
from models_app.errors import InvalidModelName
from models_app.gate import admit_scope
from models_app.permissions import Principal
from ollamasite.error_responses import to_service_error
from ollamasite.errors import Forbidden, NotFound, ServiceError, Unauthenticated
from ollamasite.raw_answers import answer, refuse
from registry import distribution_files, repositories, upload_sessions
from registry.blobs import blob_store
from registry.byte_ranges import parse_chunk
from registry.digest import Digest
from registry.distribution_files import require_file
from registry.distribution_request import BlobRequest, Place, is_blob_request, parse_digest
from registry.errors import BlobNotFound, InvalidDigest, UploadOutOfOrder, UploadUnknown
from registry.file_answers import Reply, send_reply
from registry.raw_bodies import ClientLeft, drain, pass_over
from registry.repositories import Action, Repository
from registry.upload_sessions import Upload

__all__ = ["is_blob_request", "serve"]

# A sender that is silent for so long is cut off: what has come stays, and it may go on from there.
_SENDER_IDLE_S: Final = 60.0
_TIMEOUT: Final = 408
_EMPTY: Final = Digest.of(b"")
# What a token must be for to look after one's own upload, where that is not to push.
_SESSION_ACTIONS: Final = {"GET": Action.PULL, "DELETE": Action.DELETE}


_Handler = Callable[[BlobRequest, Any], Awaitable[Reply]]


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request of which `is_blob_request` holds."""
    try:
        request = BlobRequest.of(scope)
        reply = await _HANDLERS[request.place, request.method](request, receive)
    except ClientLeft:
        return
    except TimeoutError:
        await answer(send, _TIMEOUT, [(b"connection", b"close")])
    except (ServiceError, DatabaseError, OSError) as error:
        # The server passes over what is still to come: a client that is cut off while it
        # sends does not get to read why.
        await refuse(send, _told(error, scope), scope, closes=False)
    else:
        await send_reply(reply, scope, receive, send)
    finally:
        await sync_to_async(connections.close_all)()


def _told(error: Exception, scope: Any) -> ServiceError:
    told = to_service_error(error)
    if isinstance(told, UploadOutOfOrder):
        request = BlobRequest.of(scope)
        told.headers.update(_session_headers(request, told.session_id, told.received))
    return told


# ------------------------------------------------------------------ files


async def _read(request: BlobRequest, receive: Any) -> Reply:
    del receive
    return await sync_to_async(distribution_files.reply_with_file)(request)


async def _delete(request: BlobRequest, receive: Any) -> Reply:
    del receive
    return await sync_to_async(distribution_files.reply_to_removal)(request)


# ------------------------------------------------------------------ uploads


async def _begin(request: BlobRequest, receive: Any) -> Reply:
    principal, repository, digest = await sync_to_async(_beginner_of)(request)
    if digest and await sync_to_async(_is_there)(request, principal, repository, digest):
        # One that waits for leave to send is spared the sending.
        if "expect" not in request.headers:
            await pass_over(receive, idle_s=_SENDER_IDLE_S)
        return _created(request, digest)
    session = await sync_to_async(upload_sessions.begin)(principal, repository)
    is_whole = "digest" in request.query and (request.has_body or digest == _EMPTY)
    if digest is None or not is_whole:
        return Reply(202, _session_headers(request, session, 0))
    try:
        await _receive_last(request, receive, principal, repository, session, digest)
    except (ServiceError, ClientLeft, TimeoutError):
        # Its name has not been told to anybody.
        await sync_to_async(upload_sessions.discard)(session)
        raise
    return _created(request, digest)


def _beginner_of(request: BlobRequest) -> tuple[Principal, Repository, Digest | None]:
    """Return who begins an upload, where, and of which file if that is told."""
    principal = admit_scope(request.scope, request.place.route)
    algorithm = request.query.get("digest-algorithm", "sha256")
    if algorithm != "sha256":
        raise InvalidDigest(f"the digest algorithm '{algorithm}' is not served here: use sha256")
    told = [request.query[key] for key in ("digest", "mount") if key in request.query]
    digests = {parse_digest(text) for text in told}
    if len(digests) > 1:
        raise InvalidDigest("digest and mount name different files")
    repository = repositories.open_repository(principal, request.name)
    return principal, repository, next(iter(digests), None)


def _is_there(
    request: BlobRequest, principal: Principal, repository: Repository, digest: Digest
) -> bool:
    """Whether the repository has the file, or may have it from the one that the request names."""
    source = request.query.get("from") if "mount" in request.query else None
    with blob_store().in_use():
        try:
            require_file(repository, digest)
        except BlobNotFound:
            size_bytes = _size_elsewhere(principal, source, digest) if source else None
            if size_bytes is None:
                return False
            repositories.link_blob(repository, digest, size_bytes)
        return True


def _size_elsewhere(principal: Principal, name: str, digest: Digest) -> int | None:
    """Return a file's size in another repository; None where one may not read it there."""
    try:
        source = repositories.find_repository(principal, name, Action.PULL)
        return require_file(source, digest)
    except (NotFound, Forbidden, Unauthenticated, InvalidModelName):
        return None


async def _append(request: BlobRequest, receive: Any) -> Reply:
    principal, repository = await sync_to_async(_pusher_of)(request)
    upload = await sync_to_async(Upload)(principal, repository, request.last)
    try:
        async with access_kept(principal):
            await _receive_part(request, receive, upload)
    finally:
        await sync_to_async(upload.close)()
    return Reply(202, _session_headers(request, upload.session_id, upload.received))


async def _close(request: BlobRequest, receive: Any) -> Reply:
    principal, repository = await sync_to_async(_pusher_of)(request)
    digest = parse_digest(request.query.get("digest"))
    try:
        await _receive_last(request, receive, principal, repository, request.last, digest)
    except UploadUnknown:
        # Where the answer was lost on its way, an Ollama asks for the end once more.
        if await sync_to_async(repositories.blob_size)(repository, digest) is None:
            raise
    return _created(request, digest)


async def _receive_last(
    request: BlobRequest,
    receive: Any,
    principal: Principal,
    repository: Repository,
    session: str,
    digest: Digest,
) -> None:
    upload = await sync_to_async(Upload)(principal, repository, session)
    try:
        async with access_kept(principal):
            await _receive_part(request, receive, upload)
        await sync_to_async(upload.finish)(digest)
    finally:
        await sync_to_async(upload.close)()


async def _receive_part(request: BlobRequest, receive: Any, upload: Upload) -> None:
    told = request.headers.get("content-range")
    chunk = None if told is None else parse_chunk(told)
    if told is not None and chunk is None:
        raise UploadOutOfOrder(upload.session_id, upload.received)
    # An Ollama whose part was cut sends it again from its first byte, and never asks how far it is.
    is_ollama = "x-redirect-uploads" in request.headers
    await sync_to_async(upload.expect)(request.length, chunk, may_repeat=is_ollama)
    await sync_to_async(connections.close_all)()  # the body may take hours
    await drain(request.scope, receive, upload.add, idle_s=_SENDER_IDLE_S)
    upload.require_end()


async def _status(request: BlobRequest, receive: Any) -> Reply:
    del receive
    principal, repository = await sync_to_async(_pusher_of)(request)
    find = sync_to_async(upload_sessions.received_bytes)
    received = await find(principal, repository, request.last)
    return Reply(204, _session_headers(request, request.last, received))


async def _cancel(request: BlobRequest, receive: Any) -> Reply:
    del receive
    principal, repository = await sync_to_async(_pusher_of)(request)
    await sync_to_async(upload_sessions.cancel)(principal, repository, request.last)
    return Reply(204)


def _pusher_of(request: BlobRequest) -> tuple[Principal, Repository]:
    principal = admit_scope(request.scope, request.place.route)
    action = _SESSION_ACTIONS.get(request.method, Action.PUSH)
    return principal, repositories.find_repository(principal, request.name, action)


def _session_headers(request: BlobRequest, session_id: str, received: int) -> dict[str, str]:
    return {
        "Location": request.url(f"uploads/{session_id}"),
        "Docker-Upload-UUID": session_id,
        # Of one byte and of none it tells the same, hence our own header.
        "Range": f"0-{max(0, received - 1)}",
        "X-Upload-Bytes": str(received),
    }


def _created(request: BlobRequest, digest: Digest) -> Reply:
    headers = {"Location": request.url(str(digest)), "Docker-Content-Digest": str(digest)}
    return Reply(201, headers)


_HANDLERS: Final[dict[tuple[Place, str], _Handler]] = {
    (Place.BLOB, "GET"): _read,
    (Place.BLOB, "HEAD"): _read,
    (Place.BLOB, "DELETE"): _delete,
    (Place.UPLOADS, "POST"): _begin,
    (Place.SESSION, "GET"): _status,
    (Place.SESSION, "PATCH"): _append,
    (Place.SESSION, "PUT"): _close,
    (Place.SESSION, "DELETE"): _cancel,
}

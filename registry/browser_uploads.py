"""A GGUF file that a browser brings: begun here, sent to the registry's own upload, ended here.

In between the bytes go to `/v2/<repository>/blobs/uploads/<session>`, in as many requests as it
takes, which says how far it is (`registry.distribution_app`). A browser cannot hash a large file
as it reads it, so the digest is the server's, who has hashed what came. Knows no HTTP.
"""

from dataclasses import dataclass

from django.conf import settings

from models_app import namespaces, selectors, services
from models_app.errors import InvalidModelName
from models_app.names import DEFAULT_HOST, LIBRARY, ModelName
from models_app.permissions import Principal
from ollamasite.errors import BadRequest, BodyTooLarge
from ollamasite.sizes import print_size
from registry import library, repositories, upload_sessions
from registry.blobs import blob_store
from registry.digest import Digest
from registry.disk_space import require_free_bytes
from registry.errors import TagIsImmutable, UploadOutOfOrder
from registry.quotas import require_quota
from registry.repositories import Action
from registry.upload_sessions import Upload


@dataclass(frozen=True, slots=True)
class BegunUpload:
    """An upload to send to. `repository` is `<namespace>/<model>`."""

    session_id: str
    repository: str
    model_name: str  # as it will be stored


def begin(principal: Principal, name: str, size_bytes: int) -> BegunUpload:
    """Begin to receive the file of a new model; refuse at once what could not be kept.

    Raises InvalidModelName, NotYourModel, TagIsImmutable, BodyTooLarge, QuotaFull, StorageFull,
    TooManyUploads, BadRequest.
    """
    target = require_target(principal, name)
    namespace = target.namespace or LIBRARY
    _require_room(namespace, size_bytes)
    repository = repositories.open_repository(principal, f"{namespace}/{target.model}")
    session_id = upload_sessions.begin(principal, repository)
    return BegunUpload(session_id, repository.path, target.short)


def finish(principal: Principal, path: str, session_id: str, size_bytes: int) -> Digest:
    """End an upload of which all has come; the file is the caller's to make models of.

    Raises ModelNotFound, NotYourModel, UploadUnknown, UploadBusy, UploadOutOfOrder, QuotaFull,
    StorageFull. Blocks, for long only where other requests of the upload went to other processes.
    """
    repository = repositories.find_repository(principal, path, Action.PUSH)
    upload = Upload(principal, repository, session_id)
    try:
        if upload.received != size_bytes:
            raise UploadOutOfOrder(session_id, upload.received)
        with blob_store().in_use():
            digest = upload.finish()
            services.record_upload(principal.user_id, digest.hex, size_bytes)
    finally:
        upload.close()
    return digest


def require_target(principal: Principal, name: str) -> ModelName:
    """Return the name under which a model would be stored.

    Raises InvalidModelName, NotYourModel, TagIsImmutable.
    """
    target = library.write_target(principal, ModelName.parse(name))
    if target.host != DEFAULT_HOST:
        raise InvalidModelName("the model would be one of another registry: leave its host out")
    is_there = selectors.find_tag(principal, target) is not None
    if is_there and namespaces.is_immutable(target.namespace or LIBRARY, target.tag):
        raise TagIsImmutable(target.tag)
    return target


def _require_room(namespace: str, size_bytes: int) -> None:
    if size_bytes < 1:
        raise BadRequest("the file is empty")
    if size_bytes > settings.MAX_BLOB_BYTES:
        raise BodyTooLarge(f"a file may have {print_size(settings.MAX_BLOB_BYTES)} at most")
    store = blob_store()
    store.make_root()
    require_free_bytes(store.root, size_bytes)
    require_quota(namespace, size_bytes)

"""Push: a model of this site → another registry, files first and the manifest last.

contract/registry.md 1.5 and 1.9. Files go one after another, layers in order and then the config,
and the manifest's bytes as they are stored, so that its digest is the same on both sides. Knows no
HTTP of this site's own; how a file travels is `registry.remote.upload`.
"""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from models_app.errors import ConflictingSuffixes, InvalidModelName, ModelNotFound
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal
from ollamasite.errors import Forbidden
from registry import library, manifests, sealing
from registry.blobs import blob_store
from registry.errors import BlobNotFound, UnqualifiedName
from registry.library import StoredManifest
from registry.manifests import LayerRef
from registry.progress import Progress, Report
from registry.remote.client import RegistryClient, RetryPolicy
from registry.remote.reference import RemoteModel, scheme_of
from registry.remote.session_note import note_path
from registry.remote.tokens import Credentials
from registry.remote.upload import OutgoingBlob, upload_blob

if TYPE_CHECKING:
    from registry.jobs.context import JobContext

# Between two looks at how far an upload is; also how soon a cancelled job notices it.
_TICK_S: Final = 0.06
_SHOWN_DIGITS: Final = 12
_RETRIEVING: Final = "retrieving manifest"
_WRITTEN: Final = range(200, 300)


class PushArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What to push and where to. `sealed_password`: see registry.sealing; empty for none."""

    name: str  # as it was sent
    is_insecure: bool = False
    username: str = ""
    sealed_password: str = ""


def run(context: "JobContext", arguments: PushArguments) -> None:
    """Do the job.

    Raises RegistryNotAllowed; ModelNotFound, UnqualifiedName; RegistryFailed, OutboundRefused and
    OutboundFailed; BlobNotFound where the model is deleted meanwhile. Blocks.
    """
    if context.principal is None:
        raise Forbidden("only users push models")
    push_model(context.principal, arguments, context.report)


def push_model(
    principal: Principal,
    arguments: PushArguments,
    report: Report,
    *,
    policy: RetryPolicy | None = None,
) -> None:
    """Bring a model that the principal may see to the registry of its name. Raises as `run`."""
    stored = _find(principal, arguments, report)
    remote = _remote(stored.name, arguments)
    credentials = Credentials.for_registry(
        remote.origin,
        principal,
        username=arguments.username,
        password=sealing.open_sealed(arguments.sealed_password),
    )
    client = RegistryClient(remote, credentials, policy=policy)
    client.want("pull,push")
    blobs = list(_blobs(stored, remote, principal.user_id))
    asyncio.run(_push(client, stored, blobs, report))


def _find(principal: Principal, arguments: PushArguments, report: Report) -> StoredManifest:
    """Return what to push; a registry that is not allowed is refused before anything is said."""
    try:
        name = ModelName.parse(arguments.name)
    except InvalidModelName as error:
        _tell_missing(report)
        if isinstance(error, ConflictingSuffixes):
            raise
        raise UnqualifiedName(arguments.name) from error
    _remote(name, arguments)
    try:
        stored = library.stored_manifest(principal, arguments.name)
    except ModelNotFound:
        _tell_missing(report)
        raise
    report(Progress(_RETRIEVING))
    return stored


def _tell_missing(report: Report) -> None:
    report(Progress(_RETRIEVING))
    report(Progress("couldn't retrieve manifest"))


def _remote(name: ModelName, arguments: PushArguments) -> RemoteModel:
    scheme = scheme_of(arguments.name)
    return RemoteModel.parse(name, scheme_in_text=scheme, is_insecure=arguments.is_insecure)


async def _push(
    client: RegistryClient, stored: StoredManifest, blobs: list[OutgoingBlob], report: Report
) -> None:
    last = Progress(_RETRIEVING)
    async with client:
        for blob in blobs:
            last = await _push_blob(client, blob, report, last)
        report(Progress("pushing manifest"))
        await client.request(
            "PUT",
            f"{client.remote.path}/manifests/{client.remote.tag}",
            headers={"content-type": stored.media_type},
            content=stored.body,
            expected=_WRITTEN,
            what="push model manifest",
        )
    report(Progress("success"))


def _blobs(stored: StoredManifest, remote: RemoteModel, user_id: int) -> Iterator[OutgoingBlob]:
    """Yield the files of a manifest, each once: the layers in order, then the config."""
    manifest = manifests.parse_manifest(stored.body)
    store = blob_store()
    entries = {layer.digest: layer for layer in (*manifest.layers, manifest.config)}
    for entry in entries.values():
        source = _source(entry)
        yield OutgoingBlob(
            digest=entry.blob,
            path=store.path(entry.blob),
            size_bytes=entry.size,
            source="" if source == remote.repository else source,
            note=note_path(
                store.root, str(user_id), str(remote.origin), remote.repository, entry.digest
            ),
        )


def _source(layer: LayerRef) -> str:
    """Return the repository that a layer was taken from, as far as its entry tells."""
    try:
        name = ModelName.parse(layer.source)
    except InvalidModelName:
        return ""
    return f"{name.namespace or LIBRARY}/{name.model}"


async def _push_blob(
    client: RegistryClient, blob: OutgoingBlob, report: Report, last: Progress
) -> Progress:
    """Upload a file and report how far it is, even when it does not move; return the last event.

    Until it is known whether the other side has the file, that is the event before: a file which
    is there has one event.
    """
    status = f"pushing {blob.digest.hex[:_SHOWN_DIGITS]}"

    def note(sent_bytes: int) -> None:
        nonlocal last
        last = Progress(status, str(blob.digest), blob.size_bytes, sent_bytes)

    uploading = asyncio.create_task(upload_blob(client, blob, note))
    try:
        while not (await asyncio.wait({uploading}, timeout=_TICK_S))[0]:
            report(last)
        uploading.result()
    except FileNotFoundError as error:
        raise BlobNotFound(str(blob.digest)) from error
    finally:
        uploading.cancel()
        await asyncio.wait({uploading})
    report(last)
    return last

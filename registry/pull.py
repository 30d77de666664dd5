"""Pull: a model of another registry → this site, files first and the tag last.

contract/registry.md 1.4 and 1.9. A file that is here already is taken for fetched only by those
who may use it; everybody else fetches it again, and so shows that the registry gives it to them.
What has come of a pull that fails stays for the next. Knows no HTTP of this site's own; how a file
travels is `registry.remote.download`, what is usable `registry.admission`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from models_app import namespaces, selectors, services
from models_app.errors import TagIsImmutable
from models_app.names import LIBRARY, ModelName
from models_app.permissions import Principal
from ollamasite.errors import Forbidden
from registry import library, manifests, removal, sealing
from registry.admission import admit
from registry.blobs import blob_store
from registry.digest import Digest
from registry.errors import InvalidManifest, RegistryFailed
from registry.manifests import LayerRef, Manifest
from registry.progress import Progress, Report
from registry.quotas import require_room
from registry.remote.client import RegistryClient, RemoteManifest, RetryPolicy
from registry.remote.download import Completed, fetch
from registry.remote.reference import RemoteModel, scheme_of
from registry.remote.tokens import Credentials

if TYPE_CHECKING:
    from registry.jobs.context import JobContext

SUCCESS: Final = "success"
_SHOWN_DIGITS: Final = 12
_MAX_LAYERS: Final = 256
_MAX_FILE_BYTES: Final = 2**63 - 1
_TRIES: Final = 3


class PullArguments(msgspec.Struct, frozen=True, kw_only=True):
    """What to pull and how. `sealed_password`: see registry.sealing; empty for none."""

    name: str  # as it was sent
    is_insecure: bool = False
    username: str = ""
    sealed_password: str = ""


def run(context: "JobContext", arguments: PullArguments) -> None:
    """Do the job. Raises what `pull_model` raises. Blocks."""
    if context.principal is None:
        raise Forbidden("only users pull models")
    pull_model(context.principal, arguments, context.report)


def pull_model(
    principal: Principal,
    arguments: PullArguments,
    report: Report,
    *,
    policy: RetryPolicy | None = None,
) -> ModelName:
    """Fetch a model and return its name as it is stored.

    Raises InvalidModelName, NotYourModel, RegistryNotAllowed, TagIsImmutable before anything is
    reported; RegistryFailed, OutboundRefused; QuotaFull, StorageFull; what `admit` raises; and
    what `report` raises. To be called where no event loop runs. Blocks.
    """
    name = ModelName.parse(arguments.name)
    target = library.pull_target(principal, name)
    remote = RemoteModel.parse(
        name, scheme_in_text=scheme_of(arguments.name), is_insecure=arguments.is_insecure
    )
    credentials = Credentials.for_registry(
        remote.origin,
        principal,
        username=arguments.username,
        password=sealing.open_sealed(arguments.sealed_password),
    )
    pull = _Pull(principal, target, report)
    with _connected(RegistryClient(remote, credentials, policy=policy)) as connection:
        body = pull.fetch(connection)
    return pull.write(body)


class _Connection:
    """A client and the loop that it runs in."""

    def __init__(self, client: RegistryClient, runner: asyncio.Runner) -> None:
        self.client = client
        self.runner = runner


@contextmanager
def _connected(client: RegistryClient) -> Iterator[_Connection]:
    # The loop rests while the database is asked: that is for threads without one.
    with asyncio.Runner() as runner:
        runner.run(client.__aenter__())
        try:
            yield _Connection(client, runner)
        finally:
            runner.run(client.__aexit__())


class _Pull:
    """One pull under way."""

    def __init__(self, principal: Principal, target: ModelName, report: Report) -> None:
        self._principal = principal
        self._target = target
        self._report = report
        self._store = blob_store()
        self._fetched: set[Digest] = set()

    def fetch(self, connection: _Connection) -> RemoteManifest:
        """Fetch the manifest and every file of it."""
        self._report(Progress("pulling manifest"))
        remote = connection.runner.run(connection.client.get_manifest())
        manifest = _sensible(remote)
        files = [*manifest.layers, manifest.config]
        self._require_mutable(Digest.of(remote.body))
        sizes = {file.blob.hex: file.size for file in files}
        require_room(self._target, self._principal.user_id, sizes)
        for file in files:
            self._fetch_file(connection, file)
        return remote

    def write(self, remote: RemoteManifest) -> ModelName:
        """Check the model and give it its name; nobody has seen anything of it before."""
        self._report(Progress("verifying sha256 digest"))
        with self._store.in_use():
            manifest = admit(
                remote.body,
                media_type=remote.media_type,
                size_of=self._size_of,
                must_be_model=True,
            )
            self._report(Progress("writing manifest"))
            stored = services.write_tag(self._target, manifest, owner_id=self._principal.user_id)
        if removal.remove_unused():
            self._report(Progress("removing unused layers"))
        self._report(Progress(SUCCESS))
        return stored

    def _fetch_file(self, connection: _Connection, file: LayerRef) -> None:
        status = f"pulling {file.blob.hex[:_SHOWN_DIGITS]}"
        digest, total = str(file.blob), file.size

        def tell(completed: int) -> None:
            self._report(Progress(status, digest, total, completed))

        for _ in range(_TRIES):
            if self._take_known(file) or self._take_fetched(connection, file, tell):
                self._fetched.add(file.blob)
                return tell(total)
        raise RegistryFailed(f"pull {digest}: the file was removed as soon as it was here")

    def _take_known(self, file: LayerRef) -> bool:
        """Take a file that is here and that the caller may use; it stays until it is a layer."""
        if not selectors.may_use_blob(self._principal, file.blob.hex):
            return False
        return self._keep_for_caller(file)

    def _take_fetched(self, connection: _Connection, file: LayerRef, tell: Completed) -> bool:
        """Fetch a file; false where somebody else has, and it has been removed again."""
        fetching = fetch(connection.client, self._store, file.blob, file.size, tell)
        fetched = connection.runner.run(fetching)
        if fetched is None:
            return self._keep_for_caller(file)
        try:
            with self._store.in_use():
                fetched.keep(self._store)
                return self._keep_for_caller(file)
        finally:
            fetched.release()

    def _keep_for_caller(self, file: LayerRef) -> bool:
        with self._store.in_use():
            if not self._store.exists(file.blob):
                return False
            services.record_upload(self._principal.user_id, file.blob.hex, file.size)
            return True

    def _require_mutable(self, digest: Digest) -> None:
        """Refuse at once what writing the tag would refuse after the last byte."""
        target = self._target
        found = selectors.find_tag(self._principal, target)
        is_new = found is None or found.is_mirror or found.digest == digest.hex
        if not is_new and namespaces.is_immutable(target.namespace or LIBRARY, target.tag):
            raise TagIsImmutable(target.tag)

    def _size_of(self, digest: Digest) -> int | None:
        if digest not in self._fetched or not self._store.exists(digest):
            return None
        return self._store.size_bytes(digest)


def _sensible(remote: RemoteManifest) -> Manifest:
    """Return what a manifest says, if it is that of a model that may be worth its bytes.

    Raises InvalidManifest, InvalidDigest.
    """
    manifest = manifests.parse_manifest(remote.body)
    if not manifest.of_type(manifests.MODEL):
        raise InvalidManifest(
            "the manifest is not that of a GGUF model, which is all that runs here"
        )
    if len(manifest.layers) > _MAX_LAYERS:
        raise InvalidManifest(f"a model may have {_MAX_LAYERS} layers at most")
    sizes: dict[Digest, int] = {}
    for file in (*manifest.layers, manifest.config):
        if file.mediaType in manifests.TEXT_TYPES and file.size > manifests.MAX_TEXT_BYTES:
            raise InvalidManifest(f"the layer {file.digest} is too large for a text")
        if file.size > _MAX_FILE_BYTES:
            raise InvalidManifest(f"invalid manifest: {file.digest} cannot have {file.size} bytes")
        if sizes.setdefault(file.blob, file.size) != file.size:
            raise InvalidManifest(f"invalid manifest: {file.digest} has two sizes in it")
    return manifest

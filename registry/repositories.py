"""Repositories of the registry: who may do what in them, and which files they have.

A repository is what was pushed under the name of one model of this site. What one may not see
answers exactly like what does not exist. Knows no HTTP, no manifest and no row.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from models_app import repositories, services
from models_app.errors import InsufficientScope, InvalidModelName, ModelNotFound
from models_app.names import DEFAULT_HOST, ModelName
from models_app.permissions import Principal, Verb
from models_app.repositories import RepositoryRecord
from registry import library
from registry.blobs import blob_store
from registry.digest import Digest
from registry.errors import BlobInUse, NotYourModel

_CATALOG_GRANT: Final = "registry:catalog:*"


class Action(enum.StrEnum):
    """What somebody wants to do in a repository; the words of registry tokens."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"

    @property
    def verb(self) -> Verb:
        """What one has to be allowed to do with the model for it."""
        return _VERBS[self]


_VERBS: Final = {
    Action.PULL: Verb.PULL,
    Action.PUSH: Verb.PUSH,
    Action.DELETE: Verb.MANAGE,
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that the caller may use as asked. `name` has no meaningful tag."""

    model_id: int
    name: ModelName

    @property
    def namespace(self) -> str:
        """The namespace whose quota it counts to."""
        return self.name.namespace or ""

    @property
    def path(self) -> str:
        """`<namespace>/<model>`, as it was first written."""
        return f"{self.name.namespace}/{self.name.model}"


def parse_path(path: str) -> ModelName:
    """Parse `<namespace>/<model>` by Ollama's rule for names. Raises InvalidModelName."""
    # With a tag, so that nothing in the path can be taken for one.
    name = ModelName.parse(f"{path}:latest")
    if name.host != DEFAULT_HOST or f"{name.namespace}/{name.model}" != path:
        raise InvalidModelName(f"invalid repository name: {path!r} is not <namespace>/<model>")
    return name


def find_repository(principal: Principal, path: str, action: Action) -> Repository:
    """Return a repository that is there.

    Raises InvalidModelName; InsufficientScope, where the credential is a token for something else;
    ModelNotFound, also where the caller may not see it; NotYourModel where they may not do this.
    """
    name = parse_path(path)
    require_grant(principal, path, action)
    record = repositories.find_repository(principal, name, action.verb)
    if record is None:
        raise _unknown(path)
    if action is Action.PULL:
        if not record.is_allowed:
            raise NotYourModel(f"you may not download the model '{record.path}'")
        return _repository(record)
    library.write_target(principal, name, action.verb)
    if record.is_mirror:
        raise _unknown(path)  # another's, from before there was a user of this name
    return _repository(record)


def open_repository(principal: Principal, path: str) -> Repository:
    """Return a repository to push to, and create it if it is not there.

    Raises InvalidModelName, InsufficientScope, NotYourModel.
    """
    name = push_target(principal, path)
    row = services.open_model(name, owner_id=principal.user_id)
    return _repository(RepositoryRecord(row.pk, row.namespace, row.name))


def push_target(principal: Principal, path: str) -> ModelName:
    """Return the name to push to. Raises as `open_repository`, which also creates it."""
    name = parse_path(path)
    require_grant(principal, path, Action.PUSH)
    return library.write_target(principal, name, Verb.PUSH)


def require_grant(principal: Principal, path: str, action: Action) -> None:
    """Raise InsufficientScope where the credential is a registry token for something else."""
    _require(principal, f"repository:{path}:{action}")


def require_catalog(principal: Principal) -> None:
    """Raise InsufficientScope where the credential is a registry token for something else."""
    _require(principal, _CATALOG_GRANT)


def blob_size(repository: Repository, digest: Digest) -> int | None:
    """Return a file's size in bytes, or None where the repository, or the store, has it not."""
    return sizes_of(repository, digest)(digest)


def sizes_of(repository: Repository, *digests: Digest) -> Callable[[Digest], int | None]:
    """Return `blob_size` for many files: of these, or of all that the repository has."""
    wanted = [digest.hex for digest in digests] or None
    sizes = repositories.file_sizes(repository.model_id, wanted)
    store = blob_store()

    def size_of(digest: Digest) -> int | None:
        # Asked of the store too: a file that the disk has lost can be pushed again.
        return sizes.get(digest.hex) if store.exists(digest) else None

    return size_of


def link_blob(repository: Repository, digest: Digest, size_bytes: int) -> None:
    """Make a file of the store one of the repository; the caller holds the store `in_use`.

    Raises ModelNotFound where the repository has been deleted meanwhile.
    """
    repositories.link_blob(_record(repository), digest.hex, size_bytes)


def unlink_blob(repository: Repository, digest: Digest) -> bool:
    """Let the repository go of a file; return whether it had it. Raises BlobInUse."""
    if repositories.is_layer_of(repository.model_id, digest.hex):
        raise BlobInUse(str(digest))
    return repositories.unlink_blob(repository.model_id, digest.hex)


def _require(principal: Principal, grant: str) -> None:
    granted = principal.granted
    if granted is not None and grant.lower() not in {entry.lower() for entry in granted}:
        raise InsufficientScope


def _repository(record: RepositoryRecord) -> Repository:
    name = ModelName(model=record.name, namespace=record.namespace)
    return Repository(model_id=record.model_id, name=name)


def _record(repository: Repository) -> RepositoryRecord:
    name = repository.name
    return RepositoryRecord(repository.model_id, repository.namespace, name.model)


def _unknown(path: str) -> ModelNotFound:
    error = ModelNotFound(path)
    error.detail = {"name": path}
    return error

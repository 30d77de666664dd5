"""Files that somebody brings: whether they have to be sent, and what they become.

A file that another user has brought, or that is a layer of a model that one may not see, does not
exist for the caller: they send it as if it were new, and get the answer of a new one. So nobody
learns which files others have without having them too. Knows no HTTP.
"""

import re
from dataclasses import dataclass
from typing import Final

from models_app import selectors, services
from models_app.permissions import Principal
from registry.blobs import Draft, blob_store
from registry.digest import Digest
from registry.disk_space import require_free_bytes
from registry.errors import BlobNotFound, DigestMismatch, InvalidDigest
from registry.quotas import require_quota

_PATH: Final = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class BlobPath:
    """A digest as the last part of a path names it; `text` is how it was written there."""

    text: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> "BlobPath":
        """Parse the part of a path. Raises InvalidDigest."""
        match = _PATH.fullmatch(text)
        if match is None:
            raise InvalidDigest
        return cls(text, match[1])

    @property
    def digest(self) -> Digest:
        """What the store knows the file by; in upper case it knows none."""
        return Digest(self.hex)


def is_known(principal: Principal, asked: BlobPath) -> bool:
    """Whether the caller may use the file as it is in the store."""
    may_use = selectors.may_use_blob(principal, asked.hex)
    return may_use and blob_store().exists(asked.digest)


def require_known(principal: Principal, asked: BlobPath) -> None:
    """Raise BlobNotFound where `is_known` says no."""
    if not is_known(principal, asked):
        raise BlobNotFound(asked.text)


def begin(principal: Principal, size_bytes: int | None) -> Draft:
    """Begin to receive a file, of a size if it is known; the caller closes it.

    Raises StorageFull, QuotaFull.
    """
    store = blob_store()
    store.make_root()
    if size_bytes is not None:
        require_free_bytes(store.root, size_bytes)
        require_quota(principal.namespace, size_bytes)
    return store.draft()


def add(draft: Draft, namespace: str | None, batch: bytes | memoryview) -> None:
    """Write the next bytes of a file, as long as that leaves the site some room.

    Others write meanwhile, and not everybody tells a size before: then the quota of the
    `namespace` is looked at here. Raises StorageFull, QuotaFull.
    """
    require_free_bytes(blob_store().root, len(batch))
    if namespace is not None and batch:
        require_quota(namespace, draft.size_bytes + len(batch))
    draft.add(batch)


def finish(principal: Principal, draft: Draft, asked: BlobPath) -> None:
    """Keep a file that has come as the caller's. Raises DigestMismatch, StorageFull.

    Only the spelling `sha256:` with small letters can match, as with Ollama (contract 1.9).
    """
    if asked.text != str(draft.digest):
        raise DigestMismatch(asked.text, str(draft.digest))
    with blob_store().in_use():
        stored = draft.keep()
        services.record_upload(principal.user_id, stored.digest.hex, stored.size_bytes)

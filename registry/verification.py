"""Whether the store still holds what it promises: every file is read and hashed again.

Tells what is damaged or missing and which models need it, and sets damaged files aside if asked,
so that the next one who brings the same file mends it. Removes nothing. Knows no HTTP.
"""

import hashlib
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from models_app import stored_files
from registry import progress
from registry.blobs import BlobStore, blob_store
from registry.digest import Digest
from registry.errors import BlobNotFound, StoreDamaged
from registry.progress import Progress, Report

if TYPE_CHECKING:
    from registry.jobs.context import JobContext

_CHUNK_BYTES: Final = 1024 * 1024


class VerifyArguments(msgspec.Struct, frozen=True):
    """What a job of this kind is told."""

    set_aside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A file that is not what it should be, or is not there, and the models that need it."""

    digest: Digest
    is_missing: bool
    models: tuple[str, ...]

    def __str__(self) -> str:
        what = "is missing" if self.is_missing else "is damaged"
        needed = f"needed by {', '.join(self.models)}" if self.models else "no model needs it"
        return f"{self.digest} {what}: {needed}"


def run(context: "JobContext", arguments: VerifyArguments) -> None:
    """Do a verify job. Raises StoreDamaged, which says what is wrong, and JobCancelled."""
    damaged = verify_store(context.report, set_aside=arguments.set_aside)
    for found in damaged:
        context.report(Progress(status=str(found)))
    if damaged:
        raise StoreDamaged(len(damaged), str(damaged[0]))
    context.report(Progress(status="success"))


def verify_store(report: Report = progress.ignore, *, set_aside: bool = False) -> list[Damaged]:
    """Read every file of the store and return those that are damaged, and those that are not there.

    Damaged ones are renamed to `damaged-<hex>` if they are to be set aside. `report` gets the bytes
    read of each file, and may end it early. Takes about a second for each GB.
    """
    store = blob_store()
    needed = stored_files.needed_digests()
    on_disk = {digest.hex for digest in store.digests()}
    found: list[Damaged] = []
    for digest in map(Digest, sorted(needed | on_disk)):
        is_good = _is_good(store, digest, report, set_aside=set_aside)
        # It may have been let go of since the list was made; then nobody misses it.
        if is_good or (is_good is None and not stored_files.is_needed(digest.hex)):
            continue
        found.append(_damaged(digest, is_missing=is_good is None))
    return found


def verify_some(most_bytes: int) -> list[Damaged]:
    """Read a few files, others each time and not more bytes than so many; return the damaged."""
    store = blob_store()
    found: list[Damaged] = []
    digests = list(store.digests())
    for digest in random.sample(digests, len(digests)):
        try:
            size_bytes = store.size_bytes(digest)
            if size_bytes > most_bytes:
                continue
            most_bytes -= size_bytes
            if not store.verify(digest):
                found.append(_damaged(digest, is_missing=False))
        except BlobNotFound:  # it has gone meanwhile
            continue
    return found


def _damaged(digest: Digest, *, is_missing: bool) -> Damaged:
    models = tuple(stored_files.models_with(digest.hex))
    return Damaged(digest=digest, is_missing=is_missing, models=models)


def _is_good(store: BlobStore, digest: Digest, report: Report, *, set_aside: bool) -> bool | None:
    """Whether a file has its digest; None where it is not there."""
    try:
        file = store.open(digest)
    except BlobNotFound:
        return None
    with file:
        is_good = _hash(file, digest, report) == digest
        if not is_good and set_aside:
            store.set_aside(digest, os.fstat(file.fileno()).st_ino)
    return is_good


def _hash(file: BinaryIO, digest: Digest, report: Report) -> Digest:
    total = os.fstat(file.fileno()).st_size
    status = f"verifying {digest.hex[:12]}"
    hasher = hashlib.sha256()
    completed = 0
    report(Progress(status=status, digest=str(digest), total=total))
    while chunk := file.read(_CHUNK_BYTES):
        hasher.update(chunk)
        completed += len(chunk)
        report(Progress(status=status, digest=str(digest), total=total, completed=completed))
    return Digest(hasher.hexdigest())

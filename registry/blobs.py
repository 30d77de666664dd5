"""The content-addressed store: every file of every model, named by what it holds.

    <BLOBS_DIR>/
    ├── sha256-<64 hex>     one blob; read-only, never changed, complete from its first moment
    └── draft-<random>      a blob being written, renamed when its hash is known

Every write is hashed on its way in and compared with what was promised, flushed to disk and only
then renamed into place, so a crash leaves at most a draft. Memory stays flat whatever the size.
Knows nothing of manifests, formats and the database.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from django.conf import settings

from registry.digest import Digest
from registry.errors import BlobNotFound, DigestMismatch

_CHUNK_BYTES: Final = 1024 * 1024
_BLOB_MODE: Final = 0o440
# ioctl(2) FICLONE: share the data blocks of another file, where the file system can.
_FICLONE: Final = 0x40049409


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A file of the store. `is_new` is false where the store already had it."""

    digest: Digest
    size_bytes: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class BlobStore:
    """A directory of blobs. Safe to use from several processes at once."""

    root: Path

    def path(self, digest: Digest) -> Path:
        """Return where the blob is or would be."""
        return self.root / digest.file_name

    def exists(self, digest: Digest) -> bool:
        """Whether the store has the blob."""
        return self.path(digest).is_file()

    def size_bytes(self, digest: Digest) -> int:
        """Return the blob's size. Raises BlobNotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise BlobNotFound(str(digest)) from error

    def open(self, digest: Digest) -> BinaryIO:
        """Open the blob for reading; the caller closes it. Raises BlobNotFound."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError as error:
            raise BlobNotFound(str(digest)) from error

    def verify(self, digest: Digest) -> bool:
        """Whether the blob's bytes still have its digest. Raises BlobNotFound."""
        with self.open(digest) as file:
            return _digest_of(file) == digest

    def write(self, chunks: Iterable[bytes], *, expected: Digest | None = None) -> StoredBlob:
        """Store what the chunks add up to. Raises DigestMismatch, and then stores nothing."""
        with self._draft() as draft:
            hasher = hashlib.sha256()
            for chunk in chunks:
                hasher.update(chunk)
                draft.write(chunk)
            return self._keep(draft, Digest(hasher.hexdigest()), expected)

    def write_bytes(self, data: bytes) -> StoredBlob:
        """Store some bytes."""
        digest = Digest.of(data)
        if self.exists(digest):
            return StoredBlob(digest, len(data), is_new=False)
        return self.write([data], expected=digest)

    def import_file(self, source: Path, *, expected: Digest | None = None) -> StoredBlob:
        """Store a copy of a local file, sharing its disk blocks where the file system can.

        Raises DigestMismatch.
        """
        with source.open("rb") as file:
            with self._draft() as draft:
                if _clone(file, draft):
                    # What is hashed is our own copy: the source may change meanwhile.
                    draft.seek(0)
                    return self._keep(draft, _digest_of(draft), expected)
            return self.write(_chunks_of(file), expected=expected)

    @contextlib.contextmanager
    def _draft(self) -> Iterator[IO[bytes]]:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.root, prefix="draft-", delete=False) as draft:
            try:
                yield draft
            finally:
                Path(draft.name).unlink(missing_ok=True)

    def _keep(self, draft: IO[bytes], digest: Digest, expected: Digest | None) -> StoredBlob:
        if expected is not None and digest != expected:
            raise DigestMismatch(str(expected), str(digest))
        draft.flush()
        os.fchmod(draft.fileno(), _BLOB_MODE)
        os.fsync(draft.fileno())
        size_bytes = os.fstat(draft.fileno()).st_size
        is_new = not self.exists(digest)
        # Replacing a blob that is there already mends one that the disk has spoilt.
        Path(draft.name).replace(self.path(digest))
        self._sync_directory()
        return StoredBlob(digest, size_bytes, is_new)

    def _sync_directory(self) -> None:
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def blob_store() -> BlobStore:
    """Return the site's store."""
    return BlobStore(Path(settings.BLOBS_DIR))


def _clone(source: IO[bytes], target: IO[bytes]) -> bool:
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _digest_of(file: IO[bytes]) -> Digest:
    hasher = hashlib.sha256()
    for chunk in _chunks_of(file):
        hasher.update(chunk)
    return Digest(hasher.hexdigest())


def _chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk

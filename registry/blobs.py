"""The content-addressed store: every file of every model, named by what it holds.

    <BLOBS_DIR>/
    ├── sha256-<64 hex>     one blob; read-only, never changed, complete from its first moment
    ├── draft-<random>      a blob being written, renamed when its hash is known
    ├── upload-<session>    what has come so far of a file that is pushed in pieces
    ├── partial-<…>         what has come so far of a file that is pulled, with its state beside it
    ├── push-<…>            where a push of a large file goes on
    └── damaged-<64 hex>    what was found not to be the blob of its name

Every write is hashed on its way in and compared with what was promised, flushed to disk and only
then renamed into place, so a crash leaves at most a draft. Memory stays flat whatever the size.

A blob is removed when nothing needs it any longer. Whoever finds one and is about to say in the
database that it is needed holds the store `in_use` meanwhile; nothing is removed then.
Knows nothing of manifests, formats and the database.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, Final

from django.conf import settings

from registry.digest import Digest
from registry.errors import BlobNotFound, DigestMismatch, InvalidDigest, StorageFull

# Of the names of all files that belong here.
KNOWN_PREFIXES: Final = ("sha256-", "draft-", "upload-", "partial-", "push-", "damaged-")
_CHUNK_BYTES: Final = 1024 * 1024
_BLOB_MODE: Final = 0o440
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# How long a removal waits for those who hold the store; what it cannot remove lies there unused.
_PATIENCE_S: Final = 2.0
_POLL_S: Final = 0.05
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
    """A directory of blobs. Safe to use from several processes at once.

    `added`: the blobs that this object has brought into it.
    """

    root: Path
    added: list[Digest] = field(default_factory=list, compare=False, repr=False)

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
        """Store what the chunks add up to, or nothing. Raises DigestMismatch, StorageFull."""
        with self.draft() as draft:
            for chunk in chunks:
                draft.add(chunk)
            return draft.keep(expected)

    def write_bytes(self, data: bytes) -> StoredBlob:
        """Store some bytes."""
        digest = Digest.of(data)
        if self.exists(digest):
            return StoredBlob(digest, len(data), is_new=False)
        return self.write([data], expected=digest)

    def import_file(self, source: Path, *, expected: Digest | None = None) -> StoredBlob:
        """Store a copy of a local file, sharing its disk blocks where the file system can.

        Raises DigestMismatch, StorageFull.
        """
        with source.open("rb") as file:
            with self.draft() as draft:
                if draft.clone(file):
                    return draft.keep(expected)
            return self.write(_chunks_of(file), expected=expected)

    def draft(self) -> "Draft":
        """Begin a blob; the caller closes it, which leaves nothing unless it was kept."""
        self.make_root()
        with disk_errors():
            return Draft(self)

    def adopt(self, path: Path, digest: Digest) -> StoredBlob:
        """Make a file of this folder, whose hash has just been computed, a blob.

        It is flushed to disk and renamed; a blob that is there already is replaced, which mends
        one that the disk has spoilt. Raises StorageFull.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with disk_errors():
                os.fchmod(descriptor, _BLOB_MODE)
                os.fsync(descriptor)
            size_bytes = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        is_new = not self.exists(digest)
        path.replace(self.path(digest))
        _sync_folder(self.root)
        if is_new:
            self.added.append(digest)
        return StoredBlob(digest, size_bytes, is_new)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Let no blob be removed while this is held; many may hold it at once."""
        with self._folder() as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield

    def remove(self, digests: Iterable[Digest], *, is_wanted: Callable[[Digest], bool]) -> bool:
        """Remove those blobs that are not wanted, if the store is not in use for long.

        `is_wanted` is asked while nobody else can begin to need one. Returns whether it was done.
        """
        with self._folder() as descriptor:
            if not _lock_alone(descriptor):
                return False
            for digest in digests:
                if not is_wanted(digest):
                    self.path(digest).unlink(missing_ok=True)
            return True

    def file_names(self) -> list[str]:
        """Return the names of all files in the folder, blobs and others, in no order."""
        self.make_root()
        with os.scandir(self.root) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]

    def digests(self) -> Iterator[Digest]:
        """Yield the blobs that are there, in no order."""
        for name in self.file_names():
            with contextlib.suppress(InvalidDigest):
                digest = Digest.parse(name)
                if digest.file_name == name:
                    yield digest

    def set_aside(self, digest: Digest, inode: int) -> bool:
        """Rename a damaged blob to `damaged-<hex>`; return whether it was still that file.

        Somebody may have brought a good one since it was read.
        """
        with self._folder() as descriptor:
            path = self.path(digest)
            with contextlib.suppress(FileNotFoundError):
                if _lock_alone(descriptor) and path.stat().st_ino == inode:
                    path.replace(self.root / f"damaged-{digest.hex}")
                    return True
        return False

    def make_root(self) -> None:
        """Create the folder if it is not there."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        self.make_root()
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)  # and with it the lock


class Draft:
    """A blob on its way in, hashed as it is written."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._hasher = hashlib.sha256()
        self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed by `close`
            dir=store.root, prefix="draft-", delete=False
        )

    def __enter__(self) -> "Draft":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def digest(self) -> Digest:
        """The digest of what has been written so far."""
        return Digest(self._hasher.hexdigest())

    @property
    def size_bytes(self) -> int:
        """How much has been written so far."""
        return self._file.tell()

    def add(self, chunk: bytes | memoryview) -> None:
        """Write the next bytes. Raises StorageFull."""
        self._hasher.update(chunk)
        with disk_errors():
            self._file.write(chunk)

    def clone(self, source: IO[bytes]) -> bool:
        """Take over a whole file by sharing its disk blocks; false where that cannot be done."""
        try:
            fcntl.ioctl(self._file.fileno(), _FICLONE, source.fileno())
        except OSError:
            return False
        # What is hashed is our own copy: the source may change meanwhile.
        self._file.seek(0)
        for chunk in _chunks_of(self._file):
            self._hasher.update(chunk)
        return True

    def keep(self, expected: Digest | None = None) -> StoredBlob:
        """Make it a blob of the store. Raises StorageFull, or DigestMismatch and keeps nothing."""
        digest = self.digest
        if expected is not None and digest != expected:
            raise DigestMismatch(str(expected), str(digest))
        descriptor = self._file.fileno()
        with disk_errors():
            self._file.flush()
            os.fchmod(descriptor, _BLOB_MODE)
            os.fsync(descriptor)
        size_bytes = os.fstat(descriptor).st_size
        is_new = not self._store.exists(digest)
        # Replacing a blob that is there already mends one that the disk has spoilt.
        Path(self._file.name).replace(self._store.path(digest))
        _sync_folder(self._store.root)
        if is_new:
            self._store.added.append(digest)
        return StoredBlob(digest, size_bytes, is_new)

    def close(self) -> None:
        """Let go of the file; what was not kept is gone."""
        with contextlib.suppress(OSError):  # a full disk may refuse the last bytes once more
            self._file.close()
        Path(self._file.name).unlink(missing_ok=True)


def blob_store() -> BlobStore:
    """Return the site's store."""
    return BlobStore(Path(settings.BLOBS_DIR))


def _digest_of(file: IO[bytes]) -> Digest:
    hasher = hashlib.sha256()
    for chunk in _chunks_of(file):
        hasher.update(chunk)
    return Digest(hasher.hexdigest())


def _chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_alone(descriptor: int) -> bool:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of some bytes at a place of a file. Raises StorageFull.

    The disk is asked to begin at once, so that the flush at a large file's end is short.
    """
    rest = memoryview(data)
    place = offset
    with disk_errors():
        while rest:
            written = os.pwrite(descriptor, rest, place)
            rest, place = rest[written:], place + written
    if len(data) >= _CHUNK_BYTES:
        # Linux starts to write what is not on disk yet, and forgets only what is.
        os.posix_fadvise(descriptor, offset, len(data), os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Raise StorageFull where the disk, or the user's share of it, is full."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull from error
        raise

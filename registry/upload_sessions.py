"""Files on their way into a repository, in as many requests as it takes.

What has come of one is the file `upload-<session id>` in the store's folder, and its size is how
far the upload is: no second place tells. One request at a time writes, which holds the file's
lock; whatever has come stays when a request ends before its time. The hash is carried on from
request to request as long as they come to this process; otherwise the file is read once more at
the end. Who may push has been decided before (`registry.repositories`). Knows no HTTP.
"""

import contextlib
import fcntl
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

from models_app import upload_sessions as rows
from models_app.permissions import Principal
from ollamasite.errors import BodyTooLarge
from registry import repositories
from registry.blobs import blob_store, disk_errors, write_at
from registry.byte_ranges import ByteRange
from registry.digest import Digest
from registry.disk_space import require_free_bytes
from registry.errors import (
    DigestMismatch,
    StorageFull,
    TooManyUploads,
    UploadBusy,
    UploadOutOfOrder,
    UploadUnknown,
)
from registry.hash_thread import HashThread
from registry.quotas import quota_of, require_quota, require_room
from registry.repositories import Repository

MAX_PER_USER: Final = 16
# One that nobody has used for so long makes room for a new one of the same user.
_FORSAKEN_AFTER: Final = timedelta(minutes=10)
_KEPT_HASHES: Final = 64
_FILE_MODE: Final = 0o600


class _Hashes:
    """The hashes of uploads that are between two requests: (hash, bytes hashed) by session."""

    def __init__(self) -> None:
        self._by_session: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def take(self, session_id: str, received: int) -> Any:
        """Return the hash of the bytes that are there, or None where it is not known."""
        if received == 0:
            return hashlib.sha256()
        with self._lock:
            hasher, hashed = self._by_session.pop(session_id, (None, 0))
        return hasher if hashed == received else None

    def keep(self, session_id: str, hasher: Any, received: int) -> None:
        """Keep a hash for the next request; the one that was kept longest ago is forgotten."""
        with self._lock:
            self._by_session[session_id] = (hasher, received)
            if len(self._by_session) > _KEPT_HASHES:
                self._by_session.popitem(last=False)


_hashes: Final = _Hashes()


def begin(principal: Principal, repository: Repository) -> str:
    """Begin an upload and return its id. Raises TooManyUploads, UploadUnknown."""
    own = rows.of_user(principal.user_id)
    if len(own) >= MAX_PER_USER:
        session_id, used_at = own[0]
        if timezone.now() - used_at < _FORSAKEN_AFTER or not discard(session_id):
            raise TooManyUploads(MAX_PER_USER)
    session = rows.begin(repository.model_id, principal.user_id)
    if session is None:
        raise UploadUnknown
    blob_store().make_root()
    with disk_errors():
        path_of(session).touch(mode=_FILE_MODE)
    return session


def received_bytes(principal: Principal, repository: Repository, session_id: str) -> int:
    """Return how many bytes of an upload have come. Raises UploadUnknown."""
    _require_own(principal, repository, session_id)
    return _size_of(session_id)


def cancel(principal: Principal, repository: Repository, session_id: str) -> None:
    """End an upload and remove what has come. Raises UploadUnknown, UploadBusy."""
    _require_own(principal, repository, session_id)
    if not discard(session_id):
        raise UploadBusy


def discard(session_id: str) -> bool:
    """Remove an upload, row and file, unless a request is sending bytes of it; whether it is gone.

    For the janitor too, who asks nobody.
    """
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path_of(session_id), os.O_RDWR | os.O_CLOEXEC)
        try:
            if not _is_locked(descriptor):
                return False
            path_of(session_id).unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    rows.forget(session_id)
    return True


def path_of(session_id: str) -> Path:
    """Return where the bytes of an upload are."""
    return blob_store().root / f"upload-{session_id}"


class Upload:
    """An upload that this request sends bytes of; the caller closes it."""

    def __init__(self, principal: Principal, repository: Repository, session_id: str) -> None:
        """Raises UploadUnknown, UploadBusy."""
        _require_own(principal, repository, session_id)
        self._repository = repository
        self._user_id = principal.user_id
        self.session_id = session_id
        self._told_end: int | None = None
        self._needs_exact_end = False
        self._repeated = 0  # how many of the bytes that come next are here already
        self._descriptor = _open(session_id)
        self.received = os.fstat(self._descriptor).st_size
        self._hasher = _hashes.take(session_id, self.received)
        self._hash_thread = HashThread()

    def expect(
        self, length: int | None, chunk: ByteRange | None = None, *, may_repeat: bool = False
    ) -> None:
        """Say how many bytes will come, None if that is not told, and where they belong.

        `may_repeat`: the first ones may be here already; they are passed over. Raises
        UploadOutOfOrder, QuotaFull, StorageFull, BodyTooLarge.
        """
        if chunk is not None:
            self._repeated = self.received - chunk.first
            may_begin = 0 <= self._repeated <= (chunk.size_bytes if may_repeat else 0)
            if not may_begin or length not in {None, chunk.size_bytes}:
                raise UploadOutOfOrder(self.session_id, self.received)
            self._needs_exact_end = True
            length = chunk.size_bytes - self._repeated
        if length is None:
            return
        self._told_end = self.received + length
        self._require_room(length)

    def add(self, batch: bytes | memoryview) -> None:
        """Write the next bytes; all of them are there afterwards, or none.

        Raises UploadOutOfOrder for more than was told, QuotaFull, StorageFull, BodyTooLarge.
        """
        skipped = min(self._repeated, len(batch))
        self._repeated -= skipped
        batch = batch[skipped:]
        if not batch:
            return
        end = self.received + len(batch)
        if self._told_end is None:
            self._require_room(len(batch))
        elif end > self._told_end:
            raise UploadOutOfOrder(self.session_id, self.received)
        else:
            require_free_bytes(blob_store().root, len(batch))
        # A copy: where writing fails, the hash is still that of what is there.
        hasher = None if self._hasher is None else self._hasher.copy()
        hashing = self._hash_thread.hashing(hasher, batch)
        with _undone_on_failure(self._descriptor, self.received), hashing:
            write_at(self._descriptor, batch, self.received)
        self._hasher = hasher
        self.received = end

    def require_end(self) -> None:
        """Raise UploadOutOfOrder where less has come than the chunk was said to have."""
        if self._needs_exact_end and self.received != self._told_end:
            raise UploadOutOfOrder(self.session_id, self.received)

    def finish(self, digest: Digest | None = None) -> Digest:
        """Make what has come a file of the repository and return its digest; the upload ends.

        It ends in every case. `digest`: what it has to be; None: its sender cannot tell. Raises
        DigestMismatch, QuotaFull, StorageFull; UploadUnknown where it was cancelled.
        """
        try:
            actual = self._digest()
            if digest not in {None, actual}:
                raise DigestMismatch(str(digest), str(actual))
            sizes = {actual.hex: self.received}
            require_room(self._repository.name, self._user_id, sizes)
            store = blob_store()
            with store.in_use():
                store.adopt(path_of(self.session_id), actual)
                repositories.link_blob(self._repository, actual, self.received)
        except FileNotFoundError as error:
            raise UploadUnknown from error
        finally:
            path_of(self.session_id).unlink(missing_ok=True)
            rows.forget(self.session_id)
            self._hasher = None
        return actual

    def close(self) -> None:
        """Let others send; what has come stays."""
        if self._hasher is not None:
            _hashes.keep(self.session_id, self._hasher, self.received)
        self._hash_thread.close()
        os.close(self._descriptor)  # and with it the lock

    def _digest(self) -> Digest:
        if self._hasher is None:
            with os.fdopen(os.dup(self._descriptor), "rb") as file:
                file.seek(0)
                return Digest(hashlib.file_digest(file, "sha256").hexdigest())
        return Digest(self._hasher.hexdigest())

    def _require_room(self, length: int) -> None:
        if self.received + length > settings.MAX_BLOB_BYTES:
            raise BodyTooLarge
        require_free_bytes(blob_store().root, length)
        # What others of the namespace are sending counts too: it was let in before.
        namespace = self._repository.namespace
        if quota_of(namespace) is not None:
            coming = sum(map(_size_of, rows.of_namespace(namespace)))
            require_quota(namespace, coming + length)


def _require_own(principal: Principal, repository: Repository, session_id: str) -> None:
    if not rows.use(session_id, repository.model_id, principal.user_id):
        raise UploadUnknown


def _size_of(session_id: str) -> int:
    try:
        return path_of(session_id).stat().st_size
    except FileNotFoundError:
        return 0


def _open(session_id: str) -> int:
    """Return a descriptor that holds the file's lock. Raises UploadUnknown, UploadBusy."""
    path = path_of(session_id)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UploadUnknown from error
    if not _is_locked(descriptor):
        os.close(descriptor)
        raise UploadBusy
    # It may have been finished or cancelled between the two calls.
    if os.fstat(descriptor).st_nlink == 0 or not path.exists():
        os.close(descriptor)
        raise UploadUnknown
    return descriptor


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _undone_on_failure(descriptor: int, size_bytes: int) -> Iterator[None]:
    try:
        yield
    except (OSError, StorageFull):
        os.ftruncate(descriptor, size_bytes)
        raise

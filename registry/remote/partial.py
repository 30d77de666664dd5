"""A file that is being fetched: its bytes so far, and beside them which ones they are.

    partial-<64 hex>-<origin>         sparse; locked by whoever fetches it
    partial-<64 hex>-<origin>.json    its parts and how far each has come, saved after the bytes

Two that want the same file of the same registry share one; a lock that is gone with its process
says who works on it. Bytes are written and hashed in threads. Knows no HTTP.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, Self

import msgspec

from registry.blobs import BlobStore, StoredBlob, disk_errors, write_at
from registry.digest import Digest
from registry.hash_thread import HashThread

_LEAST_PART_BYTES: Final = 64 * 1024**2
_MOST_PART_BYTES: Final = 256 * 1024**2
_USUAL_PARTS: Final = 64
_MAX_STATE_BYTES: Final = 4 * 1024**2
_READ_BYTES: Final = 4 * 1024**2
_ORIGIN_CHARACTERS: Final = 16


@dataclass(slots=True, eq=False)
class Part:
    """The bytes from `start` to before `end`, of which the first `done` have come."""

    start: int
    end: int
    done: int = 0

    @property
    def next(self) -> int:
        """Where the next byte belongs."""
        return self.start + self.done

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.next == self.end


class _State(msgspec.Struct, frozen=True):
    size: int
    completed: int
    parts: list[tuple[int, int, int]]


class HeldByAnother(Exception):
    """Somebody else fetches the file. `inode`: which one, also when it has become a blob."""

    def __init__(self, inode: int) -> None:
        super().__init__(inode)
        self.inode = inode


class PartialFile:
    """A file in part, held by one. `release` it when done; what has come stays for the next."""

    def __init__(
        self, path: Path, descriptor: int, size_bytes: int, part_bytes: int | None
    ) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._part_bytes = part_bytes or size_bytes
        self._descriptor = descriptor
        self._hasher = hashlib.sha256()
        self._hashing = Lock()
        self._hash_thread = HashThread()
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self.hashed_bytes = 0
        self.parts = self._resumed() or self._cut()
        self.is_resumed = self.completed_bytes > 0

    @classmethod
    def hold(cls, path: Path, size_bytes: int, *, part_bytes: int | None = None) -> Self:
        """Open, or begin, a file for oneself. Raises HeldByAnother."""
        while True:
            descriptor = _open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                inode = os.fstat(descriptor).st_ino
                os.close(descriptor)
                raise HeldByAnother(inode) from error
            if _is_same(path, descriptor):
                return cls(path, descriptor, size_bytes, part_bytes)
            os.close(descriptor)  # it has become a blob, or was removed, since it was opened

    @property
    def completed_bytes(self) -> int:
        """How much has come."""
        return sum(part.done for part in self.parts)

    @property
    def front(self) -> int:
        """Up to where nothing is missing."""
        return next((part.next for part in self.parts if not part.is_whole), self.size_bytes)

    @property
    def digest(self) -> Digest:
        """The digest of what has been hashed."""
        return Digest(self._hasher.hexdigest())

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes at their place, and hash them if it is their turn. Raises StorageFull."""
        # What comes in order need not be read again to be hashed.
        if self._hashing.acquire(blocking=False):
            try:
                if offset == self.hashed_bytes:
                    return self._write_and_hash(data)
            finally:
                self._hashing.release()
        write_at(self._descriptor, data, offset)
        return None

    def _write_and_hash(self, data: memoryview) -> None:
        # A copy: where writing fails, the hash is still that of what came before.
        hasher = self._hasher.copy()
        with self._hash_thread.hashing(hasher, data):
            write_at(self._descriptor, data, self.hashed_bytes)
        self._hasher = hasher
        self.hashed_bytes += len(data)

    def hash_until(self, end: int) -> None:
        """Hash on, up to a place before which nothing is missing."""
        with self._hashing:
            while self.hashed_bytes < end:
                piece = self._buffer[: min(_READ_BYTES, end - self.hashed_bytes)]
                count = os.preadv(self._descriptor, [piece], self.hashed_bytes)
                if not count:
                    raise EOFError(f"{self.path} is shorter than what was written to it")
                self._hasher.update(piece[:count])
                self.hashed_bytes += count

    def start_anew(self, *, in_one_part: bool = False) -> None:
        """Forget all that has come."""
        with disk_errors():
            os.ftruncate(self._descriptor, 0)
        self.parts = [Part(0, self.size_bytes)] if in_one_part else self._cut()
        self._hasher = hashlib.sha256()
        self.hashed_bytes = 0
        self.is_resumed = False

    def save(self) -> None:
        """Note how far it has come, after the bytes themselves. Raises StorageFull."""
        parts = [(part.start, part.end, part.done) for part in self.parts]
        state = _State(self.size_bytes, sum(done for _, _, done in parts), parts)
        with disk_errors(), _draft_beside(_state_path(self.path)) as draft:
            draft.write_bytes(msgspec.json.encode(state))
            draft.replace(_state_path(self.path))

    def keep(self, store: BlobStore) -> StoredBlob:
        """Make it the blob that its hash says it is. Raises StorageFull."""
        stored = store.adopt(self.path, self.digest)
        _state_path(self.path).unlink(missing_ok=True)
        return stored

    def discard(self) -> None:
        """Remove it with all that has come."""
        _state_path(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let somebody else have it."""
        if self._descriptor >= 0:
            self._hash_thread.close()
            os.close(self._descriptor)
            self._descriptor = -1

    def split(self, part: Part) -> list[Part]:
        """Cut off what is far from done of a part, for others to fetch; return the new parts.

        Whoever fetches the part goes on to its new end.
        """
        part_bytes = _usual_part_bytes(self.size_bytes)
        first = part.next + part_bytes
        cut = [
            Part(start, min(start + part_bytes, part.end))
            for start in range(first, part.end, part_bytes)
        ]
        if cut:
            part.end = first
            place = self.parts.index(part) + 1
            self.parts[place:place] = cut
        return cut

    def _cut(self) -> list[Part]:
        if not self.size_bytes:
            return []
        starts = range(0, self.size_bytes, self._part_bytes)
        return [Part(start, min(start + self._part_bytes, self.size_bytes)) for start in starts]

    def _resumed(self) -> list[Part]:
        """Return the parts as they were saved, or none where that cannot be right."""
        state = _read_state(self.path)
        parts = [Part(*numbers) for numbers in state.parts] if state else []
        if state is not None and state.size == self.size_bytes and _tile(parts, state.size):
            is_on_disk = os.fstat(self._descriptor).st_size
            if all(part.next <= is_on_disk for part in parts if part.done):
                return parts
        os.ftruncate(self._descriptor, 0)
        return []


def path_of(store: BlobStore, digest: Digest, origin: str) -> Path:
    """Return where a registry's file is while it is fetched."""
    source = hashlib.sha256(origin.encode()).hexdigest()[:_ORIGIN_CHARACTERS]
    return store.root / f"partial-{digest.hex}-{source}"


def completed_bytes(path: Path) -> int:
    """Return how much of a file that somebody else fetches had come when it was last saved."""
    state = _read_state(path)
    return state.completed if state else 0


def _usual_part_bytes(size_bytes: int) -> int:
    return min(max(size_bytes // _USUAL_PARTS, _LEAST_PART_BYTES), _MOST_PART_BYTES)


def _tile(parts: list[Part], size_bytes: int) -> bool:
    """Whether the parts follow each other from 0 to the size, none of them over-full."""
    place = 0
    for part in parts:
        if part.start != place or part.end <= place or not 0 <= part.done <= part.end - place:
            return False
        place = part.end
    return place == size_bytes


def _read_state(path: Path) -> _State | None:
    try:
        with _state_path(path).open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_STATE_BYTES), type=_State)
    except (OSError, msgspec.MsgspecError):
        return None


def _state_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError:
        if not path.is_symlink():
            raise
        path.unlink(missing_ok=True)  # nothing of ours is one
        return os.open(path, flags, 0o600)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _draft_beside(path: Path) -> Iterator[Path]:
    descriptor, name = tempfile.mkstemp(prefix="draft-", dir=path.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)

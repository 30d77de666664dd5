"""A backup that is a folder, in which the next one copies only what is new.

    <folder>/              0700
    ├── backup.json        replaced last, in one step: until then it tells of the backup before
    ├── state-<moment>/    what is no blob
    └── blobs/             as in the store; hard links to it on the same file system

Knows nothing of what the files mean.
"""

import contextlib
import errno
import fcntl
import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from ollamasite.backups import hashing
from ollamasite.backups.contents import (
    CONTENTS,
    MAX_CONTENTS_BYTES,
    BackupError,
    Contents,
    Entry,
    blob_digest,
    parse,
)

_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})
_NEW: Final = ".new-"


class FolderWriter:
    """Writes a backup into a folder. Close it, also where it was not finished."""

    def __init__(self, folder: Path, state: str) -> None:
        """Open the folder for this backup alone. Raises BackupError, OSError."""
        self._folder = folder
        self._blobs = folder / "blobs"
        self._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise BackupError(f"Another backup is being written to {folder}.") from error
        self._state = folder / state
        self._is_finished = False
        self.room = folder / f"{_NEW}{secrets.token_hex(4)}"  # for what is being made
        self.room.mkdir(mode=0o700)
        self._state.mkdir(mode=0o700)

    def add(self, name: str, path: Path) -> Entry:
        """Take a file into the backup. Raises OSError."""
        digest = blob_digest(name)
        if digest is not None:
            return self._add_blob(name, digest, path)
        target = self._state / name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with path.open("rb") as file:
            sha256, size_bytes = hashing.create(target, file)
        hashing.sync_folder(target.parent)
        return Entry(name, size_bytes, sha256)

    def finish(self, contents: Contents) -> None:
        """Make it the folder's backup, and remove what it does not need. Raises OSError."""
        hashing.sync_folder(self._blobs)
        hashing.sync_folder(self._state)
        draft = self.room / CONTENTS
        hashing.create(draft, io.BytesIO(msgspec.json.encode(contents)))
        draft.replace(self._folder / CONTENTS)
        hashing.sync_folder(self._folder)
        self._is_finished = True
        self._remove_others({Path(entry.name).name for entry in contents.files})

    def close(self) -> None:
        """Let go of the folder; what was not finished is gone, but for blobs, which stay true."""
        shutil.rmtree(self.room, ignore_errors=True)
        if not self._is_finished:
            shutil.rmtree(self._state, ignore_errors=True)
        os.close(self._descriptor)

    def _add_blob(self, name: str, digest: str, path: Path) -> Entry:
        target = self._folder / name
        size_bytes = path.stat().st_size
        if target.is_file() and target.stat().st_size == size_bytes:
            return Entry(name, size_bytes, digest)
        draft = self.room / "blob"
        draft.unlink(missing_ok=True)
        found = digest
        if not _link(path, draft):
            with path.open("rb") as file:
                found, size_bytes = hashing.create(draft, file, mode=0o400)
        if found == digest:
            draft.replace(target)
        return Entry(name, size_bytes, found)

    def _remove_others(self, needed: set[str]) -> None:
        for path in self._folder.iterdir():
            is_old_state = path.name.startswith("state-") and path != self._state
            if is_old_state or (path.name.startswith(_NEW) and path != self.room):
                shutil.rmtree(path, ignore_errors=True)
        for path in self._blobs.iterdir():
            if path.name not in needed:
                path.unlink(missing_ok=True)


class FolderReader:
    """Reads a backup that is a folder."""

    def __init__(self, folder: Path) -> None:
        """Read what it holds. Raises BackupError, OSError."""
        try:
            with _opened(folder / CONTENTS) as file:
                data = file.read(MAX_CONTENTS_BYTES + 1)
        except FileNotFoundError as error:
            raise BackupError(
                f"{folder} has no {CONTENTS}: it is no backup, or one that was never finished."
            ) from error
        if len(data) > MAX_CONTENTS_BYTES:
            raise BackupError(f"{CONTENTS} is too long to be a backup's.")
        self._folder = folder
        self.contents = parse(data)

    def files(self) -> Iterator[tuple[Entry, IO[bytes]]]:
        """Yield every file, open. Raises BackupError where one is missing, OSError."""
        for entry in self.contents.files:
            is_blob = blob_digest(entry.name) is not None
            folder = self._folder if is_blob else self._folder / self.contents.state
            try:
                with _opened(folder / entry.name) as file:
                    yield entry, file
            except FileNotFoundError as error:
                raise BackupError(f"The backup's file {entry.name} is missing.") from error

    def close(self) -> None:
        """Nothing is held."""


def _link(path: Path, target: Path) -> bool:
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a plain file that is there itself: no link, no device."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BackupError(f"{path} is a link, which no backup has.") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        if not _is_plain(descriptor):
            raise BackupError(f"{path} is no plain file.")
        yield file


def _is_plain(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)

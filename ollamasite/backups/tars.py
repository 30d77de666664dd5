"""A backup that is one tar file, 0600: every file of it, and `backup.json` as the last.

Written beside its place and renamed when it is whole. Read by name, never unpacked: links, devices
and names that no backup has are refused. Knows nothing of what the files mean.
"""

import contextlib
import fcntl
import glob
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from ollamasite.backups.contents import (
    CONTENTS,
    MAX_CONTENTS_BYTES,
    BackupError,
    Contents,
    Entry,
    is_file_name,
    parse,
)
from ollamasite.backups.hashing import sync_folder


class TarWriter:
    """Writes a backup as a tar file. Close it, also where it was not finished."""

    def __init__(self, path: Path) -> None:
        """Begin the file beside its place. Raises BackupError, OSError."""
        self._path = path
        self._draft = path.with_name(f"{path.name}.part")
        self._is_finished = False
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise BackupError(f"Another backup is being written to {path}.") from error
        os.fchmod(descriptor, 0o600)
        self._file.truncate(0)
        for left in path.parent.glob(f".{glob.escape(path.name)}-*"):  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        self.room = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name: str, path: Path) -> Entry:
        """Take a file into the backup. Raises OSError."""
        with path.open("rb") as file:
            member = _member(name, os.fstat(file.fileno()).st_size)
            hashed = _HashedReader(file)
            self._tar.addfile(member, hashed)
        return Entry(name, member.size, hashed.hexdigest())

    def finish(self, contents: Contents) -> None:
        """Write down what it holds and put it in its place. Raises OSError."""
        data = msgspec.json.encode(contents)
        self._tar.addfile(_member(CONTENTS, len(data)), io.BytesIO(data))
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._draft.replace(self._path)
        self._is_finished = True  # another one may have begun under the draft's name
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Let go of the file; what was not finished is gone."""
        shutil.rmtree(self.room, ignore_errors=True)
        if not self._is_finished:
            self._draft.unlink(missing_ok=True)
        self._file.close()


class TarReader:
    """Reads a backup that is a tar file."""

    def __init__(self, path: Path) -> None:
        """Read what it holds. Raises BackupError, OSError."""
        with contextlib.ExitStack() as stack:
            try:
                self._tar = stack.enter_context(tarfile.open(path, mode="r:"))
                self._members = _members(self._tar)
                self.contents = parse(_contents_bytes(self._tar, self._members))
            except (tarfile.TarError, EOFError) as error:
                raise BackupError(f"{path} is no backup, or was cut off: {error}.") from error
            missing = {entry.name for entry in self.contents.files} - self._members.keys()
            if missing:
                raise BackupError(f"The backup's file {min(missing)} is missing.")
            stack.pop_all()

    def files(self) -> Iterator[tuple[Entry, IO[bytes]]]:
        """Yield every file, open, in the order of the tar. Raises OSError."""
        order = {name: member.offset for name, member in self._members.items()}
        for entry in sorted(self.contents.files, key=lambda one: order[one.name]):
            file = self._tar.extractfile(self._members[entry.name])
            if file is None:
                raise BackupError(f"The backup's file {entry.name} is no plain file.")
            with file:
                yield entry, file

    def close(self) -> None:
        """Let go of the file."""
        self._tar.close()


class _HashedReader(io.RawIOBase):
    """A file that knows what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._hasher = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._hasher.update(piece)
        return piece

    def hexdigest(self) -> str:
        return self._hasher.hexdigest()


def _member(name: str, size_bytes: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    member.mode = 0o600
    return member


def _members(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        is_known = is_file_name(member.name) or member.name == CONTENTS
        if not is_known or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise BackupError(f"{member.name!r} is in the file, which is nothing of a backup's.")
        if member.name in found:
            raise BackupError(f"{member.name} is in the file twice: it is no backup of ours.")
        found[member.name] = member
    return found


def _contents_bytes(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> bytes:
    member = members.get(CONTENTS)
    if member is None or member.size > MAX_CONTENTS_BYTES:
        raise BackupError(f"The file has no {CONTENTS}: it is no backup, or was cut off.")
    file = tar.extractfile(member)
    return file.read() if file is not None else b""

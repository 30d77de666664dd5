"""Where an upload to another registry goes on, kept beside the store's files.

A push that was cut off, by a restart or a kill as well, so begins no file anew whose bytes the
other side still has. The note is one line, the session's URL; it is locked by whoever uploads,
and one that is left lying is garbage after a while. Knows no HTTP.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

_MAX_BYTES: Final = 16 * 1024
_NAME_CHARACTERS: Final = 32


class Note(Protocol):
    """A place to remember a URL."""

    def read(self) -> str | None:
        """Return what was written last."""

    def write(self, url: str | None) -> None:
        """Remember a URL, or none."""


class NoNote:
    """Remembers nothing."""

    def read(self) -> str | None:
        """Return nothing."""

    def write(self, url: str | None) -> None:
        """Forget it at once."""


class SessionNote:
    """A note in a file that this process has locked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> str | None:
        """Return what was written last, if it was written whole."""
        text = os.pread(self._descriptor, _MAX_BYTES, 0).decode("utf-8", "replace")
        return text.rstrip("\n") if text.endswith("\n") and len(text) > 1 else None

    def write(self, url: str | None) -> None:
        """Remember a URL, or none."""
        os.ftruncate(self._descriptor, 0)
        if url is not None:
            os.pwrite(self._descriptor, f"{url}\n".encode(), 0)


def note_path(folder: Path, *what: str) -> Path:
    """Return the file for the upload of something, told by any number of words."""
    hasher = hashlib.sha256("\n".join(what).encode())
    return folder / f"push-{hasher.hexdigest()[:_NAME_CHARACTERS]}"


@contextlib.contextmanager
def locked_note(path: Path | None) -> Iterator[Note]:
    """Open a note; where there is no place for one, or somebody else has it, one that is empty.

    The file goes when there is nothing in it.
    """
    descriptor = None if path is None else _lock(path)
    if path is None or descriptor is None:
        yield NoNote()
        return
    note = SessionNote(descriptor)
    try:
        yield note
    finally:
        if note.read() is None:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Return a descriptor of the file, made if need be, that nobody else has locked."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None  # a full disk is no reason not to push
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor

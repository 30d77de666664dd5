"""Copies and hashes files of a backup, in pieces. Knows nothing of what is in them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

_PIECE_BYTES: Final = 1024 * 1024


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of a file."""
    while piece := file.read(_PIECE_BYTES):
        yield piece


def digest_of(file: IO[bytes]) -> tuple[str, int]:
    """Return the SHA-256 (hex) and the bytes of what is left of a file."""
    hasher = hashlib.sha256()
    size_bytes = 0
    for piece in pieces(file):
        hasher.update(piece)
        size_bytes += len(piece)
    return hasher.hexdigest(), size_bytes


def copy(file: IO[bytes], target: IO[bytes]) -> tuple[str, int]:
    """Write what is left of a file to another; return its SHA-256 and bytes. Raises OSError."""
    hasher = hashlib.sha256()
    size_bytes = 0
    for piece in pieces(file):
        hasher.update(piece)
        target.write(piece)
        size_bytes += len(piece)
    return hasher.hexdigest(), size_bytes


def create(path: Path, file: IO[bytes], *, mode: int = 0o600) -> tuple[str, int]:
    """Make a file of what is left of another and have it on the disk; returns SHA-256 and bytes.

    Raises OSError; then there is none.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as target:
            found = copy(file, target)
            target.flush()
            os.fsync(target.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return found


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Read uploaded GGUF files where a hostile one does no harm: in a process with limits.

Files are opened here, never through a link, and handed over open. Knows nothing of manifests and
of what a file is for.
"""

import os
import stat
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import BinaryIO, Final

import msgspec

from registry import gguf_child
from registry.blobs import BlobStore
from registry.child_process import ChildFailed, Limits, run_lines
from registry.digest import Digest
from registry.errors import BlobNotFound, GgufError
from registry.gguf import GgufFile

_MEMORY_BYTES: Final = 1024**3
_RESERVED_BYTES: Final = 1024**3
_CPU_S: Final = 30
_WALL_S: Final = 60.0
_OUTPUT_BYTES: Final = 8 * 1024**2
# Vocabularies, which only a verbose show asks for.
_ARRAYS_BYTES: Final = 32 * 1024**2
# Each of these processes may take as much memory as the limits below say.
_SLOTS: Final = BoundedSemaphore(4)
_KEPT_FILES: Final = 16
_KEPT_ANSWER_BYTES: Final = 256 * 1024
_DECODER: Final = msgspec.json.Decoder(gguf_child.Answer)


def inspect(path: Path, *, with_arrays: bool = False) -> GgufFile:
    """Read a file's metadata; arrays are built only when asked for. Raises GgufError."""
    return _decode(_ask(path, with_arrays=with_arrays))


def inspect_blob(digest: Digest, *, store: BlobStore) -> GgufFile:
    """Read a blob's metadata without arrays. Raises GgufError, BlobNotFound.

    A blob never changes, so what the last few said is remembered.
    """
    if not store.exists(digest):
        raise BlobNotFound(str(digest))
    known = _KNOWN.get(digest)
    if known is not None:
        return known
    line = _ask(store.path(digest), with_arrays=False)
    found = _decode(line)
    if len(line) <= _KEPT_ANSWER_BYTES:
        _KNOWN.put(digest, found)
    return found


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading that must be a plain one, not a link. Raises GgufError."""
    try:
        # NONBLOCK: whoever opens a pipe would wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise GgufError(f"the file cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise GgufError
    return os.fdopen(descriptor, "rb")


class _Known:
    """What the last few blobs said. Safe to use from several threads."""

    def __init__(self) -> None:
        self._files: dict[Digest, GgufFile] = {}
        self._lock = Lock()

    def get(self, digest: Digest) -> GgufFile | None:
        return self._files.get(digest)

    def put(self, digest: Digest, file: GgufFile) -> None:
        with self._lock:
            if len(self._files) >= _KEPT_FILES:
                del self._files[next(iter(self._files))]
            self._files[digest] = file


_KNOWN: Final = _Known()


def _ask(path: Path, *, with_arrays: bool) -> bytes:
    with _SLOTS, open_regular(path) as file:
        descriptor = file.fileno()
        request = gguf_child.Request(descriptor, with_arrays)
        output_bytes = _OUTPUT_BYTES + (_ARRAYS_BYTES if with_arrays else 0)
        limits = _limits(os.fstat(descriptor).st_size, output_bytes)
        lines = run_lines(
            gguf_child.__name__,
            msgspec.json.encode(request),
            descriptors=[descriptor],
            limits=limits,
        )
        try:
            return b"".join(lines)
        except ChildFailed as error:
            raise GgufError(f"the GGUF file cannot be read: {error}") from error


def _limits(file_bytes: int, output_bytes: int) -> Limits:
    return Limits(
        memory_bytes=_MEMORY_BYTES,
        mapped_bytes=file_bytes + _RESERVED_BYTES,
        cpu_s=_CPU_S,
        wall_s=_WALL_S,
        file_bytes=0,
        output_bytes=output_bytes,
    )


def _decode(line: bytes) -> GgufFile:
    answer = _DECODER.decode(line)
    if answer.file is None:
        raise GgufError(answer.error)
    return answer.file

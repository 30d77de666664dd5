"""Files of models on a machine that has none of its own: fetched from the site when needed.

A file is asked for by digest, goes on where an earlier transfer was cut, is hashed while it is
written and gets its name only when it is what its name says. Many who wait for one file have it
fetched once. When the cache is full, what was used least recently goes, never what is in use.
Runs on the node's event loop; bytes flow in threads.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from inference.engine.memory import format_bytes
from inference.engine.site import Site, SiteError, TokenRefused

logger = logging.getLogger(__name__)

_PREFIX: Final = "sha256-"
_HEX: Final = 64
_PIECE_BYTES: Final = 1024 * 1024
_TRIES: Final = 4
_PAUSE_S: Final = 1.0
# Left on the disk for logs and whatever else there is.
_RESERVE_BYTES: Final = 256 * 1024 * 1024


class FetchFailed(Exception):
    """A file could not be brought here; the text is for the client."""


class _Cut(FetchFailed):
    """The transfer ended early: it may go on."""


class BlobCache:
    """The files in one folder. `in_use` says which must stay; `limit_bytes` None: as the disk."""

    def __init__(
        self,
        folder: Path,
        site: Site,
        *,
        in_use: Callable[[], Collection[str]],
        limit_bytes: int | None = None,
    ) -> None:
        self._folder = folder
        self._site = site
        self._in_use = in_use
        self._limit_bytes = limit_bytes
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._coming_bytes: dict[str, int] = {}
        self._is_closed = threading.Event()
        self._there = {path.name.removeprefix(_PREFIX) for path in self._files()}

    @property
    def digests(self) -> tuple[str, ...]:
        """The files that are there."""
        return tuple(sorted(self._there))

    def has(self, digests: Collection[str]) -> bool:
        """Whether all of them are there; those that are count as used now."""
        used = [self._use(digest) for digest in digests]
        return all(used)

    async def bring(self, digests: Collection[str]) -> None:
        """Have files be there, and count as used now. Raises FetchFailed."""
        for digest in digests:
            if not self._use(digest):
                await self._fetched(digest)
                self._use(digest)

    async def close(self) -> None:
        """End all transfers; what has come stays."""
        self._is_closed.set()
        await asyncio.gather(*self._fetches.values(), return_exceptions=True)

    def _use(self, digest: str) -> bool:
        """Note that a file is used now. False: it is not there, perhaps no longer."""
        if digest not in self._there:
            return False
        try:
            os.utime(self._path(digest))
        except FileNotFoundError:
            logger.warning("%s is not in the cache any longer", digest[:12])
            self._there.discard(digest)
            return False
        except OSError as error:  # a disk that takes nothing any longer may still be read
            logger.warning("%s: its use could not be noted: %s", digest[:12], error.strerror)
        return True

    async def _fetched(self, digest: str) -> None:
        fetch = self._fetches.get(digest)
        if fetch is None:
            fetch = self._fetches[digest] = asyncio.create_task(self._fetch(digest))
            fetch.add_done_callback(lambda done: self._ended(digest, done))
        # Who waits no longer does not end what others wait for too.
        await asyncio.shield(fetch)

    def _ended(self, digest: str, fetch: asyncio.Task[None]) -> None:
        del self._fetches[digest]
        self._coming_bytes.pop(digest, None)
        if not fetch.cancelled() and (error := fetch.exception()):
            logger.error("%s could not be fetched: %s", digest[:12], error)

    async def _fetch(self, digest: str) -> None:
        try:
            size_bytes = await asyncio.to_thread(self._site.blob_size, digest)
            self._make_room(digest, size_bytes)
            logger.info("fetching %s, %s", digest[:12], format_bytes(size_bytes))
            for number in range(_TRIES):
                try:
                    await asyncio.to_thread(self._transfer, digest, size_bytes)
                    break
                except (_Cut, SiteError) as error:
                    if number + 1 == _TRIES or isinstance(error, TokenRefused):
                        raise
                    logger.warning("fetching %s is tried again: %s", digest[:12], error)
                    await asyncio.sleep(_PAUSE_S * 2**number)
        except SiteError as error:
            raise FetchFailed(f"the model's file could not be fetched: {error}") from error
        except OSError as error:
            text = error.strerror or str(error)
            raise FetchFailed(f"the model's file could not be written: {text}") from error
        self._there.add(digest)

    def _transfer(self, digest: str, size_bytes: int) -> None:
        """Fetch what is missing of a file, and give it its name. Raises FetchFailed, SiteError."""
        draft = self._path(digest).with_suffix(".part")
        with draft.open("ab+") as file:
            file.seek(0)
            hashed = hashlib.file_digest(file, "sha256")
            start = file.tell()
            if start < size_bytes:
                with self._site.open_blob(digest, start) as sent:
                    if sent.start != start or sent.size_bytes != size_bytes:
                        file.truncate(0)
                        raise _Cut("the site sends another part than was asked for")
                    for piece in sent.pieces(_PIECE_BYTES):
                        self._write(file.write, piece)
                        hashed.update(piece)
            arrived = file.tell()
            if arrived < size_bytes:
                raise _Cut(f"{size_bytes - arrived} bytes are missing")
            file.flush()
            os.fsync(file.fileno())
        if arrived > size_bytes or hashed.hexdigest() != digest:
            draft.unlink()
            raise FetchFailed("the model's file that the site sent has not the digest it should")
        draft.replace(self._path(digest))

    def _write(self, write: Callable[[bytes], object], piece: bytes) -> None:
        if self._is_closed.is_set():
            raise FetchFailed("this node is going down")
        write(piece)

    def _make_room(self, digest: str, size_bytes: int) -> None:
        """Drop what was used least recently until a file fits. Raises FetchFailed."""
        in_use = self._in_use()
        idle = [path for path in self._files() if path.name.removeprefix(_PREFIX) not in in_use]
        # Of transfers that were given up, too: nobody may ever ask for them again.
        idle += [path for path in self._drafts() if _digest_of(path) not in self._fetches]
        idle.sort(key=_changed_at)
        needed = max(0, size_bytes - self._arrived_bytes(digest))
        while (room := self._room()) < needed:
            if not idle:
                raise FetchFailed(
                    f"the model's file has {format_bytes(size_bytes)}, and this node has room for "
                    f"{format_bytes(max(0, room))}"
                )
            gone = idle.pop(0)
            logger.info("%s leaves the cache", gone.name[:19])
            self._there.discard(gone.name.removeprefix(_PREFIX))
            gone.unlink(missing_ok=True)
        self._coming_bytes[digest] = size_bytes

    def _room(self) -> int:
        """Return how many bytes are left beside those that are still to come."""
        coming = sum(
            max(0, size_bytes - self._arrived_bytes(digest))
            for digest, size_bytes in self._coming_bytes.items()
        )
        room = shutil.disk_usage(self._folder).free - _RESERVE_BYTES - coming
        if self._limit_bytes is not None:
            parts = self._folder.glob(f"{_PREFIX}*")
            taken = sum(map(_size_bytes, parts))
            room = min(room, self._limit_bytes - taken - coming)
        return room

    def _arrived_bytes(self, digest: str) -> int:
        """Return how much of a file is there."""
        whole = self._path(digest)
        return _size_bytes(whole) or _size_bytes(whole.with_suffix(".part"))

    def _drafts(self) -> list[Path]:
        return list(self._folder.glob(f"{_PREFIX}*.part"))

    def _files(self) -> list[Path]:
        found = self._folder.glob(f"{_PREFIX}*")
        return [path for path in found if len(path.name) == len(_PREFIX) + _HEX]

    def _path(self, digest: str) -> Path:
        return self._folder / f"{_PREFIX}{digest}"


def _digest_of(draft: Path) -> str:
    return draft.stem.removeprefix(_PREFIX)


def _size_bytes(path: Path) -> int:
    # Threads rename files meanwhile, and somebody may tidy up.
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _changed_at(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0

"""Fetch one file of another registry into the store's folder: in parts, resumed, hashed.

Several parts come at once, each to its place; the hash follows the front, so that the file is not
read again at its end. Nothing here makes the file a blob: the caller does, once it is whole.
contract/registry.md 1.4, 4. Knows no model, no row and no job.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial as partial_of
from pathlib import Path
from typing import Any, Final, ParamSpec

from ollamasite.errors import OutboundFailed, OutboundRefused, OutboundTimedOut, OutboundTooLarge
from ollamasite.outbound.client import Answer
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.disk_space import require_free_bytes
from registry.errors import RegistryFailed, StorageFull
from registry.remote import partial
from registry.remote.client import OK, RegistryClient, Unsteady, refused, require_steady
from registry.remote.partial import HeldByAnother, Part, PartialFile
from registry.remote.reference import origin_of

P = ParamSpec("P")
# Told how many bytes have come; may raise to end it.
Completed = Callable[[int], None]

_STREAMS: Final = 4
# One stream comes in order, which is least work; where it is slower than this, others help it.
_FAST_BYTES_PER_S: Final = 200 * 1024**2
_FIRST_LOOK_S: Final = 0.3
_BATCH_BYTES: Final = 4 * 1024**2
_BATCH_S: Final = 0.25  # on a slow line, so that little is lost with the process
_HASHED_AT_ONCE_BYTES: Final = 16 * 1024**2
_PROGRESS_BYTES: Final = 1024**2  # of an attempt, after which earlier failures are forgotten
_TOLD_EVERY_S: Final = 0.1
_SAVED_EVERY_S: Final = 1.0
_POLL_S: Final = 0.2
_PARTIAL: Final = 206
_TOO_FAR: Final = 416
_SIGNED_OUT: Final = frozenset({401, 403})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class _NoRanges(Exception):
    """The registry sends whole files alone."""


async def fetch(
    client: RegistryClient, store: BlobStore, digest: Digest, size_bytes: int, tell: Completed
) -> PartialFile | None:
    """Return the whole file, its hash checked; the caller keeps and releases it.

    None: somebody else has fetched it from the same registry meanwhile, and it is a blob. In
    either case the registry has said that it gives us the file. Raises RegistryFailed,
    StorageFull, OutboundRefused, and what `tell` raises; what has come by then stays.
    """
    told = await client.head_blob(digest)
    if told is not None and told != size_bytes:
        raise RegistryFailed(
            f"pull {digest}: the manifest says {size_bytes} bytes, the registry {told}"
        )
    store.make_root()
    path = partial.path_of(store, digest, str(client.remote.origin))
    # Before anything is cut into parts: the size is what somebody else says.
    require_free_bytes(store.root, size_bytes - partial.completed_bytes(path))
    hold = partial_of(PartialFile.hold, path, size_bytes, part_bytes=client.policy.part_bytes)

    def tell_of_other() -> None:
        tell(min(partial.completed_bytes(path), size_bytes))

    file = await _hold(hold, tell_of_other, store.path(digest) if told is not None else None)
    if file is None:
        return None
    try:
        if told is None and file.completed_bytes == size_bytes:
            # Nothing would be asked for, and so nobody have said that we may have it.
            file.start_anew()
        require_free_bytes(store.root, size_bytes - file.completed_bytes)
        await _Download(client, file, digest, tell).run()
    except BaseException:
        file.release()
        raise
    return file


async def _hold(
    hold: Callable[[], PartialFile], tell: Callable[[], None], blob: Path | None
) -> PartialFile | None:
    """Return the file, held, or None where whoever had it before has made it this blob."""
    inode = None
    while True:
        try:
            file = hold()
        except HeldByAnother as error:
            inode = error.inode
        else:
            if not _is_file(blob, inode):
                return file
            file.discard()
            file.release()
        if _is_file(blob, inode):
            return None
        tell()
        await asyncio.sleep(_POLL_S)


def _is_file(path: Path | None, inode: int | None) -> bool:
    if path is None or inode is None:
        return False
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False


class _Download:
    """One file on its way."""

    def __init__(
        self, client: RegistryClient, file: PartialFile, digest: Digest, tell: Completed
    ) -> None:
        self._client = client
        self._file = file
        self._digest = digest
        self._tell = tell
        self._advanced = asyncio.Event()
        self._is_whole = asyncio.Event()
        self._threads = ThreadPoolExecutor(_STREAMS + 2, thread_name_prefix="download")

    async def run(self) -> None:
        """Fetch what is missing and check the whole. Raises as `fetch`."""
        try:
            await self._fetch_all()
            if self._file.digest != self._digest and self._file.is_resumed:
                # An earlier attempt may have lost bytes with the machine's power.
                self._file.start_anew()
                await self._fetch_all()
        except BaseException:
            with contextlib.suppress(StorageFull):
                self._file.save()
            raise
        finally:
            self._threads.shutdown()
        if self._file.digest != self._digest:
            self._file.discard()
            raise RegistryFailed(
                "digest mismatch, file must be downloaded again: "
                f"want {self._digest}, got {self._file.digest}"
            )
        self._tell(self._file.size_bytes)

    async def _fetch_all(self) -> None:
        for _ in range(self._client.policy.tries):
            waiting = [part for part in self._file.parts if not part.is_whole]
            helpers = [self._help(waiting) for _ in range(_STREAMS - 1)] if waiting else []
            try:
                await _together(self._hash(), self._stream(waiting), *helpers, beside=self._tick())
            except _NoRanges:
                self._file.start_anew(in_one_part=True)
            else:
                return
        raise RegistryFailed(f"pull {self._digest}: the registry sends whole files, and cuts them")

    async def _stream(self, waiting: list[Part]) -> None:
        while waiting:
            await self._fetch_part(waiting.pop(0))
        if all(part.is_whole for part in self._file.parts):
            self._is_whole.set()

    async def _help(self, waiting: list[Part]) -> None:
        """Fetch parts as well, if the first stream alone is slow."""
        file = self._file
        before = file.completed_bytes
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_whole.wait(), _FIRST_LOOK_S)
        if file.completed_bytes - before >= _FAST_BYTES_PER_S * _FIRST_LOOK_S:
            return
        if not waiting:
            largest = max(file.parts, key=lambda part: part.end - part.next)
            waiting.extend(file.split(largest))
        await self._stream(waiting)

    async def _fetch_part(self, part: Part) -> None:
        failures = stalls = 0
        policy = self._client.policy
        while not part.is_whole:
            done = part.done
            try:
                await self._attempt(part)
                continue
            except (OutboundRefused, OutboundTooLarge):
                raise
            except (OutboundFailed, Unsteady) as error:
                reason = error
            if part.done - done >= _PROGRESS_BYTES:
                failures = stalls = 0
            is_stall = isinstance(reason, OutboundTimedOut)
            stalls += is_stall
            failures += not is_stall
            if failures >= policy.tries or stalls >= policy.stalls:
                raise RegistryFailed(f"pull {self._digest}: {reason.message}") from reason
            asked_s = reason.asked_s if isinstance(reason, Unsteady) else 0.0
            await asyncio.sleep(policy.delay_s(failures, asked_s))

    async def _attempt(self, part: Part) -> None:
        """Ask once for what is missing of a part, and take what comes of it.

        Its end may come nearer meanwhile: then others have taken over what is behind it.
        """
        start, size_bytes = part.next, self._file.size_bytes
        end = None if start == 0 and part.end == size_bytes else part.end
        async with self._client.open_blob(
            self._digest, size_bytes=size_bytes, start=start, end=end
        ) as answer:
            await self._check(answer, start, end)
            await self._take(answer, part)
        if not part.is_whole:
            raise Unsteady("the registry has sent less than it said")

    async def _check(self, answer: Answer, start: int, end: int | None) -> None:
        """Look at the head of an answer: is the body what was asked for?"""
        is_elsewhere = origin_of(answer.url) != self._client.remote.origin
        if is_elsewhere and answer.status in _SIGNED_OUT:
            raise Unsteady("the address that the registry gave is no longer good")
        await require_steady(answer)
        if answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise RegistryFailed(f"pull {self._digest}: the file comes compressed")
        if end is not None and answer.status == OK:
            raise _NoRanges
        if end is not None and answer.status == _TOO_FAR:
            await self._check_size()
        if answer.status != (OK if end is None else _PARTIAL):
            raise await refused(f"pull {self._digest}", answer)
        if end is not None and not self._is_range(answer, start, end):
            raise RegistryFailed(f"pull {self._digest}: the registry sends another part than asked")

    async def _check_size(self) -> None:
        """See whether the file has another size by now. Raises RegistryFailed, Unsteady."""
        told = await self._client.head_blob(self._digest)
        if told is not None and told != self._file.size_bytes:
            raise RegistryFailed(f"pull {self._digest}: the file has {told} bytes by now")
        raise Unsteady("the registry does not send this part of the file")

    def _is_range(self, answer: Answer, start: int, end: int) -> bool:
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if found is None:
            return False
        is_asked = int(found[1]) == start and start <= int(found[2]) < end
        return is_asked and found[3] in ("*", str(self._file.size_bytes))

    async def _take(self, answer: Answer, part: Part) -> None:
        writer = _Writer(self._file, part, self._threads, self._advanced)
        try:
            while not writer.is_cut_off and (count := await answer.fill(writer.room)):
                await writer.add(count)
        finally:
            await writer.finish()  # also what came before a cut

    async def _hash(self) -> None:
        """Hash what has come, as far as nothing is missing."""
        file = self._file
        while file.hashed_bytes < file.size_bytes:
            self._advanced.clear()
            end = min(file.front, file.hashed_bytes + _HASHED_AT_ONCE_BYTES)
            if end > file.hashed_bytes:
                await _in_thread(self._threads, file.hash_until, end)
            else:
                await self._advanced.wait()

    async def _tick(self) -> None:
        """Tell how far it is, and save it now and then; ends by being cancelled."""
        saved_at_s = time.monotonic()
        while True:
            self._tell(self._file.completed_bytes)
            if time.monotonic() - saved_at_s >= _SAVED_EVERY_S:
                require_free_bytes(self._file.path.parent, _BATCH_BYTES)
                await _in_thread(self._threads, self._file.save)
                saved_at_s = time.monotonic()
            await asyncio.sleep(_TOLD_EVERY_S)


class _Writer:
    """Writes a part's bytes in a thread while the next ones come: two buffers in turn."""

    def __init__(
        self, file: PartialFile, part: Part, threads: ThreadPoolExecutor, advanced: asyncio.Event
    ) -> None:
        self._file = file
        self._part = part
        self._threads = threads
        self._advanced = advanced
        self._place = part.next
        self._asked_end = part.end
        # One byte more than there is to come: it shows that a registry sends too much.
        size = min(_BATCH_BYTES, part.end - part.next + 1)
        self._buffers = [memoryview(bytearray(size)), memoryview(bytearray(size))]
        self._filled = 0
        self._begun_s = time.monotonic()
        self._writing: asyncio.Task[None] | None = None

    @property
    def is_cut_off(self) -> bool:
        """Whether all is here up to an end that was farther off when it was asked for."""
        is_here = self._place + self._filled >= self._part.end
        return is_here and self._part.end != self._asked_end

    @property
    def room(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        return self._buffers[0][self._filled :]

    async def add(self, count: int) -> None:
        """Take what has been put into `room`. Raises StorageFull, also for earlier bytes."""
        self._filled += count
        surplus = self._place + self._filled - self._part.end
        if surplus > 0:
            self._filled -= surplus
            if self._part.end == self._asked_end:
                raise RegistryFailed("the registry sends more bytes than it said")
        is_late = time.monotonic() - self._begun_s >= _BATCH_S
        if is_late or self._filled == len(self._buffers[0]):
            await self._wait()
            self._begin()

    async def finish(self) -> None:
        """Write all that is left. Raises StorageFull."""
        await self._wait()
        if self._filled:
            self._begin()
            await self._wait()

    def _begin(self) -> None:
        batch = self._buffers[0][: self._filled]
        # Begun at once and not as a task: while bytes keep coming, no task would get its turn.
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._file.write, batch, self._place)
        self._writing = asyncio.create_task(self._note(work, len(batch)))
        self._place += self._filled
        self._filled = 0
        self._buffers.reverse()
        self._begun_s = time.monotonic()

    async def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await _settled(writing)

    async def _note(self, work: asyncio.Future[None], count: int) -> None:
        await _settled(work)
        self._part.done += count
        self._advanced.set()


async def _in_thread(
    threads: ThreadPoolExecutor, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs
) -> None:
    """Do something in a thread; it is over when this is, also if this is cancelled."""
    loop = asyncio.get_running_loop()
    await _settled(loop.run_in_executor(threads, partial_of(work, *args, **kwargs)))


async def _settled(work: asyncio.Future[None]) -> None:
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


async def _together(*work: Coroutine[Any, Any, None], beside: Coroutine[Any, Any, None]) -> None:
    """Do all of it at once; what fails first ends everything. `beside` is ended with the work."""
    tasks = [asyncio.create_task(one) for one in work]
    other = asyncio.create_task(beside)
    pending = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(
                {*pending, other}, return_when=asyncio.FIRST_COMPLETED
            )
            pending.discard(other)
            for task in done:
                task.result()
    finally:
        for task in (*tasks, other):
            task.cancel()
        await asyncio.gather(*tasks, other, return_exceptions=True)

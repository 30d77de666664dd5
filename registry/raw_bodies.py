"""Bodies of requests that go beside Django, handed on as they come in batches worth a thread.

Large ones are read past the server where it lets us (`ollamasite.raw_sockets`). Knows no route, no
file and no database.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from asgiref.sync import sync_to_async

from ollamasite.raw_sockets import Passage, TakenBody, passage_of

Batch = bytes | memoryview
# Each batch costs two changes of threads, for which the interpreter lock is waited for.
BATCH_BYTES: Final = 4 * 1024 * 1024
# So many are written or wait for it at a time.
_AHEAD: Final = 2
# How exactly the end of somebody's patience is kept.
_PATIENCE_STEP_S: Final = 1.0
# A slow sender's bytes are handed on as well, so that little is lost with the process.
_BATCH_S: Final = 1.0


class ClientLeft(Exception):
    """Nobody waits for an answer any longer."""


async def pass_over(receive: Any, *, idle_s: float) -> None:
    """Let a body go by. Raises ClientLeft, and TimeoutError for one who says nothing so long."""
    has_more = True
    while has_more:
        batch = await _gather(receive, idle_s)
        if batch.end is not None:
            raise batch.end
        has_more = batch.has_more


async def drain(scope: Any, receive: Any, write: Callable[[Batch], None], *, idle_s: float) -> None:
    """Have a whole body written, in a thread, while the next part of it comes in.

    What `write` gets is its own until it returns. Raises what `pass_over` raises, after what came
    before has been written, and what `write` does.
    """
    writer = _Writer(write)
    try:
        await _drain(passage_of(scope), receive, writer, idle_s)
    finally:
        await writer.finish()


async def _drain(passage: Passage | None, receive: Any, writer: "_Writer", idle_s: float) -> None:
    # With the first bytes one knows whether the sender had to be asked for the body.
    most_bytes = 1 if passage else BATCH_BYTES
    has_more = True
    while has_more:
        batch = await _gather(receive, idle_s, most_bytes)
        await writer.add(b"".join(batch.pieces))
        if batch.end is not None:
            raise batch.end
        has_more = batch.has_more
        taken = passage.take_body() if passage and has_more else None
        if taken is not None:
            return await _drain_taken(taken, writer, idle_s)
        most_bytes = BATCH_BYTES
    return None


async def _drain_taken(taken: TakenBody, writer: "_Writer", idle_s: float) -> None:
    """Take what is read past the server, in buffers that take turns."""
    try:
        size = min(BATCH_BYTES, taken.left_bytes)
        buffers = deque(memoryview(bytearray(size)) for _ in range(_AHEAD + 1))
        if taken.first:
            await writer.add(taken.first)
        while taken.left_bytes:
            await _add_next(taken, buffers[0], writer, idle_s)
            buffers.rotate()
    except ConnectionError as error:
        raise ClientLeft from error
    finally:
        taken.release()


async def _add_next(taken: TakenBody, buffer: memoryview, writer: "_Writer", idle_s: float) -> None:
    now_s = asyncio.get_running_loop().time
    until_s = now_s() + idle_s
    while not (count := await taken.read(buffer, within_s=min(idle_s, _BATCH_S))):
        # Who waits to be told why the body is refused may send nothing more of it.
        await writer.raise_failure()
        if now_s() >= until_s:
            raise TimeoutError
    until_s = now_s() + _BATCH_S
    try:
        while taken.left_bytes and count < len(buffer) and (wait_s := until_s - now_s()) > 0:
            count += await taken.read(buffer[count:], within_s=wait_s)
    finally:
        await writer.add(buffer[:count])


class _Writer:
    """Writes batches in their order in a thread, while next ones are gathered.

    Two may wait, so that the thread need not wait for the event loop between them.
    """

    def __init__(self, write: Callable[[Batch], None]) -> None:
        self._write = write
        self._has_failed = False
        self._writing: deque[asyncio.Task[None]] = deque()

    async def add(self, batch: Batch) -> None:
        """Begin with a batch. Raises what writing an earlier one has raised."""
        while len(self._writing) >= _AHEAD:
            await self._writing.popleft()
        self._writing.append(asyncio.create_task(sync_to_async(self._write_next)(batch)))

    async def raise_failure(self) -> None:
        """Raise what writing has raised so far; waits for nothing."""
        while self._writing and self._writing[0].done():
            await self._writing.popleft()

    async def finish(self) -> None:
        """Wait for what has been begun."""
        while self._writing:
            await self._writing.popleft()

    def _write_next(self, batch: Batch) -> None:
        # Behind a batch that is missing, none belongs to its place.
        if self._has_failed:
            return
        self._has_failed = True
        self._write(batch)
        self._has_failed = False


@dataclass(slots=True)
class _Batch:
    """What has come of a body at once. `end`: why no more will come, where that is too early."""

    pieces: list[bytes] = field(default_factory=list)
    has_more: bool = True
    end: BaseException | None = None


async def _gather(receive: Any, idle_s: float, most_bytes: int = BATCH_BYTES) -> _Batch:
    batch = _Batch()
    now_s = asyncio.get_running_loop().time
    begun_s, size_bytes = now_s(), 0
    try:
        # One timer for all of it: one for each of the many pieces takes as long as the pieces do.
        async with asyncio.timeout(idle_s) as patience:
            while batch.has_more and size_bytes < most_bytes:
                event = await receive()
                if event["type"] == "http.disconnect":
                    batch.end = ClientLeft()
                    return batch
                piece = event.get("body", b"")
                batch.pieces.append(piece)
                size_bytes += len(piece)
                batch.has_more = event.get("more_body", False)
                if now_s() - begun_s > _BATCH_S:
                    break
                end_s = now_s() + idle_s
                if end_s - (patience.when() or 0.0) > min(idle_s, _PATIENCE_STEP_S):
                    patience.reschedule(end_s)
    except TimeoutError as error:
        batch.end = error
    return batch

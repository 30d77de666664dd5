"""Bodies of requests that go beside Django, handed on as they come in batches worth a thread.

Knows no route, no file and no database.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from asgiref.sync import sync_to_async

# Each batch costs two changes of threads, for which the interpreter lock is waited for.
BATCH_BYTES: Final = 4 * 1024 * 1024
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


async def drain(receive: Any, write: Callable[[bytes], None], *, idle_s: float) -> None:
    """Have a whole body written, in a thread, while the next part of it comes in.

    Raises what `pass_over` raises, after what came before has been written, and what `write` does.
    """
    writing: asyncio.Task[None] | None = None
    try:
        async for batch in batches(receive, idle_s=idle_s):
            if writing is not None:
                await writing
            writing = asyncio.create_task(sync_to_async(write)(batch))
    finally:
        if writing is not None:
            await writing


async def batches(receive: Any, *, idle_s: float) -> AsyncIterator[bytes]:
    """Yield the body in parts of BATCH_BYTES or a little more; the last is what is left.

    Raises what `pass_over` raises, after the part that was left has been yielded.
    """
    has_more = True
    while has_more:
        batch = await _gather(receive, idle_s)
        yield b"".join(batch.pieces)
        if batch.end is not None:
            raise batch.end
        has_more = batch.has_more


@dataclass(slots=True)
class _Batch:
    """What has come of a body at once. `end`: why no more will come, where that is too early."""

    pieces: list[bytes] = field(default_factory=list)
    has_more: bool = True
    end: BaseException | None = None


async def _gather(receive: Any, idle_s: float) -> _Batch:
    batch = _Batch()
    now_s = asyncio.get_running_loop().time
    begun_s, size_bytes = now_s(), 0
    try:
        # One timer for all of it: one for each of the many pieces takes as long as the pieces do.
        async with asyncio.timeout(idle_s) as patience:
            while batch.has_more and size_bytes < BATCH_BYTES:
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

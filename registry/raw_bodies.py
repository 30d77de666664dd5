"""Bodies of requests that go beside Django, handed on as they come in batches worth a thread.

Knows no route, no file and no database.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from asgiref.sync import sync_to_async

BATCH_BYTES: Final = 2 * 1024 * 1024


class ClientLeft(Exception):
    """Nobody waits for an answer any longer."""


async def pass_over(receive: Any, *, idle_s: float) -> None:
    """Let a body go by. Raises ClientLeft, and TimeoutError for one who says nothing so long."""
    async for _ in pieces(receive, idle_s=idle_s):
        pass


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
    gathered: list[bytes] = []
    size_bytes = 0
    end: BaseException | None = None
    try:
        async for piece in pieces(receive, idle_s=idle_s):
            gathered.append(piece)
            size_bytes += len(piece)
            if size_bytes >= BATCH_BYTES:
                yield b"".join(gathered)
                gathered, size_bytes = [], 0
    except (ClientLeft, TimeoutError) as error:
        end = error
    yield b"".join(gathered)
    if end is not None:
        raise end


async def pieces(receive: Any, *, idle_s: float) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Raises ClientLeft, TimeoutError."""
    has_more = True
    while has_more:
        async with asyncio.timeout(idle_s):
            event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientLeft
        yield event.get("body", b"")
        has_more = event.get("more_body", False)

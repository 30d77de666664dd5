"""Between a socket that does not block and a buffer or a file: as much as goes at once.

What blocks is short, so that a few threads do for many connections. Knows no HTTP.
"""

import asyncio
import os
import select
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# As much as may be copied in an event loop's own thread.
FEW_BYTES: Final = 256 * 1024
# So long a thread waits for the other side before it gives up the connection, and keeps it at all.
_PATIENCE_MS: Final = 20
_TURN_S: Final = 0.25
_TURN_BYTES: Final = 16 * 1024 * 1024
_MOST_THREADS: Final = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """How much was copied; whether that is all that was wanted; whether no more can ever be."""

    count: int
    is_whole: bool = False
    is_end: bool = False


def receive(source: int, buffer: memoryview, *, is_patient: bool = True) -> Outcome:
    """Fill a buffer from a socket. Raises OSError, and never BlockingIOError."""
    count = 0
    until_s = time.monotonic() + _TURN_S
    while count < len(buffer):
        try:
            came = os.readv(source, [buffer[count:]])
        except BlockingIOError:
            if is_patient and time.monotonic() < until_s and _waited(source, select.POLLIN):
                continue
            return Outcome(count)
        except OSError:
            if count:
                return Outcome(count)
            raise
        if not came:
            return Outcome(count, is_end=not count)
        count += came
    return Outcome(count, is_whole=True)


def send(target: int, file: int, start: int, end: int, *, is_patient: bool) -> Outcome:
    """Send bytes of a file, as many as one turn allows. Raises EOFError if it is shorter."""
    place = start
    end = min(end, start + _TURN_BYTES)
    until_s = time.monotonic() + _TURN_S
    while place < end:
        try:
            sent = os.sendfile(target, file, place, end - place)
        except BlockingIOError:
            if is_patient and time.monotonic() < until_s and _waited(target, select.POLLOUT):
                continue
            return Outcome(place - start)
        except ConnectionError:
            return Outcome(place - start, is_end=True)
        if not sent:
            raise EOFError("a file is shorter than it was")
        place += sent
    return Outcome(place - start, is_whole=True)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Copy in a thread; it is over when this is, also if this is cancelled."""
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(_threads(), partial(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


@lru_cache(1)
def _threads() -> ThreadPoolExecutor:
    # Their own: others of the process are not kept waiting by this.
    return ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="socket")


def _waited(descriptor: int, what: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, what)
    return bool(poll.poll(_PATIENCE_MS))

"""Hashing in a thread of its own what somebody else writes meanwhile. Knows no file."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

# Less is hashed at once: a change of threads would take longer.
_LEAST_BYTES: Final = 256 * 1024


class HashThread:
    """Hashes one batch at a time; begun when there is something to hash."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="hash")

    @contextmanager
    def hashing(self, hasher: Any, data: bytes | memoryview) -> Iterator[None]:
        """Hash bytes during the block, with None nothing; it is over after it, also if it fails."""
        if hasher is None or len(data) < _LEAST_BYTES:
            if hasher is not None:
                hasher.update(data)
            yield
            return
        work = self._threads.submit(hasher.update, data)
        try:
            yield
        finally:
            work.result()

    def close(self) -> None:
        """Let go of the thread."""
        self._threads.shutdown()

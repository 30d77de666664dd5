"""How long something may take in a test. Tracing for coverage slows Python code several times."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TRACING_FACTOR: Final = 8


@contextmanager
def takes_at_most(cpu_s: float) -> Iterator[None]:
    """Fail if the block takes more CPU time of this thread, untraced."""
    limit_s = cpu_s * (_TRACING_FACTOR if sys.gettrace() else 1)
    start_s = time.thread_time()
    yield
    taken_s = time.thread_time() - start_s
    assert taken_s < limit_s, f"took {taken_s:.3f} s, {limit_s:.3f} s are allowed"

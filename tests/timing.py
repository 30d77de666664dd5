"""How long something may take in a test.

Limits are written for a machine like the one they were set on with nothing else to do. Those that
test are slower and busy, and tracing for coverage slows Python code several times.
"""

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SLOW_MACHINE_FACTOR: Final = 3
_TRACING_FACTOR: Final = 8


@contextmanager
def takes_at_most(cpu_s: float) -> Iterator[None]:
    """Fail if the block takes more CPU time of this thread, garbage collections left out.

    What a collection takes depends on all that the tests before have left behind.
    """
    limit_s = cpu_s * _SLOW_MACHINE_FACTOR * (_TRACING_FACTOR if sys.gettrace() else 1)
    gc.disable()
    try:
        start_s = time.thread_time()
        yield
        taken_s = time.thread_time() - start_s
    finally:
        gc.enable()
    assert taken_s < limit_s, f"took {taken_s:.3f} s, {limit_s:.3f} s are allowed"

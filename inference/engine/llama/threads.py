"""The number of threads that is fastest here, found by trying. Knows no model."""

from collections.abc import Callable
from typing import Final

# Fewer threads win unless more are clearly faster: the others have use for the cores.
_WORTH: Final = 0.97


def candidates(most: int) -> list[int]:
    """Return the thread counts to try: powers of two and `most` itself."""
    counts = {most}
    count = 1
    while count < most:
        counts.add(count)
        count *= 2
    return sorted(counts)


def fastest(most: int, seconds_with: Callable[[int], float]) -> int:
    """Return the thread count with which a step takes the least time."""
    best, best_s = 1, float("inf")
    for count in candidates(most):
        taken_s = seconds_with(count)
        if taken_s < best_s * _WORTH:
            best, best_s = count, taken_s
    return best

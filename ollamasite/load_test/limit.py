"""How many users are too many: doubled until a target is missed, then halved in between.

Pure but for the measuring, which is handed in.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from ollamasite.load_test.figures import Summary

_MOST_FAILED: Final = 0.01
# Nearer than an eighth the next measurement would say the opposite as well.
_NEAR: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What is good enough, for 95 of 100."""

    ttft_s: float = 1.0
    itl_s: float = 0.1

    def are_met(self, found: Summary) -> bool:
        """Whether users were served as they should be."""
        ttft_s, itl_s = found.ttft_s.p95, found.itl_s.p95
        if ttft_s is None or found.failed > found.requests * _MOST_FAILED:
            return False
        return ttft_s <= self.ttft_s and (itl_s is None or itl_s <= self.itl_s)


@dataclass(slots=True)
class Limit:
    """What was found: the most users who were served well, and the fewest who were not."""

    good: Summary | None = None
    bad: Summary | None = None
    steps: list[Summary] = field(default_factory=list)


async def find_limit(
    measure: Callable[[int], Awaitable[Summary]], targets: Targets, *, first: int, most: int
) -> Limit:
    """Measure with more and more users, beginning with `first`, never more than `most`."""
    limit = Limit()
    users: int | None = first
    while users is not None:
        found = await measure(users)
        limit.steps.append(found)
        if targets.are_met(found):
            limit.good = found
        else:
            limit.bad = found
        users = _next(limit, most)
    return limit


def _next(limit: Limit, most: int) -> int | None:
    good = limit.good.users if limit.good else 0
    if limit.bad is None:
        return min(good * 2, most) if good < most else None
    gap = limit.bad.users - good
    return good + gap // 2 if gap > max(1, good // _NEAR) else None

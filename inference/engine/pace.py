"""How many prompt tokens go into a step beside others' answers, from what steps have taken. Pure.

The others wait for the whole step, so a step shall take about `TARGET_STEP_S`; how many tokens that
is depends on model and machine and is measured all the time.
"""

from typing import Final

# Longer steps make prompts start sooner and answers stutter: docs/performance.md has the figures.
TARGET_STEP_S: Final = 0.3
# With nobody answering; a request that is canceled or has just come waits for the step's end.
LONGEST_STEP_S: Final = 0.7
FEWEST_TOKENS: Final = 16
MOST_TOKENS: Final = 512
_FIRST_TOKENS: Final = 64
_MEMORY: Final = 0.7  # weight of what was known before a new measurement


class PrefillPace:
    """The measured pace of one model."""

    def __init__(self) -> None:
        self._tokens_per_s: float | None = None

    def chunk_tokens(self, *, others_answer: bool) -> int:
        """Return how many prompt tokens may be in a step."""
        if self._tokens_per_s is None:
            return _FIRST_TOKENS
        step_s = TARGET_STEP_S if others_answer else LONGEST_STEP_S
        return max(FEWEST_TOKENS, min(MOST_TOKENS, int(self._tokens_per_s * step_s)))

    def observe(self, tokens: int, seconds: float) -> None:
        """Take note of a step. Steps with few tokens say nothing: they are bound by memory."""
        if tokens < FEWEST_TOKENS or seconds <= 0:
            return
        new = tokens / seconds
        old = self._tokens_per_s
        self._tokens_per_s = new if old is None else _MEMORY * old + (1 - _MEMORY) * new

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
    """The measured pace of one model: a step takes a while for its answers, and more per token."""

    def __init__(self) -> None:
        self._tokens_per_s: float | None = None
        self._answers_s = 0.0  # what a step without prompts takes

    def chunk_tokens(self, *, others_answer: bool) -> int:
        """Return how many prompt tokens may be in a step."""
        if self._tokens_per_s is None:
            return _FIRST_TOKENS
        left_s = LONGEST_STEP_S
        if others_answer:
            left_s = max(TARGET_STEP_S - self._answers_s, TARGET_STEP_S / 2)
        return max(FEWEST_TOKENS, min(MOST_TOKENS, int(self._tokens_per_s * left_s)))

    def observe(self, prompt_tokens: int, answers: int, seconds: float) -> None:
        """Take note of a step with so many tokens of prompts and so many of answers."""
        if not prompt_tokens:
            self._answers_s = _mixed(self._answers_s or None, seconds)
        elif prompt_tokens >= FEWEST_TOKENS and seconds > 0:
            # At least half of the step is the prompts': what answers take is known roughly only.
            answers_s = min(self._answers_s, seconds / 2) if answers else 0.0
            self._tokens_per_s = _mixed(self._tokens_per_s, prompt_tokens / (seconds - answers_s))


def _mixed(old: float | None, new: float) -> float:
    return new if old is None else _MEMORY * old + (1 - _MEMORY) * new

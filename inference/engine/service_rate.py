"""How fast a runner works and how much a request takes, of late: for estimates of waiting times.

Pure. Costs are weighted tokens as in `inference.engine.fair_queue`. Knows no requests.
"""

from typing import Final

DEFAULT_COST: Final = 512.0  # of a request, before any has ended
_HALF_LIFE_S: Final = 30.0
_LONGEST_STEP_S: Final = 2.0  # a longer gap means that the runner had nothing to do
_LEAST_SEEN_S: Final = 1.0
_NEWEST: Final = 0.1  # share of the last request in the mean


class ServiceRate:
    """The recent past of one runner."""

    def __init__(self) -> None:
        self.mean_cost = DEFAULT_COST
        self._has_ended = False
        self._cost = 0.0
        self._seen_s = 0.0
        self._stepped_at: float | None = None

    def stepped(self, cost: float, now: float) -> None:
        """Count what one step computed."""
        if self._stepped_at is not None and now - self._stepped_at < _LONGEST_STEP_S:
            passed_s = now - self._stepped_at
            fading = 0.5 ** (passed_s / _HALF_LIFE_S)
            self._cost = self._cost * fading + cost
            self._seen_s = self._seen_s * fading + passed_s
        self._stepped_at = now

    def ended(self, cost: float) -> None:
        """Count what a whole request took."""
        weight = _NEWEST if self._has_ended else 1.0
        self.mean_cost += weight * (max(1.0, cost) - self.mean_cost)
        self._has_ended = True

    def wait_s(self, position: int) -> float | None:
        """Return how long the request at a position may wait, in seconds; None: nobody knows."""
        if not self._has_ended or self._seen_s < _LEAST_SEEN_S or self._cost <= 0:
            return None
        return position * self.mean_cost * self._seen_s / self._cost

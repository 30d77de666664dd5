"""What a run comes to, in numbers. Pure; durations in seconds, tokens per second."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy

from ollamasite.load_test.asking import Answer


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one quantity; all None where it was never measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run. `requests` are those that count: begun behind the warm-up and before the end.

    `itl_s`: between the pieces of one answer. `tokens_per_s` are those that arrived between the
    warm-up and the end. `client_cpus`: what the measuring itself used, in cores; `client_lag_s`:
    how much later than it should its event loop came to things, of 99 times in 100.
    """

    users: int
    requests: int
    failures: Mapping[str, int]
    ttft_s: Percentiles
    itl_s: Percentiles
    queue_s: Percentiles
    tokens_per_s: float
    prompt_tokens: float  # of an answer, on average
    completion_tokens: float
    client_cpus: float = 0.0
    client_lag_s: float = 0.0

    @property
    def failed(self) -> int:
        """How many requests did not come to a good end."""
        return sum(self.failures.values())

    @property
    def tokens_per_s_and_user(self) -> float:
        """What each user had of it."""
        return self.tokens_per_s / self.users


@dataclass(slots=True)
class Recorded:
    """All answers of a run, and the window of time that counts."""

    users: int
    begin_s: float
    end_s: float
    answers: list[Answer] = field(default_factory=list)
    client_cpus: float = 0.0
    client_lag_s: float = 0.0


def percentiles(values: Sequence[float]) -> Percentiles:
    """Return the percentiles, interpolated between neighbours."""
    if not values:
        return Percentiles()
    return Percentiles(*(float(value) for value in numpy.percentile(values, (50, 95, 99))))


def summarize(run: Recorded) -> Summary:
    """Return a run in numbers."""
    counted = [answer for answer in run.answers if run.begin_s <= answer.sent_s < run.end_s]
    good = [answer for answer in counted if not answer.failure]
    lasted_s = run.end_s - run.begin_s
    arrived = sum(_tokens_between(answer, run.begin_s, run.end_s) for answer in run.answers)
    return Summary(
        users=run.users,
        requests=len(counted),
        failures=dict(Counter(answer.failure for answer in counted if answer.failure)),
        ttft_s=percentiles([first for answer in good if (first := answer.first_s) is not None]),
        itl_s=percentiles([gap for answer in good for gap in answer.gaps_s]),
        queue_s=percentiles([answer.queue_s for answer in good if answer.queue_s is not None]),
        tokens_per_s=arrived / lasted_s if lasted_s > 0 else 0.0,
        prompt_tokens=_mean([answer.prompt_tokens for answer in good]),
        completion_tokens=_mean([answer.completion_tokens for answer in good]),
        client_cpus=run.client_cpus,
        client_lag_s=run.client_lag_s,
    )


def _tokens_between(answer: Answer, begin_s: float, end_s: float) -> float:
    """Return how many tokens of an answer arrived in a window: a piece may be several."""
    if not answer.arrivals_s:
        return 0.0
    share = sum(begin_s <= moment < end_s for moment in answer.arrivals_s) / len(answer.arrivals_s)
    return share * (answer.completion_tokens or len(answer.arrivals_s))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0

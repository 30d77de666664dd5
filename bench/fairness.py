"""One user with many long requests beside five polite ones, through the whole stack.

Three loads that take turns: the polite alone; beside the hog; and the same load under the name of
one user, which is how a server without fairness between users would serve it (in order of
arrival). Knows no engine and no queue.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench import figures, load, prompts, report
from bench.chat import Answer, Question
from bench.load import Worker
from bench.servers import Shape, Site, SiteModel
from bench.workplace import MODELS

SHAPE: Final = Shape(slots=16, window_tokens=2048)
_HOG: Final = "hog"
_POLITE: Final = tuple(f"polite{number}" for number in range(5))
_HOG_REQUESTS: Final = 32
_HOG_TOKENS: Final = 160
_HOG_SENTENCES: Final = 20
_POLITE_TOKENS: Final = 24
_POLITE_PAUSE_S: Final = 0.3
_HEAD_START_S: Final = 4.0  # the hog's requests fill the slots before anything is counted
# Each load's runs are counted together: the 95th percentile of one run's forty answers is chance.
_ROUNDS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run gave: TTFT of the polite users' answers, pieces of each user (the hog first)."""

    firsts_s: Sequence[float]
    user_pieces: Sequence[int]
    lasted_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One load: the polite users' TTFT, and tokens/s of each user (the hog first, if any)."""

    polite_p50_s: float
    polite_p95_s: float
    user_tokens_per_s: Sequence[float]

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of all together."""
        return sum(self.user_tokens_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """The three loads."""

    alone: Outcome
    fair: Outcome
    fifo: Outcome


def measure(duration_s: float = 25.0) -> Fairness:
    """Measure. Raises ProcessError, LoadError."""
    model = MODELS[0]
    site = Site("fairness", SHAPE, [SiteModel(model.name, model)], [_HOG, *_POLITE])
    try:
        site.start()
        site.load(model.name, _HOG)
        loads = _Loads(site, model.name)
        alone, fair, fifo = [], [], []
        for number in range(1, _ROUNDS + 1):
            report.log(f"fairness, round {number}: the polite alone")
            alone.append(asyncio.run(loads.run(_POLITE, duration_s, has_hog=False)))
            report.log(f"fairness, round {number}: beside the hog")
            fair.append(asyncio.run(loads.run(_POLITE, duration_s, has_hog=True)))
            report.log(f"fairness, round {number}: the same as one user")
            fifo.append(asyncio.run(loads.run([_HOG] * len(_POLITE), duration_s, has_hog=True)))
    finally:
        site.stop()
    return Fairness(alone=outcome(alone), fair=outcome(fair), fifo=outcome(fifo))


class _Loads:
    """Runs the load on a site under different names."""

    def __init__(self, site: Site, model: str) -> None:
        self._site = site
        self._model = model
        self._seeds = itertools.count()

    async def run(self, names: Sequence[str], duration_s: float, *, has_hog: bool) -> Run:
        """Return what five users with these names got in a window of time."""
        target = self._site.target(self._model, _HOG)
        hog = [Worker(target, self._long_questions()) for _ in range(_HOG_REQUESTS * has_hog)]
        polite = [
            Worker(self._site.target(self._model, name), self._short_questions(), _POLITE_PAUSE_S)
            for name in names
        ]
        first = asyncio.create_task(load.run(hog, duration_s=_HEAD_START_S + duration_s))
        await asyncio.sleep(_HEAD_START_S if has_hog else 0)
        begin_ns = time.monotonic_ns()
        by_user = await load.run(polite, duration_s=duration_s)
        end_ns = time.monotonic_ns()
        hogs = [answer for each in await first for answer in each]
        by_user = [hogs, *by_user] if has_hog else by_user
        return _run(by_user, len(polite), begin_ns, end_ns)

    def _long_questions(self) -> Iterator[Question]:
        for seed in self._seeds:
            text = f"{prompts.long_text(str(seed), _HOG_SENTENCES)} Tell all of it at length."
            yield Question(({"role": "user", "content": text},), _HOG_TOKENS)

    def _short_questions(self) -> Iterator[Question]:
        for seed in self._seeds:
            yield Question((prompts.short_question(str(seed)),), _POLITE_TOKENS)


def _run(by_user: Sequence[Sequence[Answer]], polite: int, begin_ns: int, end_ns: int) -> Run:
    firsts_ns = [
        # One that has not begun when the time is over has waited for that long at least.
        (answer.arrivals_ns[0] if answer.arrivals_ns else end_ns) - answer.sent_ns
        for answers in by_user[-polite:]
        for answer in answers
        if answer.arrivals_ns or answer.sent_ns < end_ns
    ]
    return Run(
        firsts_s=[first_ns / 1e9 for first_ns in firsts_ns],
        user_pieces=[load.pieces_between(answers, begin_ns, end_ns) for answers in by_user],
        lasted_s=(end_ns - begin_ns) / 1e9,
    )


def outcome(runs: Sequence[Run]) -> Outcome:
    """Return what runs of the same load gave together."""
    firsts_s = [first_s for run in runs for first_s in run.firsts_s]
    lasted_s = sum(run.lasted_s for run in runs)
    by_user = zip(*(run.user_pieces for run in runs), strict=True)
    return Outcome(
        polite_p50_s=figures.median(firsts_s),
        polite_p95_s=figures.percentile(firsts_s, 95),
        user_tokens_per_s=[sum(pieces) / lasted_s for pieces in by_user],
    )


def fairness_index(user_tokens_per_s: Sequence[float], slots: int) -> float:
    """Return Jain's index of what each user got for each slot that was theirs by right.

    The first is the hog, who can fill every slot; each other can use one. Where all have what
    they can use or an equal part, the index is 1.
    """
    demands = [float(slots), *[1.0] * (len(user_tokens_per_s) - 1)]
    rights = figures.fair_shares(float(slots), demands)
    pairs = zip(user_tokens_per_s, rights, strict=True)
    return figures.jain([tokens / right for tokens, right in pairs])


def to_markdown(found: Fairness) -> str:
    """Return the table."""
    rows = [
        _row("the polite alone", found.alone, ""),
        *(
            _row(name, outcome, f"{fairness_index(outcome.user_tokens_per_s, SHAPE.slots):.3f}")
            for name, outcome in (("beside the hog", found.fair), ("as one user", found.fifo))
        ),
    ]
    head = ("", "polite TTFT p50 ms", "p95 ms", "tokens/s polite", "hog", "all", "Jain")
    wait = found.fair.polite_p95_s / found.alone.polite_p95_s
    index = fairness_index(found.fair.user_tokens_per_s, SHAPE.slots)
    speed = found.fair.tokens_per_s / found.fifo.tokens_per_s
    return (
        f"{report.table(head, rows)}\n\n"
        f"Polite p95 TTFT against alone: {report.verdict(wait, at_most=2)}. "
        f"Jain: {report.verdict(index, at_least=0.95)}. "
        f"All tokens/s against one user's (FIFO): {report.verdict(speed, at_least=0.95)}."
    )


def _row(name: str, outcome: Outcome, index: str) -> list[str]:
    *hog, _, _, _, _, _ = outcome.user_tokens_per_s
    return [
        name,
        report.milliseconds(outcome.polite_p50_s),
        report.milliseconds(outcome.polite_p95_s),
        f"{outcome.tokens_per_s - sum(hog):.1f}",
        f"{sum(hog):.1f}",
        f"{outcome.tokens_per_s:.1f}",
        index,
    ]

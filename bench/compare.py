"""This site beside llama.cpp's server: same file, slots, window, threads and questions, in turns.

Both servers run all the time and one works; what the other uses meanwhile is measured too. Every
figure is the median over the rounds. Knows no HTTP and no document.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench import figures, load, processes, prompts
from bench.chat import Question, Target
from bench.load import LoadError, Summary, Worker
from bench.report import log
from bench.servers import LlamaServer, Shape, Site, SiteModel
from bench.workplace import MODELS, BenchModel

SHAPE: Final = Shape(slots=16, window_tokens=2048)
_TINY: Final = "smollm2-135m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load. `min_speed` and `max_ttft` are the wanted ratios ours/theirs."""

    name: str
    users: int
    asks: int  # of each user, one after the other
    max_tokens: int
    has_system: bool = False  # one system prompt of 1,000 tokens for all
    is_warm: bool = False  # the same one as in the scenario before
    min_speed: float
    min_speed_tiny: float  # for the smallest model, where the engine's share of the time is small
    max_ttft: float = 1.0


SCENARIOS: Final = (
    Scenario(name="1 user", users=1, asks=3, max_tokens=96, min_speed=0.97, min_speed_tiny=0.97),
    Scenario(name="8 users", users=8, asks=2, max_tokens=64, min_speed=1.0, min_speed_tiny=0.9),
    Scenario(name="16 users", users=16, asks=2, max_tokens=48, min_speed=1.0, min_speed_tiny=0.9),
    Scenario(
        name="8 users, one system prompt, cold",
        users=8,
        asks=1,
        max_tokens=32,
        has_system=True,
        min_speed=4.0,
        min_speed_tiny=4.0,
        max_ttft=0.35,
    ),
    Scenario(
        name="8 users, one system prompt, warm",
        users=8,
        asks=2,
        max_tokens=32,
        has_system=True,
        is_warm=True,
        min_speed=1.2,
        min_speed_tiny=1.2,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One load on one server. `idle_cpu` is the other server's CPU use meanwhile, in CPUs."""

    summary: Summary
    idle_cpu: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A scenario's runs, round by round."""

    model: str
    scenario: Scenario
    ours: Sequence[Run]
    theirs: Sequence[Run]

    @property
    def wanted_speed(self) -> float:
        """The wanted ratio of tokens/s."""
        is_tiny = self.model == _TINY
        return self.scenario.min_speed_tiny if is_tiny else self.scenario.min_speed

    def medians(self, figure: str) -> tuple[float, float]:
        """Return a figure of Summary: ours, theirs."""
        ours = figures.median([getattr(run.summary, figure) for run in self.ours])
        return ours, figures.median([getattr(run.summary, figure) for run in self.theirs])


def compare(models: Sequence[str], rounds: int, only: str = "") -> list[Comparison]:
    """Measure. Raises ProcessError, LoadError."""
    found: list[Comparison] = []
    for model in MODELS:
        if model.name in models:
            found += _compare_model(model, rounds, only)
    return found


def _compare_model(model: BenchModel, rounds: int, only: str) -> list[Comparison]:
    users = [f"user{number}" for number in range(max(s.users for s in SCENARIOS))]
    plain = SiteModel(model.name, model)
    own = [SiteModel(_name(model, n), model, _system(model, n)) for n in range(rounds)]
    site = Site(model.name, SHAPE, [plain, *own], users)
    peer = LlamaServer(model, SHAPE)
    try:
        site.start()
        peer.start()
        for name in (plain.name, *(each.name for each in own)):
            site.load(name, users[0])
        contest = _Contest(model, site, peer)
        contest.warm_up()
        return [contest.scenario(s, rounds) for s in SCENARIOS if only in s.name]
    finally:
        peer.stop()
        site.stop()


class _Contest:
    """Runs scenarios on the two servers."""

    def __init__(self, model: BenchModel, site: Site, peer: LlamaServer) -> None:
        self._model = model
        self._site = site
        self._peer = peer

    def warm_up(self) -> None:
        """Let both answer once, so that nothing is done for the first time."""
        for targets in (self._ours(1, None), self._theirs(1)):
            question = Question((prompts.short_question("warm up"),), 8)
            asyncio.run(load.run([Worker(targets[0], [question])]))

    def scenario(self, scenario: Scenario, rounds: int) -> Comparison:
        """Measure one scenario, in turns."""
        found = Comparison(self._model.name, scenario, [], [])
        ours: list[Run] = []
        theirs: list[Run] = []
        for number in range(rounds):
            model = number if scenario.has_system else None
            system = _system(self._model, number) if scenario.has_system else ""
            seed = f"{scenario.name} {number}"
            ours.append(
                _measure(
                    _workers(scenario, self._ours(scenario.users, model), seed, ""),
                    lambda: self._peer.pids,
                )
            )
            theirs.append(
                _measure(
                    _workers(scenario, self._theirs(scenario.users), seed, system),
                    lambda: self._site.pids,
                )
            )
            log(f"{self._model.name}, {scenario.name}, round {number + 1}: {_brief(ours, theirs)}")
        found = Comparison(self._model.name, scenario, ours, theirs)
        _check_same_work(found)
        return found

    def _ours(self, users: int, number: int | None) -> list[Target]:
        name = self._model.name if number is None else _name(self._model, number)
        return [self._site.target(name, f"user{user}") for user in range(users)]

    def _theirs(self, users: int) -> list[Target]:
        return [self._peer.target()] * users


def _name(model: BenchModel, number: int) -> str:
    return f"{model.name}-notes{number}"


def _system(model: BenchModel, number: int) -> str:
    return prompts.system_text(f"{model.name} {number}")


def _workers(scenario: Scenario, targets: Sequence[Target], seed: str, system: str) -> list[Worker]:
    own = ({"role": "system", "content": system},) if system else ()
    seed += " warm" if scenario.is_warm else ""
    return [
        Worker(
            target,
            [
                Question(
                    (*own, prompts.short_question(f"{seed} {user} {ask}")), scenario.max_tokens
                )
                for ask in range(scenario.asks)
            ],
        )
        for user, target in enumerate(targets)
    ]


def _measure(workers: Sequence[Worker], idle_pids: Callable[[], list[int]]) -> Run:
    idle = idle_pids()
    before_s = processes.cpu_s(idle)
    answers = [answer for each in asyncio.run(load.run(workers)) for answer in each]
    summary = load.summarize(answers)
    lasted_s = summary.completion_tokens / summary.tokens_per_s
    return Run(summary=summary, idle_cpu=(processes.cpu_s(idle) - before_s) / lasted_s)


def _check_same_work(found: Comparison) -> None:
    """Raise LoadError where the two were not asked the same, which would make it no comparison."""
    ours, theirs = found.medians("prompt_tokens")
    if abs(ours - theirs) > 0.02 * theirs:  # a space more or less around a turn
        raise LoadError(
            f"{found.model}, {found.scenario.name}: the prompts had {ours:.0f} tokens here and "
            f"{theirs:.0f} there"
        )


def _brief(ours: Sequence[Run], theirs: Sequence[Run]) -> str:
    pair = [
        f"{run.summary.tokens_per_s:.1f} tokens/s, first after {run.summary.ttft_p50_s:.3f} s"
        for run in (ours[-1], theirs[-1])
    ]
    return " | ".join(pair)

"""A lab in virtual time: people with habits, the real scheduler, runners that only count tokens.

A runner's step computes a few tokens of every request that has a slot and takes the time that a
small model takes on a few cores; pausing costs time too. Nothing here sleeps.
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from inference.engine.actions import (
    Action,
    Dispatch,
    End,
    PauseOnRunner,
    ResumeOnRunner,
    StartRunner,
    StopRunner,
)
from inference.engine.runner_messages import Charge
from inference.engine.scheduler import Scheduler
from inference.messages import Generate, ModelRef, Priority, RawPrompt, RunnerOptions, Sampling

LOAD_S = 2.0
STEP_S = 0.012  # of the weights' way through the memory bus
TOKEN_S = 0.002  # on top for each sequence that gets a token
PROMPT_TOKEN_S = 0.0004
PAUSE_S = 0.004  # to put a KV state aside or back
PREFILL_TOKENS = 128


@dataclass(eq=False)
class Job:
    """One request as the lab sees it."""

    user: str
    prompt_tokens: int
    completion_tokens: int
    priority: Priority = Priority.API
    weights: str = "w1"
    weight: float = 1.0
    submitted_at: float = 0.0
    first_token_at: float | None = None
    ended_at: float | None = None
    prompted: int = 0
    completed: int = 0
    ends: int = 0
    request_id: str = ""

    @property
    def cost(self) -> float:
        return self.prompt_tokens + 2.0 * self.completion_tokens

    @property
    def ttft_s(self) -> float:
        assert self.first_token_at is not None
        return self.first_token_at - self.submitted_at


Habit = Iterator[tuple[float, Job | None]]
"""Yields (seconds to wait, job to send then); with None it waits for its last job's end."""


@dataclass(eq=False)
class _Runner:
    slots: dict[str, Job] = field(default_factory=dict)
    paused: dict[str, Job] = field(default_factory=dict)
    delay_s: float = 0.0
    is_stepping: bool = False


class Lab:
    """Plays habits against a scheduler. `is_fair` False: everybody is one user, thus in order.

    `stride`: tokens of a sequence in one step; `slowness` multiplies the time that a step takes.
    """

    def __init__(
        self, *, parallel: int, is_fair: bool = True, stride: int = 1, slowness: float = 1.0
    ) -> None:
        self.scheduler = Scheduler(
            parallel=parallel, max_loaded=2, max_queue=100_000, keep_alive_s=300.0
        )
        self.now = 0.0
        self.jobs: list[Job] = []
        self.served: dict[str, Counter[int]] = defaultdict(Counter)  # user → hour → cost
        self.pauses = 0
        # Without any service while something was asked.
        self.longest_gap_s: dict[str, float] = defaultdict(float)
        self.total_cost = 0
        self._parallel = parallel
        self._is_fair = is_fair
        self._stride = stride
        self._slowness = slowness
        self._numbers = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._runners: dict[str, _Runner] = {}
        self._by_id: dict[str, Job] = {}
        self._waiting_habits: dict[str, Habit] = {}
        self._open: Counter[str] = Counter()
        self._unserved_since: dict[str, float] = {}

    def play(self, habits: Iterable[Habit], *, until: float) -> None:
        """Let everybody follow their habits, then let what is open end."""
        for habit in habits:
            self._continue(habit)
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, act = heapq.heappop(self._agenda)
            act()

    # ------------------------------------------------------------ people

    def _continue(self, habit: Habit, last: Job | None = None) -> None:
        step = next(habit, None)
        if step is None:
            return
        wait_s, job = step
        if job is None:
            assert last is not None
            self._waiting_habits[last.request_id] = habit
            return
        self._at(self.now + wait_s, partial(self._submit, job, habit))

    def _submit(self, job: Job, habit: Habit) -> None:
        job.request_id = f"r{len(self.jobs)}"
        job.submitted_at = self.now
        self.jobs.append(job)
        if not self._open[job.user]:
            self._unserved_since[job.user] = self.now
        self._open[job.user] += 1
        self._by_id[job.request_id] = job
        request = Generate(
            request_id=job.request_id,
            model=ModelRef(name="m", digest="d", weights=job.weights),
            runner=RunnerOptions(num_ctx=256),
            prompt=RawPrompt(text=""),
            sampling=Sampling(),
            user=job.user if self._is_fair else "everybody",
            priority=job.priority if self._is_fair else Priority.API,
            weight=job.weight,
        )
        self._continue(habit, job)
        self.carry_out(self.scheduler.submit(request, self.now))

    # ------------------------------------------------------------ the node's part

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartRunner(key=key):
                    self._at(self.now + LOAD_S, partial(self._loaded, key))
                case StopRunner(key=key):
                    assert not self._runners[key].slots
                    self._at(self.now + 0.1, partial(self._gone, key))
                case End(event=event):
                    self._end(self._by_id[event.request_id])
                case _:
                    self._tell_runner(action)
        at = self.scheduler.next_expiry()
        if at is not None and at < float("inf"):
            self._at(max(at, self.now), self._tick)

    def _tell_runner(self, action: Action) -> None:
        assert isinstance(action, Dispatch | PauseOnRunner | ResumeOnRunner)
        runner = self._runners[action.key]
        match action:
            case Dispatch(request=request):
                runner.slots[request.request_id] = self._by_id[request.request_id]
            case PauseOnRunner(request_id=name):
                runner.paused[name] = runner.slots.pop(name)
                runner.delay_s += PAUSE_S
                self.pauses += 1
            case ResumeOnRunner(request_id=name):
                runner.slots[name] = runner.paused.pop(name)
                runner.delay_s += PAUSE_S
        assert len(runner.slots) <= self._parallel
        self._wake(action.key)

    def _tick(self) -> None:
        at = self.scheduler.next_expiry()
        if at is not None and at <= self.now:
            self.carry_out(self.scheduler.tick(self.now))

    def _loaded(self, key: str) -> None:
        self._runners[key] = _Runner()
        self.carry_out(self.scheduler.runner_ready(key, self.now))

    def _gone(self, key: str) -> None:
        del self._runners[key]
        self.carry_out(self.scheduler.runner_gone(key, "", self.now))

    # ------------------------------------------------------------ a runner

    def _wake(self, key: str) -> None:
        runner = self._runners[key]
        if not runner.is_stepping and runner.slots:
            runner.is_stepping = True
            plan = self._plan(runner)
            took_s = STEP_S + runner.delay_s
            took_s += sum(p * PROMPT_TOKEN_S + c * TOKEN_S for p, c in plan.values())
            took_s += STEP_S * (max(c for _, c in plan.values()) - 1 if plan else 0)
            runner.delay_s = 0.0
            self._at(self.now + took_s * self._slowness, partial(self._step, key, plan))

    def _plan(self, runner: _Runner) -> dict[str, tuple[int, int]]:
        plan = {}
        room = PREFILL_TOKENS * self._stride
        for name, job in runner.slots.items():
            if job.prompted >= job.prompt_tokens:
                plan[name] = (0, min(self._stride, job.completion_tokens - job.completed))
            elif room:
                plan[name] = (min(room, job.prompt_tokens - job.prompted), 0)
                room -= plan[name][0]
        return plan

    def _step(self, key: str, plan: dict[str, tuple[int, int]]) -> None:
        runner = self._runners[key]
        runner.is_stepping = False
        charges, ended = [], []
        for name, (prompt, completion) in plan.items():
            job = runner.slots.get(name)
            if job is None:
                continue  # paused during the step: what it computed is lost
            self._note_service(job, prompt, completion)
            charges.append(Charge(name, prompt, completion))
            if job.completed >= job.completion_tokens:
                ended.append(job)
        self.carry_out(self.scheduler.charged(key, tuple(charges), self.now))
        for job in ended:
            # It may have been paused a moment ago for somebody else.
            runner.slots.pop(job.request_id, None)
            runner.paused.pop(job.request_id, None)
            self._end(job)
            self.carry_out(self.scheduler.ended(key, job.request_id, self.now))
        self._wake(key)

    def _note_service(self, job: Job, prompt: int, completion: int) -> None:
        job.prompted += prompt
        job.completed += completion
        if completion and job.first_token_at is None:
            job.first_token_at = self.now
        gap_s = self.now - self._unserved_since[job.user]
        self.longest_gap_s[job.user] = max(self.longest_gap_s[job.user], gap_s)
        self._unserved_since[job.user] = self.now
        cost = prompt + 2 * completion
        self.total_cost += cost
        self.served[job.user][int(self.now // 3600)] += cost

    def _end(self, job: Job) -> None:
        job.ends += 1
        self._open[job.user] -= 1
        job.ended_at = self.now
        habit = self._waiting_habits.pop(job.request_id, None)
        if habit is not None:
            self._continue(habit)

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._numbers), act))


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def jain(values: Iterable[float]) -> float:
    """Return Jain's index: 1 where all have the same, 1/n where one has everything."""
    shares = list(values)
    squares = sum(x * x for x in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def fair_shares(demands: dict[str, float], total: float) -> dict[str, float]:
    """Divide a total so that nobody gets more than their demand and else all the same."""
    shares: dict[str, float] = {}
    left = total
    for count, (user, demand) in enumerate(sorted(demands.items(), key=lambda item: item[1])):
        shares[user] = min(demand, left / (len(demands) - count))
        left -= shares[user]
    return shares

"""Thousands of random interleavings of everything that can happen, over runners played by the test.

Whatever happens, every accepted request ends exactly once, slots are never over-committed, a model
in use is never evicted and memory is never given away twice.
"""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from inference.engine.actions import (
    Action,
    AllowLoad,
    CancelOnRunner,
    Dispatch,
    End,
    PauseOnRunner,
    ResumeOnRunner,
    StartRunner,
    StopRunner,
)
from inference.engine.line import RunnerState
from inference.engine.memory import Capacity, Need
from inference.engine.runner_messages import Charge
from inference.engine.scheduler import Scheduler
from inference.messages import (
    Embed,
    Generate,
    Load,
    ModelRef,
    Priority,
    RawPrompt,
    RunnerOptions,
    Sampling,
    Unload,
)

PARALLEL = 3
MAX_LOADED = 2
MAX_QUEUE = 6
MEMORY = 10
SIZES = {"w0": 4, "w1": 5, "w2": 7, "w3": 11}  # the last can never fit
KEYS = sorted(SIZES)


class PlayedRunner:
    """A runner process as the node sees it."""

    def __init__(self) -> None:
        self.is_allowed = False
        self.is_open = False
        self.is_measured = False
        self.is_stopping = False
        self.running: dict[str, int] = {}  # request → slots
        self.paused: dict[str, int] = {}


class Machine:
    """Carries out the scheduler's actions and does whatever `act_…` it is told to."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(
            parallel=PARALLEL,
            max_loaded=MAX_LOADED,
            max_queue=MAX_QUEUE,
            keep_alive_s=300.0,
            capacity=lambda: Capacity(total_bytes=MEMORY),
        )
        self.now = 0.0
        self.submitted: set[str] = set()
        self.ends: Counter[str] = Counter()
        self.runners: dict[str, PlayedRunner] = {}
        self.seen: Counter[str] = Counter()

    # ------------------------------------------------------------ the node's part

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            self.seen[type(action).__name__] += 1
            match action:
                case End(event=event):
                    self.ends[event.request_id] += 1
                case StartRunner(key=key):
                    assert key not in self.runners
                    self.runners[key] = PlayedRunner()
                case _:
                    self._tell_runner(action, self.runners[action.key])
        self.check()

    def _tell_runner(self, action: Action, runner: PlayedRunner) -> None:
        match action:
            case AllowLoad():
                assert runner.is_measured
                assert not runner.is_allowed
                runner.is_allowed = True
            case StopRunner():
                assert not runner.running, "a model in use was evicted"
                assert not runner.paused, "a model in use was evicted"
                runner.is_stopping = True
            case Dispatch(request=request):
                assert runner.is_open
                choices = request.choices if isinstance(request, Generate) else 1
                runner.running[request.request_id] = min(choices, PARALLEL)
            case PauseOnRunner(request_id=request_id):
                runner.paused[request_id] = runner.running.pop(request_id)
            case ResumeOnRunner(request_id=request_id):
                runner.running[request_id] = runner.paused.pop(request_id)
            case CancelOnRunner(request_id=request_id):
                assert request_id in {**runner.running, **runner.paused}

    def check(self) -> None:
        assert len(self.runners) <= MAX_LOADED
        assert self.scheduler.waiting <= MAX_QUEUE
        taken = sum(SIZES[key] for key, runner in self.runners.items() if runner.is_allowed)
        assert taken <= MEMORY
        for runner in self.runners.values():
            assert sum(runner.running.values()) <= PARALLEL
        for line in self.scheduler._lines.values():
            assert all(count >= 0 for count in line._queue._counters.values())
            assert all(count > 0 for count in line._queue._slots.values())
        assert set(self.ends.values()) <= {1}
        open_requests = sum(len(r.running) + len(r.paused) for r in self.runners.values())
        assert self.scheduler.running == open_requests
        state = self.scheduler.queue_state("q", self.now)
        told = [entry.request_id for entry in state.on_slots]
        assert sorted(told) == sorted(name for r in self.runners.values() for name in r.running)
        waiting = [entry.request_id for entry in state.entries]
        unended = self.submitted - self.ends.keys()
        assert not {*told, *waiting} - unended
        assert len({*told, *waiting}) == len(told) + len(waiting)

    def finish(self, key: str, request_id: str) -> None:
        runner = self.runners[key]
        runner.running.pop(request_id, None)
        runner.paused.pop(request_id, None)
        self.ends[request_id] += 1
        self.carry_out(self.scheduler.ended(key, request_id, self.now))

    def lose(self, key: str) -> None:
        runner = self.runners.pop(key)
        gone = self.scheduler.runner_gone if runner.is_open else self.scheduler.runner_failed
        self.carry_out(gone(key, "it is gone", self.now))

    # ------------------------------------------------------------ what can happen

    def act_submit(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - a plan, not a secret
        request_id = f"r{len(self.submitted)}"
        key = chance.choice(KEYS[: 3 + (number % 17 == 0)])
        model = ModelRef(name=key, digest=key, weights=key)
        options = RunnerOptions(num_ctx=chance.choice([256, 256, 256, 512]))
        keep = chance.choice([None, None, 0.0, 10.0])
        user = chance.choice(["ann", "bob", "hog", "hog"])
        request: Generate | Embed | Load = Generate(
            request_id=request_id,
            model=model,
            runner=options,
            prompt=RawPrompt(text=""),
            sampling=Sampling(),
            user=user,
            weight=chance.choice([1.0, 1.0, 3.0]),
            priority=chance.choice(list(Priority)),
            keep_alive_s=keep,
            choices=chance.choice([1, 1, 1, 2, 5]),
        )
        if number % 7 == 0:
            request = Load(
                request_id=request_id, model=model, runner=options, user=user, keep_alive_s=keep
            )
        elif number % 5 == 0:
            request = Embed(
                request_id=request_id, model=model, runner=options, inputs=("x",), user=user
            )
        self.submitted.add(request_id)
        self.carry_out(self.scheduler.submit(request, self.now))

    def act_unload(self, number: int) -> None:
        request_id = f"r{len(self.submitted)}"
        self.submitted.add(request_id)
        model = ModelRef(name="m", digest="d", weights=KEYS[number % 3])
        unload = Unload(request_id=request_id, model=model)
        self.carry_out(self.scheduler.unload(unload, self.now))

    def act_pin(self, number: int) -> None:
        """The newest request's model is pinned or not from now on."""
        for runner in self.scheduler.runners:
            runner.model = structs.replace(runner.model, is_pinned=number % 3 == 0)

    def act_cancel(self, number: int) -> None:
        request_id = f"r{number % (len(self.submitted) + 1)}"
        self.carry_out(self.scheduler.cancel(request_id, self.now))

    def act_measure(self, number: int) -> None:
        measuring = [key for key, runner in self.runners.items() if not runner.is_measured]
        if measuring:
            key = measuring[number % len(measuring)]
            self.runners[key].is_measured = True
            need = Need(system_bytes=SIZES[key])
            self.carry_out(self.scheduler.runner_measured(key, need, self.now))

    def act_ready(self, number: int) -> None:
        loading = [
            key for key, runner in self.runners.items() if runner.is_allowed and not runner.is_open
        ]
        if loading:
            key = loading[number % len(loading)]
            self.runners[key].is_open = not self.runners[key].is_stopping
            self.carry_out(self.scheduler.runner_ready(key, self.now))

    def act_fail(self, number: int) -> None:
        loading = [key for key, runner in self.runners.items() if not runner.is_open]
        if loading:
            self.lose(loading[number % len(loading)])

    def act_gone(self, _number: int) -> None:
        stopping = [key for key, runner in self.runners.items() if runner.is_stopping]
        if stopping:
            self.lose(stopping[0])

    def act_crash(self, number: int) -> None:
        is_open = [key for key, runner in self.runners.items() if runner.is_open]
        if is_open:
            self.lose(is_open[number % len(is_open)])

    def act_step(self, number: int) -> None:
        for key, runner in list(self.runners.items()):
            charges = tuple(Charge(name, number, 20) for name in runner.running)
            if charges:
                self.carry_out(self.scheduler.charged(key, charges, self.now))

    def act_finish(self, number: int) -> None:
        """A request ends, even one that the runner was just told to pause."""
        held = [
            (key, name)
            for key, runner in self.runners.items()
            for name in [*runner.running, *runner.paused]
        ]
        if held:
            self.finish(*held[number % len(held)])

    def act_tick(self, number: int) -> None:
        self.now += number
        self.carry_out(self.scheduler.tick(self.now))

    def act_drain(self, number: int) -> None:
        if number % 97 == 0:
            self.carry_out(self.scheduler.drain())

    # ------------------------------------------------------------ the end

    def settle(self) -> None:
        """Let everything come to its end without further trouble."""
        self.act_pin(1)
        for _ in range(500):
            is_loading = any(
                runner.state is RunnerState.LOADING for runner in self.scheduler.runners
            )
            waited = self.scheduler.waiting or self.scheduler.running or is_loading
            self.now += 1
            for act in ("measure", "ready", "gone", "step", "finish"):
                getattr(self, f"act_{act}")(0)
            self.act_tick(5)
            if not waited:
                return
        raise AssertionError("requests are stuck")


ACTS = sorted(name for name in vars(Machine) if name.startswith("act_"))
# What brings work in and what computes it happens more often than what goes wrong.
WEIGHTS = [
    {"act_submit": 6, "act_step": 4, "act_ready": 3, "act_measure": 3}.get(a, 1) for a in ACTS
]


def _play(plan: list[tuple[str, int]]) -> Machine:
    machine = Machine()
    for act, number in plan:
        machine.now += number / 10
        getattr(machine, act)(number)
    machine.settle()
    assert machine.ends == dict.fromkeys(machine.submitted, 1)
    assert not any(r.state is RunnerState.LOADING for r in machine.scheduler.runners)
    return machine


@settings(deadline=None, max_examples=200)
@given(plan=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 40)), max_size=80))
def test_every_request_ends_exactly_once_whatever_happens(plan: list[tuple[str, int]]) -> None:
    _play(plan)


@pytest.mark.parametrize("seed", range(4))
def test_every_request_ends_exactly_once_in_long_random_weeks(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a plan, not a secret
    seen: Counter[str] = Counter()
    for _ in range(250):
        acts = chance.choices(ACTS, WEIGHTS, k=120)
        seen += _play([(act, chance.randint(1, 100)) for act in acts]).seen
    kinds = {"StartRunner", "AllowLoad", "StopRunner", "Dispatch", "End"}
    kinds |= {"PauseOnRunner", "ResumeOnRunner", "CancelOnRunner"}
    assert kinds <= set(seen), "the plans leave something out"

"""The scheduler as pure logic: time is a number, runners are played by the test."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.scheduler import (
    Action,
    CancelOnRunner,
    Dispatch,
    End,
    RunnerState,
    Scheduler,
    StartRunner,
    StopRunner,
)
from inference.messages import (
    DoneReason,
    Failed,
    FailureCode,
    Finished,
    Generate,
    Load,
    ModelRef,
    RunnerOptions,
    Unload,
)
from tests.inference.engine.fake_model import generate


def _scheduler(**changes: float) -> Scheduler:
    values = {"parallel": 2, "max_loaded": 2, "max_queue": 10, "keep_alive_s": 300.0} | changes
    return Scheduler(**values)  # type: ignore[arg-type]


def _ref(weights: str = "w1") -> ModelRef:
    return ModelRef(name="tiny:latest", digest="d" * 64, weights=weights)


def _kinds(actions: list[Action]) -> list[type]:
    return [type(action) for action in actions]


def _ready(scheduler: Scheduler, key: str = "w1") -> None:
    scheduler.submit(generate("warm", weights=key), 0.0)
    scheduler.runner_ready(key, 0.0)
    scheduler.ended(key, "warm", 0.0)


def _codes(actions: list[Action]) -> list[FailureCode]:
    return [a.event.code for a in actions if isinstance(a, End) and isinstance(a.event, Failed)]


def test_the_first_request_starts_a_runner_and_is_dispatched_when_it_is_ready() -> None:
    scheduler = _scheduler()
    assert _kinds(scheduler.submit(generate("r1"), 1.0)) == [StartRunner]
    [action] = scheduler.runner_ready("w1", 3.5)
    assert isinstance(action, Dispatch)
    assert action.load_ns == 2_500_000_000


def test_a_runner_gets_no_more_requests_than_it_has_slots() -> None:
    scheduler = _scheduler()
    _ready(scheduler)
    kinds = [_kinds(scheduler.submit(generate(f"r{n}"), 1.0)) for n in range(3)]
    assert kinds == [[Dispatch], [Dispatch], []]
    assert _kinds(scheduler.ended("w1", "r0", 2.0)) == [Dispatch]


def test_a_request_over_the_queue_limit_is_refused_and_the_others_stay() -> None:
    scheduler = _scheduler(max_queue=1)
    scheduler.submit(generate("r1"), 0.0)
    assert _codes(scheduler.submit(generate("r2"), 0.0)) == [FailureCode.QUEUE_FULL]
    assert _kinds(scheduler.runner_ready("w1", 1.0)) == [Dispatch]


def test_an_idle_model_leaves_after_its_keep_alive() -> None:
    scheduler = _scheduler()
    _ready(scheduler)
    assert scheduler.next_expiry() == 300.0
    assert scheduler.tick(299.0) == []
    assert scheduler.tick(300.0) == [StopRunner("w1")]


def test_an_explicit_keep_alive_sticks_for_later_requests() -> None:
    scheduler = _scheduler()
    _ready(scheduler)
    scheduler.submit(generate("r1", keep_alive_s=10), 1.0)
    scheduler.ended("w1", "r1", 2.0)
    scheduler.submit(generate("r2"), 3.0)
    scheduler.ended("w1", "r2", 4.0)
    assert scheduler.next_expiry() == 14.0


def test_keep_alive_zero_unloads_when_the_request_ends() -> None:
    scheduler = _scheduler()
    _ready(scheduler)
    scheduler.submit(generate("r1", keep_alive_s=0), 1.0)
    assert scheduler.ended("w1", "r1", 2.0) == [StopRunner("w1")]


def test_unload_is_answered_at_once_and_waits_for_running_requests() -> None:
    scheduler = _scheduler()
    _ready(scheduler)
    scheduler.submit(generate("r1"), 1.0)
    [end] = scheduler.unload(Unload(request_id="u", model=_ref()), 1.0)
    assert isinstance(end, End)
    assert isinstance(end.event, Finished)
    assert end.event.reason is DoneReason.UNLOAD
    assert scheduler.ended("w1", "r1", 2.0) == [StopRunner("w1")]


def test_unload_of_a_model_that_is_not_loaded_is_answered_too() -> None:
    assert _kinds(_scheduler().unload(Unload(request_id="u", model=_ref()), 0.0)) == [End]


def test_load_ends_when_the_model_is_ready() -> None:
    scheduler = _scheduler()
    load = Load(request_id="l", model=_ref(), runner=RunnerOptions(num_ctx=256), keep_alive_s=7)
    assert _kinds(scheduler.submit(load, 0.0)) == [StartRunner]
    [end] = scheduler.runner_ready("w1", 1.0)
    assert isinstance(end, End)
    assert isinstance(end.event, Finished)
    assert end.event.reason is DoneReason.LOAD
    assert scheduler.next_expiry() == 8.0


def test_an_idle_model_makes_room_and_a_busy_one_does_not() -> None:
    scheduler = _scheduler(max_loaded=2)
    _ready(scheduler, "busy")
    _ready(scheduler, "idle")
    scheduler.submit(generate("r1", weights="busy"), 1.0)
    assert scheduler.submit(generate("r2", weights="new"), 2.0) == [StopRunner("idle")]
    assert _kinds(scheduler.runner_gone("idle", "", 3.0)) == [StartRunner]


def test_with_every_model_in_use_a_newcomer_waits() -> None:
    scheduler = _scheduler(max_loaded=1)
    _ready(scheduler, "busy")
    scheduler.submit(generate("r1", weights="busy"), 1.0)
    assert scheduler.submit(generate("r2", weights="new"), 2.0) == []
    assert scheduler.ended("busy", "r1", 3.0) == [StopRunner("busy")]


def test_a_larger_window_reloads_and_nobody_overtakes() -> None:
    scheduler = _scheduler()
    _ready(scheduler)
    scheduler.submit(generate("r1"), 1.0)
    assert scheduler.submit(generate("big", num_ctx=4096), 2.0) == []
    assert scheduler.submit(generate("r3"), 2.0) == []
    assert scheduler.ended("w1", "r1", 3.0) == [StopRunner("w1")]
    [start] = scheduler.runner_gone("w1", "", 4.0)
    assert isinstance(start, StartRunner)
    assert start.options.num_ctx == 4096
    assert _kinds(scheduler.runner_ready("w1", 5.0)) == [Dispatch, Dispatch]


def test_a_smaller_window_does_not_reload() -> None:
    scheduler = _scheduler()
    _ready(scheduler)
    assert _kinds(scheduler.submit(generate("r1", num_ctx=16), 1.0)) == [Dispatch]


def test_a_crash_fails_what_ran_and_starts_again_for_who_waits() -> None:
    scheduler = _scheduler(parallel=1)
    _ready(scheduler)
    scheduler.submit(generate("r1"), 1.0)
    scheduler.submit(generate("r2"), 1.0)
    actions = scheduler.runner_gone("w1", "it crashed", 2.0)
    assert _codes(actions) == [FailureCode.RUNNER_CRASHED]
    assert _kinds(actions) == [End, StartRunner]


def test_a_failed_load_is_told_to_everybody_who_waits_for_it() -> None:
    scheduler = _scheduler()
    scheduler.submit(generate("r1"), 0.0)
    scheduler.submit(generate("r2"), 0.0)
    actions = scheduler.runner_failed("w1", "no memory", 1.0)
    assert _codes(actions) == [FailureCode.LOAD_FAILED] * 2
    assert list(scheduler.runners) == []


def test_cancel_of_a_waiting_request_ends_it_and_of_a_running_one_asks_the_runner() -> None:
    scheduler = _scheduler(parallel=1)
    _ready(scheduler)
    scheduler.submit(generate("r1"), 1.0)
    scheduler.submit(generate("r2"), 1.0)
    assert _codes(scheduler.cancel("r2", 2.0)) == [FailureCode.CANCELLED]
    assert scheduler.cancel("r1", 2.0) == [CancelOnRunner("w1", "r1")]
    assert scheduler.cancel("nobody", 2.0) == []


def test_draining_refuses_the_waiting_and_the_new() -> None:
    scheduler = _scheduler(parallel=1)
    _ready(scheduler)
    scheduler.submit(generate("r1"), 1.0)
    scheduler.submit(generate("r2"), 1.0)
    assert _codes(scheduler.drain()) == [FailureCode.SHUTTING_DOWN]
    assert _codes(scheduler.submit(generate("r3"), 2.0)) == [FailureCode.SHUTTING_DOWN]
    assert scheduler.running == 1


class _Machine:
    """Plays the runners: what `act_…` there is happens in the order that hypothesis chooses."""

    def __init__(self) -> None:
        self.scheduler = _scheduler(max_queue=4)
        self.submitted: set[str] = set()
        self.now = 0.0
        self.ends: Counter[str] = Counter()
        self.on_runner: dict[str, str] = {}  # request → runner
        self.loading: list[str] = []
        self.stopping: list[str] = []

    def carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartRunner(key=key):
                    self.loading.append(key)
                case StopRunner(key=key):
                    assert key not in self.on_runner.values(), "a model in use was evicted"
                    self.stopping.append(key)
                case Dispatch(key=key, request=request):
                    self.on_runner[request.request_id] = key
                    assert list(self.on_runner.values()).count(key) <= 2
                case End(event=event):
                    self.ends[event.request_id] += 1
                case CancelOnRunner(request_id=request_id):
                    self.finish(request_id)
        assert len(list(self.scheduler.runners)) <= 2

    def finish(self, request_id: str) -> None:
        key = self.on_runner.pop(request_id)
        self.ends[request_id] += 1
        self.carry_out(self.scheduler.ended(key, request_id, self.now))

    def crash(self, key: str) -> None:
        for request_id in [r for r, at in self.on_runner.items() if at == key]:
            del self.on_runner[request_id]
        self.carry_out(self.scheduler.runner_gone(key, "crash", self.now))

    def settle(self) -> None:
        for _ in range(1000):
            if self.loading:
                self.carry_out(self.scheduler.runner_ready(self.loading.pop(0), self.now))
            elif self.stopping:
                self.carry_out(self.scheduler.runner_gone(self.stopping.pop(0), "", self.now))
            elif self.on_runner:
                self.finish(next(iter(self.on_runner)))
            elif self.scheduler.waiting:
                self.now += 1000
                self.carry_out(self.scheduler.tick(self.now))
            else:
                return
        raise AssertionError("requests are stuck")

    def act_submit(self, number: int) -> None:
        request: Generate | Load
        request_id, weights = f"r{len(self.submitted)}", f"w{number % 3}"
        if number % 7 == 0:
            options = RunnerOptions(num_ctx=256)
            request = Load(request_id=request_id, model=_ref(weights), runner=options)
        else:
            num_ctx = 512 if number % 5 == 0 else 256
            keep = 0 if number % 4 == 0 else None
            request = generate(request_id, weights=weights, num_ctx=num_ctx, keep_alive_s=keep)
        self.submitted.add(request_id)
        self.carry_out(self.scheduler.submit(request, self.now))

    def act_unload(self, number: int) -> None:
        request_id = f"u{len(self.submitted)}"
        self.submitted.add(request_id)
        unload = Unload(request_id=request_id, model=_ref(f"w{number % 3}"))
        self.carry_out(self.scheduler.unload(unload, self.now))

    def act_cancel(self, number: int) -> None:
        self.carry_out(self.scheduler.cancel(f"r{number}", self.now))

    def act_ready(self, _number: int) -> None:
        if self.loading:
            self.carry_out(self.scheduler.runner_ready(self.loading.pop(), self.now))

    def act_fail(self, _number: int) -> None:
        if self.loading:
            self.carry_out(self.scheduler.runner_failed(self.loading.pop(), "no", self.now))

    def act_gone(self, _number: int) -> None:
        if self.stopping:
            self.carry_out(self.scheduler.runner_gone(self.stopping.pop(), "", self.now))

    def act_finish(self, number: int) -> None:
        if self.on_runner:
            self.finish(sorted(self.on_runner)[number % len(self.on_runner)])

    def act_crash(self, number: int) -> None:
        ready = [r.key for r in self.scheduler.runners if r.state is RunnerState.READY]
        if ready:
            self.crash(ready[number % len(ready)])

    def act_tick(self, _number: int) -> None:
        self.carry_out(self.scheduler.tick(self.now))


_ACTS = sorted(name for name in vars(_Machine) if name.startswith("act_"))


@settings(deadline=None, max_examples=300)
@given(plan=st.lists(st.tuples(st.sampled_from(_ACTS), st.integers(0, 20)), max_size=80))
def test_every_request_ends_exactly_once_whatever_happens(plan: list[tuple[str, int]]) -> None:
    machine = _Machine()
    for act, number in plan:
        machine.now += number
        getattr(machine, act)(number)
    machine.settle()
    assert machine.ends == dict.fromkeys(machine.submitted, 1)

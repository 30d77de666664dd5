"""The scheduler as pure logic: time is a number, runners are played by the test."""

from inference.engine.actions import (
    Action,
    CancelOnRunner,
    Dispatch,
    End,
    StartRunner,
    StopRunner,
)
from inference.engine.scheduler import Scheduler
from inference.messages import (
    DoneReason,
    Failed,
    FailureCode,
    Finished,
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

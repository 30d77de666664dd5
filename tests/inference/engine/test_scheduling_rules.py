"""What the scheduler does beyond Ollama's: pausing, turns between models, memory, pins, queue."""

import pytest
from msgspec import structs

from inference.engine.actions import (
    CancelOnRunner,
    Dispatch,
    End,
    PauseOnRunner,
    ResumeOnRunner,
    StartRunner,
    StopRunner,
)
from inference.engine.memory import Capacity, Need
from inference.engine.runner_messages import Charge
from inference.engine.scheduler import BUSY, Scheduler
from inference.messages import (
    AdapterRef,
    Embed,
    FailureCode,
    Finished,
    Load,
    ModelRef,
    Priority,
    RunnerOptions,
)
from tests.inference.engine.scheduling import asked, failures, kinds, new_scheduler, ready

GIB = 1024**3


# ---------------------------------------------------------------- pausing


def _paused(scheduler: Scheduler) -> None:
    """Let h2 be paused for p1, beside h1."""
    ready(scheduler)
    for number in (1, 2):
        scheduler.submit(asked(f"h{number}"), 1.0)
    actions = scheduler.submit(asked("p1"), 2.0)
    assert actions[0] == PauseOnRunner("w1", "h2")
    assert isinstance(actions[1], Dispatch)


def test_a_user_with_every_slot_gives_one_to_a_user_without() -> None:
    _paused(new_scheduler())


def test_a_paused_request_goes_on_when_there_is_room() -> None:
    scheduler = new_scheduler()
    _paused(scheduler)

    assert scheduler.ended("w1", "p1", 3.0) == [ResumeOnRunner("w1", "h2")]


def test_a_cancelled_paused_request_does_not_go_on() -> None:
    scheduler = new_scheduler()
    _paused(scheduler)
    cancelled = scheduler.cancel("h2", 3.0)

    assert cancelled == [CancelOnRunner("w1", "h2")]
    assert scheduler.ended("w1", "p1", 4.0) == []


def test_a_request_may_end_though_it_was_just_paused() -> None:
    scheduler = new_scheduler()
    _paused(scheduler)
    scheduler.ended("w1", "h2", 2.0)

    assert scheduler.ended("w1", "p1", 3.0) == []
    assert scheduler.running == 1


def test_a_crash_fails_paused_requests_too() -> None:
    scheduler = new_scheduler()
    _paused(scheduler)
    failed = failures(scheduler.runner_gone("w1", "crash", 3.0))

    assert [failure.request_id for failure in failed] == ["h1", "h2", "p1"]
    assert {failure.code for failure in failed} == {FailureCode.RUNNER_CRASHED}


def test_draining_lets_a_paused_request_finish() -> None:
    scheduler = new_scheduler()
    _paused(scheduler)

    assert scheduler.drain() == []
    assert scheduler.ended("w1", "p1", 3.0) == [ResumeOnRunner("w1", "h2")]


def test_a_reload_waits_for_paused_requests() -> None:
    scheduler = new_scheduler()
    _paused(scheduler)
    scheduler.submit(asked("b1", runner=RunnerOptions(num_ctx=4096)), 3.0)

    assert scheduler.ended("w1", "p1", 4.0) == [ResumeOnRunner("w1", "h2")]
    assert scheduler.ended("w1", "h1", 5.0) == []
    assert scheduler.ended("w1", "h2", 6.0) == [StopRunner("w1")]


def test_who_comes_later_does_not_overtake_a_reload_even_with_a_better_class() -> None:
    scheduler = new_scheduler()
    ready(scheduler)
    scheduler.submit(asked("a1"), 1.0)
    scheduler.submit(asked("b1", runner=RunnerOptions(num_ctx=4096)), 2.0)

    assert scheduler.submit(asked("c1", priority=Priority.INTERACTIVE), 3.0) == []
    assert scheduler.ended("w1", "a1", 4.0) == [StopRunner("w1")]
    [start] = scheduler.runner_gone("w1", "", 5.0)
    assert isinstance(start, StartRunner)
    assert start.options.num_ctx == 4096


def test_a_lead_in_tokens_ends_a_turn() -> None:
    scheduler = new_scheduler(parallel=1)
    ready(scheduler)
    scheduler.submit(asked("a1"), 1.0)
    scheduler.submit(asked("b1"), 1.0)

    assert scheduler.charged("w1", (Charge("a1", 10, 0),), 2.0) == []
    actions = scheduler.charged("w1", (Charge("a1", 0, 500),), 3.0)
    assert kinds(actions) == [PauseOnRunner, Dispatch]


def test_several_choices_take_several_slots() -> None:
    scheduler = new_scheduler(parallel=4)
    ready(scheduler)
    scheduler.submit(asked("a1", choices=3), 1.0)

    assert kinds(scheduler.submit(asked("a2"), 1.0)) == [Dispatch]
    assert scheduler.submit(asked("a3"), 1.0) == []


def test_an_embedding_takes_a_slot() -> None:
    scheduler = new_scheduler(parallel=1)
    ready(scheduler)
    model = asked("a1").model
    embed = Embed(
        request_id="e1", model=model, runner=RunnerOptions(num_ctx=256), inputs=("a",), user="e"
    )

    assert kinds(scheduler.submit(embed, 1.0)) == [Dispatch]
    assert scheduler.submit(asked("a1"), 1.0) == []


# ---------------------------------------------------------------- turns between models


def test_a_model_always_in_use_gives_up_its_place_after_a_turn() -> None:
    scheduler = new_scheduler(max_loaded=1, parallel=1)
    ready(scheduler, "w1")
    scheduler.submit(asked("a1", "w1"), 1.0)
    scheduler.submit(asked("b1", "w2"), 1.0)
    scheduler.submit(asked("a2", "w1"), 2.0)

    assert scheduler.next_expiry() == 10.0
    assert kinds(scheduler.ended("w1", "a1", 5.0)) == [Dispatch]  # its turn is not over
    scheduler.submit(asked("a3", "w1"), 11.0)
    assert scheduler.ended("w1", "a2", 12.0) == [StopRunner("w1")]


def test_a_model_whose_turn_is_over_takes_nobody_new_though_it_has_slots() -> None:
    scheduler = new_scheduler(max_loaded=1, parallel=2)
    ready(scheduler, "w1")
    scheduler.submit(asked("a1", "w1"), 1.0)
    scheduler.submit(asked("b1", "w2"), 2.0)

    assert kinds(scheduler.submit(asked("a2", "w1"), 3.0)) == [Dispatch]
    assert scheduler.submit(asked("a3", "w1"), 20.0) == []
    assert scheduler.ended("w1", "a1", 21.0) == []
    assert scheduler.ended("w1", "a2", 22.0) == [StopRunner("w1")]


def test_a_model_that_nobody_waits_for_any_more_takes_no_place() -> None:
    scheduler = new_scheduler(max_loaded=1, parallel=1)
    ready(scheduler, "w1")
    scheduler.submit(asked("a1", "w1"), 1.0)
    scheduler.submit(asked("b1", "w2"), 1.0)
    scheduler.submit(asked("a2", "w1"), 20.0)
    scheduler.cancel("b1", 21.0)

    assert kinds(scheduler.ended("w1", "a1", 22.0)) == [Dispatch]


# ---------------------------------------------------------------- the queue


def test_a_full_queue_refuses_the_last_of_who_has_most_of_it() -> None:
    scheduler = new_scheduler(max_queue=3)
    for number in range(3):
        scheduler.submit(asked(f"h{number}"), 0.0)
    [failed] = failures(scheduler.submit(asked("p1"), 1.0))

    assert (failed.request_id, failed.message) == ("h2", BUSY)


def test_the_queue_is_told_with_reasons_and_positions() -> None:
    scheduler = new_scheduler(parallel=1)
    ready(scheduler)
    scheduler.submit(asked("a1"), 1.0)
    scheduler.submit(asked("a2"), 2.0)
    scheduler.submit(asked("b1"), 2.0)
    scheduler.submit(asked("c1", "w2"), 3.0)
    state = scheduler.queue_state("q", 4.0)

    waiting = [(entry.request_id, entry.position, entry.reason) for entry in state.entries]
    assert waiting == [
        ("b1", 1, "waiting for a slot"),
        ("c1", 1, "loading"),
        ("a2", 2, "waiting for a slot"),
    ]
    assert (state.request_id, state.running, state.slots) == ("q", 1, 1)
    assert state.entries[0].waited_s == 2.0


def test_a_paused_request_is_told_as_paused() -> None:
    scheduler = new_scheduler()
    _paused(scheduler)
    [entry] = scheduler.queue_state("q", 5.0).entries

    assert (entry.request_id, entry.reason, entry.waited_s) == ("h2", "paused", 3.0)


@pytest.mark.parametrize("is_measured", [True, False])
def test_who_waits_for_memory_is_told_so(is_measured: bool) -> None:
    scheduler = new_scheduler(Capacity(total_bytes=10), max_loaded=1 + is_measured)
    ready(scheduler, "busy", size=6)
    scheduler.submit(asked("b1", "busy"), 1.0)
    scheduler.submit(asked("a1", "new"), 1.0)
    if is_measured:
        scheduler.runner_measured("new", Need(system_bytes=7), 1.0)
    [entry] = scheduler.queue_state("q", 5.0).entries

    assert entry.reason == "waiting for memory"


def test_a_waiting_time_is_estimated_once_requests_have_ended() -> None:
    scheduler = new_scheduler(parallel=1)
    ready(scheduler)
    scheduler.submit(asked("a1"), 0.0)
    for step in range(21):
        scheduler.charged("w1", (Charge("a1", 0, 5),), step * 0.1)
    scheduler.ended("w1", "a1", 2.0)
    scheduler.submit(asked("a2"), 2.0)
    scheduler.submit(asked("a3"), 2.0)
    [entry] = scheduler.queue_state("q", 2.0).entries

    # The mean is over a request without tokens and one with 105: few, but of the right size.
    assert entry.estimate_s == pytest.approx(0.2, abs=0.15)


def test_a_dispatch_tells_the_wait_for_the_model_and_for_a_turn_apart() -> None:
    scheduler = new_scheduler(parallel=1)
    scheduler.submit(asked("a1"), 0.0)
    scheduler.submit(asked("a2"), 1.0)
    scheduler.runner_ready("w1", 3.0)
    [dispatch] = scheduler.ended("w1", "a1", 7.0)

    assert isinstance(dispatch, Dispatch)
    assert (dispatch.load_ns, dispatch.queue_ns) == (6_000_000_000, 4_000_000_000)
    assert dispatch.position == 2


def test_who_does_not_wait_has_position_0() -> None:
    scheduler = new_scheduler()
    ready(scheduler)
    [dispatch] = scheduler.submit(asked("a1"), 1.0)

    assert isinstance(dispatch, Dispatch)
    assert (dispatch.position, dispatch.queue_ns) == (0, 0)


def test_a_load_needs_no_slot() -> None:
    scheduler = new_scheduler(parallel=1)
    ready(scheduler)
    scheduler.submit(asked("a1"), 1.0)
    scheduler.submit(asked("a2"), 1.0)
    load = Load(request_id="l", model=asked("a1").model, runner=RunnerOptions(num_ctx=256))
    [end] = scheduler.submit(load, 2.0)

    assert isinstance(end, End)
    assert isinstance(end.event, Finished)


# ---------------------------------------------------------------- who shares a runner


def test_models_with_the_same_files_share_a_runner() -> None:
    first = ModelRef(name="a", digest="1", weights="w", projector="p")
    second = ModelRef(name="b", digest="2", weights="w", projector="p")

    assert first.runner_key == second.runner_key


@pytest.mark.parametrize(
    "other",
    [
        ModelRef(name="a", digest="1", weights="w", projector="p"),
        ModelRef(name="a", digest="1", weights="w", adapters=(AdapterRef(digest="p"),)),
        ModelRef(name="a", digest="1", weights="w", adapters=(AdapterRef(digest="p", scale=0.5),)),
    ],
)
def test_another_projector_or_adapter_is_another_runner(other: ModelRef) -> None:
    plain = ModelRef(name="a", digest="1", weights="w")
    scaled = ModelRef(
        name="a", digest="1", weights="w", adapters=(AdapterRef(digest="p", scale=2),)
    )

    assert other.runner_key not in {plain.runner_key, scaled.runner_key}


@pytest.mark.parametrize(
    "changed",
    [
        {"rope_frequency_base": 5.0},
        {"rope_frequency_scale": 0.5},
        {"f16_kv": False},
        {"use_mlock": True},
        {"num_batch": 64},
    ],
)
def test_other_runner_options_reload(changed: dict[str, float]) -> None:
    scheduler = new_scheduler()
    ready(scheduler)
    options = structs.replace(RunnerOptions(num_ctx=256), **changed)

    assert scheduler.submit(asked("a1", runner=options), 1.0) == [StopRunner("w1")]


# ---------------------------------------------------------------- what is told of it all


def test_what_runs_is_told_the_oldest_first_and_what_is_paused_is_not() -> None:
    scheduler = new_scheduler()
    _paused(scheduler)
    state = scheduler.queue_state("q", 5.0)

    running = [(entry.request_id, entry.user, entry.age_s) for entry in state.on_slots]
    assert running == [("h1", "h", 4.0), ("p1", "p", 3.0)]
    assert state.running == 2


def test_a_model_that_cannot_be_loaded_is_told_until_it_is_loaded_or_an_hour_has_passed() -> None:
    scheduler = new_scheduler()
    scheduler.submit(asked("a1"), 0.0)
    scheduler.runner_failed("w1", "no such file", 1.0)
    [failure] = scheduler.load_failures(5.0)

    assert (failure.name, failure.message, failure.ago_s) == ("w1", "no such file", 4.0)
    assert scheduler.load_failures(4000.0) == ()

    scheduler.submit(asked("a2"), 6.0)
    scheduler.runner_ready("w1", 7.0)

    assert scheduler.load_failures(7.0) == ()


def test_a_model_that_does_not_fit_is_told_as_one_that_cannot_be_loaded() -> None:
    scheduler = new_scheduler(Capacity(total_bytes=10))
    scheduler.submit(asked("a1"), 0.0)
    scheduler.runner_measured("w1", Need(system_bytes=11), 1.0)
    [failure] = scheduler.load_failures(1.0)

    assert "more system memory" in failure.message


def test_only_the_newest_failures_are_remembered() -> None:
    scheduler = new_scheduler()
    for number in range(40):
        scheduler.submit(asked("a1", f"w{number}"), 0.0)
        scheduler.runner_failed(f"w{number}", "no such file", 1.0)

    assert [f.name for f in scheduler.load_failures(1.0)] == [f"w{n}" for n in range(8, 40)]

"""What the scheduler does when memory is short, and with pinned models."""

from inference.engine.actions import (
    AllowLoad,
    Dispatch,
    End,
    StartRunner,
    StopRunner,
)
from inference.engine.memory import Capacity, Need
from inference.engine.scheduler import Scheduler
from inference.messages import (
    FailureCode,
    ModelRef,
    Unload,
)
from tests.inference.engine.scheduling import Machine, asked, failures, kinds, new_scheduler, ready

GIB = 1024**3


# ---------------------------------------------------------------- memory


def test_what_fits_may_be_loaded_within_a_limit_of_its_own() -> None:
    scheduler = new_scheduler(Capacity(total_bytes=10))
    scheduler.submit(asked("a1"), 0.0)
    actions = scheduler.runner_measured("w1", Need(system_bytes=10, limit_bytes=77), 1.0)

    assert actions == [AllowLoad("w1", 77)]


def test_an_idle_model_makes_room_in_memory_and_the_load_goes_on_when_it_is_gone() -> None:
    scheduler = new_scheduler(Capacity(total_bytes=10), max_loaded=3)
    ready(scheduler, "old", size=6)
    scheduler.submit(asked("a1", "new"), 1.0)

    assert scheduler.runner_measured("new", Need(system_bytes=7), 1.0) == [StopRunner("old")]
    assert scheduler.runner_gone("old", "", 2.0) == [AllowLoad("new")]


def test_the_shortest_keep_alive_goes_first_then_the_least_recently_used() -> None:
    scheduler = new_scheduler(Capacity(total_bytes=12), max_loaded=4)
    ready(scheduler, "stays", size=4)
    ready(scheduler, "goes", size=4, keep_alive_s=20.0)
    ready(scheduler, "old", size=4)
    scheduler.submit(asked("u1", "stays"), 1.0)
    scheduler.ended("stays", "u1", 1.0)
    scheduler.submit(asked("a1", "new"), 1.0)
    actions = scheduler.runner_measured("new", Need(system_bytes=8), 1.0)

    assert actions == [StopRunner("goes"), StopRunner("old")]


def test_a_load_waits_for_a_model_in_use() -> None:
    scheduler = new_scheduler(Capacity(total_bytes=10))
    ready(scheduler, "busy", size=6)
    scheduler.submit(asked("b1", "busy"), 1.0)
    scheduler.submit(asked("a1", "new"), 1.0)

    assert scheduler.runner_measured("new", Need(system_bytes=7), 1.0) == []
    assert scheduler.ended("busy", "b1", 2.0) == [StopRunner("busy")]


def test_a_model_that_can_never_fit_fails_with_numbers_and_evicts_nobody() -> None:
    scheduler = new_scheduler(Capacity(total_bytes=3.9 * GIB))
    ready(scheduler, "old", size=GIB)
    scheduler.submit(asked("a1", "huge"), 1.0)
    actions = scheduler.runner_measured("huge", Need(system_bytes=int(5.6 * GIB)), 1.0)

    [failed] = failures(actions)
    assert failed.code is FailureCode.NO_ROOM
    assert failed.message == (
        "model requires more system memory (5.6 GiB) than is available (3.9 GiB)"
    )
    assert [a for a in actions if isinstance(a, StopRunner)] == [StopRunner("huge")]


def test_the_smaller_model_behind_one_that_waits_does_not_overtake() -> None:
    scheduler = new_scheduler(Capacity(total_bytes=10), max_loaded=3)
    ready(scheduler, "busy", size=6)
    scheduler.submit(asked("b1", "busy"), 1.0)
    scheduler.submit(asked("a1", "large"), 1.0)
    scheduler.submit(asked("c1", "small"), 1.0)
    scheduler.runner_measured("large", Need(system_bytes=7), 1.0)

    assert scheduler.runner_measured("small", Need(system_bytes=1), 1.0) == []


def test_memory_that_comes_free_by_itself_is_found_by_looking_again() -> None:
    machine = Machine(Capacity(total_bytes=100, free_bytes=5))
    scheduler = Scheduler(
        parallel=2, max_loaded=3, max_queue=10, keep_alive_s=300.0, capacity=machine
    )
    ready(scheduler, "busy", size=5)
    scheduler.submit(asked("b1", "busy"), 1.0)
    scheduler.submit(asked("a1", "new"), 1.0)
    assert scheduler.runner_measured("new", Need(system_bytes=8), 1.0) == []
    machine.capacity = Capacity(total_bytes=100, free_bytes=50)

    assert scheduler.next_expiry() == 6.0
    assert scheduler.tick(6.0) == [AllowLoad("new")]


def test_a_load_that_nobody_waits_for_is_given_up_before_it_takes_memory() -> None:
    scheduler = new_scheduler()
    scheduler.submit(asked("a1"), 0.0)
    scheduler.cancel("a1", 1.0)

    assert scheduler.runner_measured("w1", Need(system_bytes=1), 2.0) == [StopRunner("w1")]


def test_who_comes_while_a_load_is_given_up_gets_a_new_one() -> None:
    scheduler = new_scheduler()
    scheduler.submit(asked("a1"), 0.0)
    scheduler.cancel("a1", 1.0)
    scheduler.runner_measured("w1", Need(system_bytes=1), 2.0)
    scheduler.submit(asked("a2"), 3.0)

    assert kinds(scheduler.runner_failed("w1", "it left", 4.0)) == [StartRunner]


def test_a_model_larger_than_its_estimate_pushes_idle_ones_out() -> None:
    scheduler = new_scheduler(Capacity(total_bytes=10))
    ready(scheduler, "idle", size=4)
    scheduler.submit(asked("a1", "new"), 1.0)
    scheduler.runner_measured("new", Need(system_bytes=5), 1.0)
    actions = scheduler.runner_ready("new", 2.0, Need(system_bytes=9))

    assert kinds(actions) == [Dispatch, StopRunner]
    assert scheduler.room_bytes() == -3


# ---------------------------------------------------------------- pins


def test_a_pinned_model_does_not_expire() -> None:
    scheduler = new_scheduler()
    ready(scheduler, is_pinned=True, keep_alive_s=0.0)

    assert scheduler.next_expiry() is None
    assert scheduler.tick(1e9) == []


def test_a_pinned_model_is_not_evicted() -> None:
    scheduler = new_scheduler(max_loaded=2)
    ready(scheduler, "pinned", is_pinned=True)
    ready(scheduler, "idle")

    assert scheduler.submit(asked("a1", "new"), 1.0) == [StopRunner("idle")]


def test_where_every_place_is_pinned_a_newcomer_is_told_so() -> None:
    scheduler = new_scheduler(max_loaded=1)
    ready(scheduler, "pinned", is_pinned=True)
    [failed] = failures(scheduler.submit(asked("a1", "new"), 1.0))

    assert failed.message == "all 1 models that may be in memory at once are pinned there"


def test_a_pinned_model_stays_when_it_is_asked_to_be_unloaded() -> None:
    scheduler = new_scheduler()
    ready(scheduler, is_pinned=True)
    model = ModelRef(name="m", digest="d", weights="w1", is_pinned=True)

    assert kinds(scheduler.unload(Unload(request_id="u", model=model), 1.0)) == [End]


def test_a_model_whose_pin_was_taken_away_can_be_unloaded() -> None:
    scheduler = new_scheduler()
    ready(scheduler, is_pinned=True)
    model = ModelRef(name="m", digest="d", weights="w1")

    assert kinds(scheduler.unload(Unload(request_id="u", model=model), 1.0)) == [End, StopRunner]

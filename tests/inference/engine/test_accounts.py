"""What requests use, told by the node whatever ends them."""

from pathlib import Path
from typing import Any

from inference.engine.accounts import Accounts
from inference.engine.meters import Meters
from inference.engine.runner import _shared
from inference.engine.runner_messages import Charge
from inference.messages import (
    DoneReason,
    Event,
    Failed,
    FailureCode,
    Finished,
    Load,
    ModelRef,
    Priority,
    RunnerOptions,
    RunningEntry,
    Started,
    Token,
    Usage,
)
from inference.node_journal import NodeJournal, find_usages

STARTED = Started(request_id="a", prompt_tokens=10, cached_tokens=4)
CANCELLED = Failed(request_id="a", code=FailureCode.CANCELLED, message="")


class Clock:
    """Nanoseconds that pass when the test says so."""

    now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


def load(request_id: str) -> Load:
    model = ModelRef(name="tiny:latest", digest="d" * 64, weights="a" * 64)
    return Load(request_id=request_id, model=model, runner=RunnerOptions(num_ctx=256))


def finished(**usage: Any) -> Finished:
    return Finished(request_id="a", reason=DoneReason.STOP, usage=Usage(**usage))


def usage_of(event: Event) -> Usage:
    assert isinstance(event, Finished | Failed)
    return event.usage


def test_request_that_fails_has_used_what_runners_have_told() -> None:
    clock = Clock()
    accounts = Accounts(None, clock, Meters())
    accounts.open(load("a"))
    accounts.dispatched("a", load_ns=50, queue_ns=20, position=2)
    started = accounts.complete(STARTED)
    clock.now_ns += 100
    accounts.charge([Charge("a", 6, 1, 300), Charge("somebody else's", 9, 9, 9)])
    clock.now_ns += 30
    accounts.charge([Charge("a", 0, 2, 70)])

    assert isinstance(started, Started)
    assert (started.queue_ns, started.queue_position) == (20, 2)
    assert usage_of(accounts.complete(CANCELLED)) == Usage(
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=3,
        prompt_eval_ns=100,
        eval_ns=30,
        load_ns=50,
        queue_ns=20,
        compute_ns=370,
    )


def test_step_that_brings_beginning_and_tokens_took_no_time_before_it() -> None:
    """Its tokens are told first: time that ran backwards would be a figure below nothing."""
    clock = Clock()
    accounts = Accounts(None, clock, Meters())
    accounts.open(load("a"))
    accounts.charge([Charge("a", 10, 1)])
    clock.now_ns += 5_000
    accounts.complete(STARTED)
    clock.now_ns += 100

    usage = usage_of(accounts.complete(CANCELLED))

    assert (usage.prompt_eval_ns, usage.eval_ns) == (0, 5_100)


def test_request_that_finishes_keeps_its_own_figures() -> None:
    accounts = Accounts(None, Clock(), Meters())
    accounts.open(load("a"))
    accounts.charge([Charge("a", 6, 1, 300)])
    end = accounts.complete(finished(prompt_tokens=10, completion_tokens=1, eval_ns=7))

    assert usage_of(end) == Usage(prompt_tokens=10, completion_tokens=1, eval_ns=7, compute_ns=300)


def test_load_knows_its_own_time() -> None:
    accounts = Accounts(None, Clock(), Meters())
    accounts.open(load("a"))

    assert usage_of(accounts.complete(finished(load_ns=9))).load_ns == 9


def test_request_that_never_ran_has_used_nothing() -> None:
    accounts = Accounts(None, Clock(), Meters())
    accounts.open(load("a"))

    assert usage_of(accounts.complete(CANCELLED)) == Usage()


def test_embedding_that_is_left_has_used_the_inputs_that_were_computed() -> None:
    accounts = Accounts(None, Clock(), Meters())
    accounts.open(load("a"))
    accounts.charge([Charge("a", 6, 0), Charge("a", 5, 0)])

    assert usage_of(accounts.complete(CANCELLED)).prompt_tokens == 11


def test_sums_count_every_end_once(tmp_path: Path) -> None:
    journal = NodeJournal(tmp_path)
    accounts = Accounts(journal, Clock(), Meters())
    for request_id in ("a", "b"):
        accounts.open(load(request_id))
    accounts.charge([Charge("a", 6, 1, 300)])
    accounts.complete(CANCELLED)
    accounts.complete(CANCELLED)  # of nobody's request any more
    accounts.complete(Token(request_id="b", text="not counted"))
    accounts.complete(
        Finished(
            request_id="b",
            reason=DoneReason.STOP,
            usage=Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=1),
        )
    )
    journal.close()

    sums = accounts.counters("question")
    assert (sums.request_id, sums.ended, sums.failed) == ("question", 2, 1)
    assert (sums.prompt_tokens, sums.completion_tokens, sums.cached_tokens) == (11, 3, 1)
    assert sums.compute_ns == 300
    assert {
        key: usage.prompt_tokens for key, usage in find_usages(tmp_path, ["a", "b"]).items()
    } == {
        "a": 6,
        "b": 5,
    }


def test_time_of_a_step_is_shared_out_whole() -> None:
    charges = [Charge("a", 100, 0), Charge("b", 0, 1), Charge("c", 0, 2)]

    shares = [charge.compute_ns for charge in _shared(charges, 1_000_003)]
    assert sum(shares) == 1_000_003
    assert shares[0] > shares[2] > shares[1] > 0
    assert _shared([Charge("a", 0, 0)], 5)[0].compute_ns == 0


def running(request_id: str = "a") -> RunningEntry:
    return RunningEntry(
        request_id=request_id, model="m", digest="d", user="u", priority=Priority.API, age_s=1.0
    )


def test_running_request_is_told_with_its_tokens_and_its_speed() -> None:
    clock = Clock()
    accounts = Accounts(None, clock, Meters())
    accounts.open(load("a"))
    assert accounts.told(running()).tokens_per_s == 0.0
    accounts.complete(STARTED)
    accounts.charge([Charge("a", 6, 1, 300)])
    assert accounts.told(running()).tokens_per_s == 0.0
    for _ in range(4):
        clock.now_ns += 50_000_000
        accounts.charge([Charge("a", 0, 1, 70)])
    told = accounts.told(running())

    assert (told.prompt_tokens, told.completion_tokens, told.tokens_per_s) == (10, 5, 20.0)


def test_request_that_the_node_does_not_know_is_told_as_it_is() -> None:
    assert Accounts(None, Clock(), Meters()).told(running("other")) == running("other")

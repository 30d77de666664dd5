"""What a node counts of its models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.accounts import Accounts
from inference.engine.meters import Durations, Meters
from inference.engine.runner_messages import Charge
from inference.messages import (
    DoneReason,
    Failed,
    FailureCode,
    Finished,
    Load,
    ModelRef,
    NodeMetrics,
    Priority,
    QueueEntry,
    QueueState,
    RunnerOptions,
    Usage,
)
from inference.metric_messages import STEP_BOUNDS_S, WAIT_BOUNDS_S, Spread
from inference.model_labels import MOST_LABELS, OTHER, ModelLabels

MS = 1_000_000


class Clock:
    """Nanoseconds that pass when the test says so."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def request(request_id: str, model: str = "tiny:latest") -> Load:
    ref = ModelRef(name=model, digest="d" * 64, weights="a" * 64)
    return Load(request_id=request_id, model=ref, runner=RunnerOptions(num_ctx=256))


def told(meters: Meters, *waiting: QueueEntry) -> NodeMetrics:
    queue = QueueState(request_id="q", entries=waiting, running=0, slots=4)
    return meters.told(queue, node="local", up_s=1.0)


def one_of(bounds: tuple[float, ...], *seconds: float) -> Spread:
    durations = Durations(bounds)
    for each in seconds:
        durations.add(each)
    return durations.told()


@given(st.lists(st.integers(0, 10**12) | st.sampled_from([10**7, 10**9])))
def test_every_duration_is_in_one_interval_and_not_above_its_bound(lengths: list[int]) -> None:
    durations = Durations(WAIT_BOUNDS_S)
    for length_ns in lengths:
        durations.add_ns(length_ns)
    spread = durations.told()

    assert sum(spread.counts) == len(lengths)
    for number, bound in enumerate(WAIT_BOUNDS_S, 1):
        assert sum(spread.counts[:number]) == sum(each <= bound * 1e9 for each in lengths)
    assert spread.sum_s == pytest.approx(sum(lengths) / 1e9)


def test_first_token_counts_from_the_arrival_and_the_others_from_the_one_before() -> None:
    clock, meters = Clock(), Meters()
    accounts = Accounts(None, clock, meters)
    accounts.open(request("a"))
    clock.now_ns += 30 * MS
    accounts.dispatched("a", load_ns=0, queue_ns=20 * MS, position=1)
    accounts.charge([Charge("a", 6, 0, 5 * MS)])  # a part of the prompt
    clock.now_ns += 50 * MS
    accounts.charge([Charge("a", 2, 1, 7 * MS)])
    clock.now_ns += 8 * MS
    accounts.charge([Charge("a", 0, 2, 3 * MS)])
    usage = Usage(prompt_tokens=10, cached_tokens=2, completion_tokens=3)
    accounts.complete(Finished(request_id="a", reason=DoneReason.STOP, usage=usage))

    [model] = told(meters).models
    assert (model.model, model.done, model.failures) == ("tiny:latest", 1, {})
    assert (model.prompt_tokens, model.cached_tokens, model.completion_tokens) == (10, 2, 3)
    assert (model.computed_prompt_tokens, model.computed_completion_tokens) == (8, 3)
    assert model.first_token == one_of(WAIT_BOUNDS_S, 0.08)
    assert model.between_tokens == one_of(STEP_BOUNDS_S, 0.008)
    assert model.queue == one_of(WAIT_BOUNDS_S, 0.02)
    assert model.step == one_of(STEP_BOUNDS_S, 0.005, 0.007, 0.003)


def test_failures_are_counted_by_their_code() -> None:
    meters = Meters()
    accounts = Accounts(None, Clock(), meters)
    for number, code in enumerate([FailureCode.CANCELLED, *[FailureCode.QUEUE_FULL] * 2]):
        accounts.open(request(str(number)))
        accounts.complete(Failed(request_id=str(number), code=code, message=""))

    assert told(meters).models[0].failures == {"cancelled": 1, "queue_full": 2}


def test_models_leave_memory_for_known_reasons() -> None:
    meter = Meters().of("tiny:latest")
    for reason in ("it was idle", "memory is needed", "models take 3 GB more", "3 GB are lacking"):
        meter.stopped(reason)

    assert meter.told("tiny:latest").stops == {"idle": 1, "memory": 2, "other": 1}


def test_queue_is_told_by_class() -> None:
    entry = QueueEntry(
        request_id="a",
        model="m",
        digest="d",
        user="u",
        priority=Priority.BATCH,
        position=1,
        reason="",
        waited_s=3.0,
    )
    classes = {each.priority: each for each in told(Meters(), entry).classes}

    assert (classes[Priority.BATCH].waiting, classes[Priority.BATCH].oldest_s) == (1, 3.0)
    assert (classes[Priority.API].waiting, classes[Priority.API].oldest_s) == (0, 0.0)


def test_models_beyond_the_bound_and_those_of_somebody_share_a_word() -> None:
    labels = ModelLabels()
    named = {labels.label(f"model-{number}:latest") for number in range(1000)}

    assert len(named) == MOST_LABELS + 1
    assert OTHER in named
    assert labels.label("model-0:latest") == "model-0:latest"
    assert ModelLabels().label("alice/secret:latest") == OTHER
    assert ModelLabels().label("hf.co/alice/x:latest") == OTHER


def test_thousands_of_models_make_no_more_meters_than_there_are_words() -> None:
    meters = Meters()
    for number in range(5000):
        meters.of(f"model-{number}:latest").crashes += 1

    models = told(meters).models
    assert len(models) == MOST_LABELS + 1
    assert sum(model.crashes for model in models) == 5000

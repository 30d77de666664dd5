"""Models that engines elsewhere serve are scheduled beside those of this machine."""

from msgspec import structs

from inference.engine.actions import Action, Dispatch, PauseOnRunner, StartRunner, StopRunner
from inference.engine.runner_messages import Charge
from inference.engine.scheduler import Scheduler
from inference.engine.telling import loaded_models
from inference.messages import (
    Generate,
    ModelRef,
    RawPrompt,
    RunnerOptions,
    Sampling,
    Unload,
    UpstreamRef,
)


def _request(
    number: int, *, model: str = "m", user: str = "alice", concurrency: int = 2
) -> Generate:
    upstream = UpstreamRef(
        name="gpu", url="http://gpu/v1", kind="vllm", model=model, concurrency=concurrency
    )
    return Generate(
        request_id=f"u{number}",
        model=ModelRef(name=model, digest=model * 64, weights="", upstream=upstream),
        runner=RunnerOptions(num_ctx=4096),
        prompt=RawPrompt(text="hi"),
        sampling=Sampling(),
        user=user,
    )


def _local(number: int) -> Generate:
    return Generate(
        request_id=f"l{number}",
        model=ModelRef(name=f"local{number}", digest="e" * 64, weights=f"{number}" * 64),
        runner=RunnerOptions(num_ctx=4096),
        prompt=RawPrompt(text="hi"),
        sampling=Sampling(),
        user="bob",
    )


def _scheduler(max_loaded: int = 1) -> Scheduler:
    return Scheduler(parallel=1, max_loaded=max_loaded, max_queue=64, keep_alive_s=60.0)


def _started(actions: list[Action]) -> StartRunner:
    [start] = [action for action in actions if isinstance(action, StartRunner)]
    return start


def test_an_upstream_takes_no_place_of_a_model_in_memory() -> None:
    scheduler = _scheduler()
    [first] = scheduler.submit(_local(1), 0.0)
    [second] = scheduler.submit(_request(1), 0.0)
    assert isinstance(first, StartRunner)
    assert isinstance(second, StartRunner)
    # And a model that needs a place does not get the upstream's.
    scheduler.runner_ready(second.key, 1.0)
    scheduler.ended(second.key, "u1", 1.5)
    scheduler.runner_ready(first.key, 2.0)
    scheduler.ended(first.key, "l1", 3.0)
    stopped = [a for a in scheduler.submit(_local(2), 4.0) if isinstance(a, StopRunner)]
    assert [action.key for action in stopped] == [first.key]


def test_requests_of_one_upstream_are_as_many_as_it_takes_at_a_time() -> None:
    scheduler = _scheduler()
    [start] = scheduler.submit(_request(1), 0.0)
    scheduler.submit(_request(2), 0.0)
    scheduler.submit(_request(3), 0.0)
    assert isinstance(start, StartRunner)
    sent = [a for a in scheduler.runner_ready(start.key, 1.0) if isinstance(a, Dispatch)]
    assert [action.request.request_id for action in sent] == ["u1", "u2"]
    # The administrator allows more: it holds from the next request on.
    more = scheduler.submit(_request(4, concurrency=3), 2.0)
    assert [a.request.request_id for a in more if isinstance(a, Dispatch)] == ["u3"]
    assert scheduler.queue_state("q", 2.0).slots == 3


def test_nobody_is_paused_for_another_at_an_upstream() -> None:
    scheduler = _scheduler()
    [start] = scheduler.submit(_request(1, concurrency=1), 0.0)
    assert isinstance(start, StartRunner)
    scheduler.runner_ready(start.key, 0.0)
    charges = (Charge(request_id="u1", prompt_tokens=0, completion_tokens=100_000),)
    scheduler.charged(start.key, charges, 1.0)
    waiting = scheduler.submit(_request(2, user="bob", concurrency=1), 2.0)
    later = scheduler.charged(start.key, charges, 3.0)
    assert not [a for a in (*waiting, *later) if isinstance(a, PauseOnRunner)]
    assert [a for a in scheduler.ended(start.key, "u1", 4.0) if isinstance(a, Dispatch)]


def test_the_models_of_an_engine_share_its_places_fairly() -> None:
    scheduler = _scheduler()
    actions = [
        action
        for number, model, user in (
            (1, "a", "hog"),
            (2, "b", "hog"),
            (3, "a", "hog"),
            (4, "b", "ann"),
        )
        for action in scheduler.submit(_request(number, model=model, user=user), 0.0)
    ]
    [start] = [a for a in actions if isinstance(a, StartRunner)]
    sent = [a for a in scheduler.runner_ready(start.key, 1.0) if isinstance(a, Dispatch)]
    # Who has none of the two places goes before who has one, whatever the model.
    assert {(a.request.user, a.request.model.name) for a in sent} == {("hog", "a"), ("ann", "b")}
    assert scheduler.queue_state("q", 1.0).slots == 2
    more = scheduler.ended(start.key, "u4", 2.0)
    assert [a.request.request_id for a in more if isinstance(a, Dispatch)] == ["u2"]
    assert not [a for a in more if isinstance(a, StopRunner)]


def test_models_of_an_engine_with_other_windows_do_without_another_runner() -> None:
    scheduler = _scheduler()
    start = _started(scheduler.submit(_request(1, model="a"), 0.0))
    larger = structs.replace(_request(2, model="b"), runner=RunnerOptions(num_ctx=100_000))
    scheduler.submit(larger, 0.0)
    sent = scheduler.runner_ready(start.key, 1.0)
    assert [type(action) for action in sent] == [Dispatch, Dispatch]
    windows = {m.name: m.context_length for m in loaded_models(scheduler, {}, 1.0)}
    assert windows == {"a": 4096, "b": 100_000}


def test_a_model_of_an_engine_is_let_go_alone() -> None:
    scheduler = _scheduler()
    both = _request(1, model="a"), _request(2, model="b")
    start = _started([action for r in both for action in scheduler.submit(r, 0.0)])
    scheduler.runner_ready(start.key, 1.0)
    scheduler.ended(start.key, "u1", 2.0)
    assert {m.name: m.is_busy for m in loaded_models(scheduler, {}, 2.0)} == {"a": False, "b": True}
    scheduler.ended(start.key, "u2", 2.0)

    def unload(request: Generate) -> list[StopRunner]:
        asked = Unload(request_id="x", model=request.model)
        return [a for a in scheduler.unload(asked, 3.0) if isinstance(a, StopRunner)]

    assert not unload(both[0])
    assert [m.name for m in loaded_models(scheduler, {}, 3.0)] == ["b"]
    assert [action.key for action in unload(both[1])] == [start.key]


def test_a_request_for_more_answers_than_an_engine_takes_by_now_is_served_nevertheless() -> None:
    scheduler = _scheduler()
    start = _started(scheduler.submit(_request(1, concurrency=4), 0.0))
    scheduler.runner_ready(start.key, 1.0)
    scheduler.submit(structs.replace(_request(2, concurrency=4), choices=4), 2.0)
    scheduler.submit(_request(3, concurrency=1), 3.0)
    first = scheduler.ended(start.key, "u1", 4.0)
    second = scheduler.ended(start.key, "u2", 5.0)
    sent = [a.request.request_id for a in (*first, *second) if isinstance(a, Dispatch)]
    assert sent == ["u2", "u3"]


def test_an_engines_key_is_shown_nowhere() -> None:
    ref = UpstreamRef(name="gpu", url="http://gpu/v1", kind="vllm", model="m", key="sk-secret")
    assert "sk-secret" not in repr(ModelRef(name="m", digest="", weights="", upstream=ref))

"""Models that engines elsewhere serve are scheduled beside those of this machine."""

from inference.engine.actions import Dispatch, PauseOnRunner, StartRunner, StopRunner
from inference.engine.runner_messages import Charge
from inference.engine.scheduler import Scheduler
from inference.messages import Generate, ModelRef, RawPrompt, RunnerOptions, Sampling, UpstreamRef


def _request(
    number: int, *, model: str = "m", user: str = "alice", concurrency: int = 2
) -> Generate:
    upstream = UpstreamRef(
        name="gpu", url="http://gpu/v1", kind="vllm", model=model, concurrency=concurrency
    )
    return Generate(
        request_id=f"u{number}",
        model=ModelRef(name=model, digest="d" * 64, weights="", upstream=upstream),
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


def test_each_model_of_an_upstream_has_a_line_of_its_own_and_its_key_is_shown_nowhere() -> None:
    scheduler = _scheduler()
    starts = [a for n in "ab" for a in scheduler.submit(_request(ord(n), model=n), 0.0)]
    assert len({a.key for a in starts if isinstance(a, StartRunner)}) == 2
    ref = UpstreamRef(name="gpu", url="http://gpu/v1", kind="vllm", model="m", key="sk-secret")
    assert "sk-secret" not in repr(ModelRef(name="m", digest="", weights="", upstream=ref))

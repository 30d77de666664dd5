"""The batch loop over a model without llama.cpp."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.batch import PREFILL_CHUNK_TOKENS, BatchLoop
from inference.messages import (
    ChatMessage,
    DoneReason,
    Event,
    Failed,
    FailureCode,
    Finished,
    Started,
    Token,
)
from tests.inference.engine.fake_model import FakeModel, generate


def _run(loop: BatchLoop) -> list[Event]:
    events: list[Event] = []
    while not loop.is_idle:
        events += loop.step()
    return events


def _text(events: list[Event], request_id: str = "r1") -> str:
    return "".join(e.text for e in events if isinstance(e, Token) and e.request_id == request_id)


def _end(events: list[Event], request_id: str = "r1") -> Finished | Failed:
    ends = [e for e in events if isinstance(e, Finished | Failed) and e.request_id == request_id]
    assert len(ends) == 1
    return ends[0]


def test_a_request_starts_streams_and_finishes_with_its_counters() -> None:
    loop = BatchLoop(FakeModel(), parallel=2)
    loop.add(generate(text="hello"))
    events = _run(loop)
    assert events[0] == Started(request_id="r1", prompt_tokens=5)
    assert _text(events) == "HELLO"
    end = _end(events)
    assert isinstance(end, Finished)
    assert end.reason is DoneReason.STOP
    assert end.usage.prompt_tokens == 5
    assert end.usage.completion_tokens == 6  # the end token counts
    assert bytes(end.context) == b"hellohello"


def test_num_predict_ends_with_length() -> None:
    loop = BatchLoop(FakeModel(), parallel=1)
    loop.add(generate(num_predict=3))
    events = _run(loop)
    end = _end(events)
    assert _text(events) == "HEL"
    assert isinstance(end, Finished)
    assert end.reason is DoneReason.LENGTH
    assert end.usage.completion_tokens == 3


def test_a_full_window_ends_with_length() -> None:
    loop = BatchLoop(FakeModel(window_tokens=8), parallel=1)
    loop.add(generate(text="hello", num_ctx=8))
    end = _end(_run(loop))
    assert isinstance(end, Finished)
    assert end.reason is DoneReason.LENGTH


def test_a_stop_string_ends_the_answer_before_it() -> None:
    loop = BatchLoop(FakeModel(), parallel=1)
    loop.add(generate(text="hello", stop=("LO",)))
    events = _run(loop)
    assert _text(events) == "HEL"
    assert isinstance(_end(events), Finished)


def test_requests_beyond_the_slots_wait_and_are_served() -> None:
    loop = BatchLoop(FakeModel(), parallel=2)
    for number in range(5):
        loop.add(generate(f"r{number}", text=f"text {number}"))
    events = _run(loop)
    assert [_text(events, f"r{n}") for n in range(5)] == [f"TEXT {n}" for n in range(5)]


def test_a_long_prompt_does_not_stop_another_answer() -> None:
    model = FakeModel(window_tokens=2000, batch_tokens=512)
    loop = BatchLoop(model, parallel=2)
    loop.add(generate("short", text="x" * 60, num_ctx=2000))
    loop.step()
    loop.add(generate("long", text="y" * 900, num_ctx=2000))
    steps = 0
    while any(isinstance(e, Token) and e.request_id == "short" for e in loop.step()):
        steps += 1
    together = [batch for batch in model.batches if len(batch) == 2]
    assert steps > 900 // PREFILL_CHUNK_TOKENS
    assert all(len(c.tokens) <= PREFILL_CHUNK_TOKENS for batch in together for c in batch)


def test_cancelling_a_running_request_frees_its_slot_at_once() -> None:
    model = FakeModel()
    loop = BatchLoop(model, parallel=1)
    loop.add(generate("r1"))
    loop.step()
    loop.add(generate("r2", text="bye"))
    loop.cancel("r1")
    events = _run(loop)
    end = _end(events, "r1")
    assert isinstance(end, Failed)
    assert end.code is FailureCode.CANCELLED
    assert _text(events, "r2") == "BYE"
    assert model.samplers[0].closed == 1


def test_cancelling_a_waiting_request_ends_it_once() -> None:
    loop = BatchLoop(FakeModel(), parallel=1)
    loop.add(generate("r1"))
    loop.add(generate("r2"))
    loop.step()
    loop.cancel("r2")
    loop.cancel("r2")
    end = _end(_run(loop), "r2")
    assert isinstance(end, Failed)


def test_cancelling_what_is_not_there_does_nothing() -> None:
    loop = BatchLoop(FakeModel(), parallel=1)
    loop.cancel("nobody")
    assert loop.is_idle


def test_a_failed_step_ends_its_requests_and_the_loop_goes_on() -> None:
    model = FakeModel()
    loop = BatchLoop(model, parallel=2)
    loop.add(generate("r1"))
    model.fail_next = True
    first = loop.step()
    loop.add(generate("r2"))
    end = _end(first, "r1")
    assert isinstance(end, Failed)
    assert end.code is FailureCode.INTERNAL
    assert isinstance(_end(_run(loop), "r2"), Finished)


def test_a_prompt_that_is_too_long_and_may_not_be_cut_is_refused() -> None:
    loop = BatchLoop(FakeModel(window_tokens=16), parallel=1)
    loop.add(generate(text="x" * 40, num_ctx=16, truncate=False))
    end = _end(_run(loop))
    assert isinstance(end, Failed)
    assert end.code is FailureCode.PROMPT_TOO_LONG


def test_an_empty_prompt_is_refused() -> None:
    loop = BatchLoop(FakeModel(), parallel=1)
    loop.add(generate(text=""))
    end = _end(_run(loop))
    assert isinstance(end, Failed)
    assert end.code is FailureCode.BAD_REQUEST


def test_old_messages_are_dropped_and_system_messages_stay() -> None:
    model = FakeModel(window_tokens=64)
    loop = BatchLoop(model, parallel=1)
    messages = [
        ChatMessage(role="system", content="be brief"),
        ChatMessage(role="user", content="a" * 50),
        ChatMessage(role="assistant", content="b" * 50),
        ChatMessage(role="user", content="last"),
    ]
    loop.add(generate(messages=messages, num_ctx=64, num_predict=1))
    _run(loop)
    seen = b"".join(bytes(chunk.tokens) for batch in model.batches for chunk in batch)
    assert b"system:be brief;user:last;" in seen


def test_a_template_that_does_not_parse_fails_its_request_only() -> None:
    loop = BatchLoop(FakeModel(), parallel=1)
    good = generate("good", text="fine")
    bad = generate("bad", messages=[ChatMessage(role="user", content="x")])
    broken = type(bad.prompt)(messages=bad.prompt.messages, template="{{ if }")  # type: ignore[union-attr, call-arg]
    loop.add(type(bad)(**{f: getattr(bad, f) for f in bad.__struct_fields__} | {"prompt": broken}))
    loop.add(good)
    events = _run(loop)
    end = _end(events, "bad")
    assert isinstance(end, Failed)
    assert end.code is FailureCode.TEMPLATE_FAILED
    assert _text(events, "good") == "FINE"


@pytest.mark.parametrize("parallel", [1, 4])
@settings(deadline=None, max_examples=60)
@given(
    plan=st.lists(
        st.tuples(st.sampled_from(["add", "step", "cancel", "break"]), st.integers(0, 9)),
        max_size=60,
    )
)
def test_every_request_ends_exactly_once_whatever_happens(
    parallel: int, plan: list[tuple[str, int]]
) -> None:
    model = FakeModel()
    loop = BatchLoop(model, parallel=parallel)
    added: set[str] = set()
    events: list[Event] = []
    for act, number in plan:
        request_id = f"r{number}"
        if act == "add" and request_id not in added:
            added.add(request_id)
            loop.add(generate(request_id, text="abc" * number))
        elif act == "step":
            events += loop.step()
        elif act == "cancel":
            loop.cancel(request_id)
        elif act == "break":
            model.fail_next = True
    model.fail_next = False
    events += _run(loop)
    ends = Counter(e.request_id for e in events if isinstance(e, Finished | Failed))
    assert ends == dict.fromkeys(added, 1)
    assert not model.cells
    assert all(sampler.closed == 1 for sampler in model.samplers)

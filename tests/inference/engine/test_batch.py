"""The batch loop over a model without llama.cpp: answers, their ends, failures, pauses."""

import time
from collections.abc import Sequence

import pytest
from msgspec import structs

from inference.engine.model import Chunk
from inference.engine.pace import FEWEST_TOKENS, TARGET_STEP_S
from inference.messages import DoneReason, FailureCode, Started, Token, TokensPrompt
from tests.inference.engine.fake_model import FakeConstraint, FakeModel
from tests.inference.engine.loop_bench import LoopBench, asked

LONG = "abcdefghij" * 20


def test_a_request_starts_streams_and_finishes_with_its_counters() -> None:
    bench = LoopBench(parallel=2)
    bench.add("r1", "hello")
    events = bench.run()
    assert events[0] == Started(request_id="r1", prompt_tokens=5)
    assert bench.text("r1") == "HELLO"
    end = bench.finished("r1")
    assert end.reason is DoneReason.STOP
    assert end.usage.prompt_tokens == 5
    assert end.usage.completion_tokens == 6  # the end token counts


def test_the_context_is_the_prompts_tokens_and_the_answers() -> None:
    bench = LoopBench()
    bench.ask("r1", "hello")
    said = [256 + token for token in b"hello"]
    assert bench.finished("r1").context == (*b"hello", *said)


def test_who_does_not_want_the_context_gets_none() -> None:
    bench = LoopBench()
    bench.ask("r1", wants_context=False)
    assert bench.finished("r1").context == ()


def test_num_predict_ends_with_length() -> None:
    bench = LoopBench()
    assert bench.ask("r1", num_predict=3) == "HEL"
    assert bench.finished("r1").reason is DoneReason.LENGTH
    assert bench.finished("r1").usage.completion_tokens == 3


def test_a_stop_string_ends_the_answer_before_it() -> None:
    bench = LoopBench()
    assert bench.ask("r1", stop=("LO",)) == "HEL"
    assert bench.finished("r1").reason is DoneReason.STOP


def test_text_that_only_began_like_a_stop_string_is_said_in_the_end() -> None:
    assert LoopBench().ask("r1", stop=("LOX",)) == "HELLO"


def test_a_step_without_new_text_sends_no_token() -> None:
    bench = LoopBench()
    bench.ask("r1", stop=("LOX",))
    assert [e.text for e in bench.events if isinstance(e, Token)] == ["H", "E", "L", "LO"]


def test_requests_beyond_the_slots_wait_and_are_served() -> None:
    bench = LoopBench(parallel=2)
    for number in range(5):
        bench.add(f"r{number}", f"text {number}")
    bench.run()
    assert [bench.text(f"r{n}") for n in range(5)] == [f"TEXT {n}" for n in range(5)]


def test_the_sampler_sees_the_prompt() -> None:
    bench = LoopBench()
    bench.ask("r1", "hello")
    assert bytes(bench.model.samplers[0].seen) == b"hello"


def test_options_that_the_model_refuses_fail_their_request_only() -> None:
    bench = LoopBench()
    bench.add("bad", logit_bias=((9999, 1.0),))
    assert bench.ask("good", "fine") == "FINE"
    assert bench.failed("bad").code is FailureCode.BAD_REQUEST


# ---------------------------------------------------------------- long prompts beside answers


class SlowModel(FakeModel):
    """Takes 2 ms for a token."""

    def decode(self, chunks: Sequence[Chunk]) -> list[int]:
        time.sleep(0.002 * sum(len(chunk.tokens) for chunk in chunks))
        return super().decode(chunks)


def test_a_long_prompt_never_stops_another_answer() -> None:
    bench = LoopBench(FakeModel(window_tokens=2000, batch_tokens=64), parallel=2)
    bench.add("short", "x" * 60)
    bench.step()
    bench.add("long", "y" * 900)
    while len(bench.text("short")) < 60:
        (token,) = [e for e in bench.step() if isinstance(e, Token) and e.request_id == "short"]
        assert token.text == "X"
    assert any(len(batch) == 2 for batch in bench.model.batches)
    bench.run()
    assert bench.text("long") == "Y" * 900


def test_the_chunks_of_a_prompt_follow_the_pace_of_the_model() -> None:
    model = SlowModel(window_tokens=2000, batch_tokens=512)
    bench = LoopBench(model, parallel=2)
    bench.add("short", "x" * 60)
    bench.step()
    bench.add("long", "y" * 300, num_predict=1)
    while "long" not in {charge.request_id for charge in bench.charges if charge.completion_tokens}:
        bench.step()
    together = [len(batch[1].tokens) for batch in model.batches if len(batch) == 2]
    assert together
    assert all(tokens <= TARGET_STEP_S / 0.002 for tokens in together)
    assert max(together) > FEWEST_TOKENS


def test_alone_a_prompt_is_computed_in_few_steps() -> None:
    model = FakeModel(window_tokens=2000, batch_tokens=2000)
    bench = LoopBench(model)
    bench.ask("r1", "y" * 1000, num_predict=1)
    assert len(model.batches) <= 4


def test_a_short_prompt_need_not_wait_for_a_long_one_to_be_computed() -> None:
    bench = LoopBench(FakeModel(window_tokens=2000, batch_tokens=64), parallel=2)
    bench.add("long", "y" * 1500, num_predict=1)
    bench.step()
    bench.add("short", "x" * 20, num_predict=1)
    for _ in range(4):
        bench.step()
    assert bench.text("short") == "X"


@pytest.mark.parametrize("steps_before", range(4))
def test_a_short_prompt_is_computed_in_the_next_step_whosever_turn_it_is(steps_before: int) -> None:
    bench = LoopBench(FakeModel(window_tokens=2000, batch_tokens=64), parallel=2)
    bench.add("long", "y" * 1500, num_predict=1)
    for _ in range(1 + steps_before):
        bench.step()
    bench.add("short", "x" * 20, num_predict=1)
    bench.step()
    assert bench.text("short") == "X"
    assert len(bench.model.batches[-1]) == 2


def test_short_prompts_that_never_end_do_not_hold_up_a_long_one_for_ever() -> None:
    bench = LoopBench(FakeModel(window_tokens=2000, batch_tokens=32), parallel=4)
    bench.add("long", "y" * 300, num_predict=1)
    for number in range(400):
        for one in "ab":  # as many short ones as a step can compute, and more
            bench.add(f"{number}{one}", f"{one}{number:03}" + "x" * 28, num_predict=1)
        bench.step()
        if bench.text("long"):
            break
    assert bench.text("long") == "Y"


def test_a_step_never_computes_more_than_the_model_takes() -> None:
    bench = LoopBench(FakeModel(batch_tokens=8), parallel=6)
    for number in range(6):
        bench.add(f"r{number}", f"{number}" * 40)
    bench.run()  # the model refuses larger batches
    assert [bench.text(f"r{n}") for n in range(6)] == [f"{n}" * 40 for n in range(6)]


# ---------------------------------------------------------------- cancel, failures


def test_cancelling_a_running_request_frees_its_slot_at_once() -> None:
    bench = LoopBench()
    bench.add("r1")
    bench.step()
    bench.add("r2", "bye")
    bench.loop.cancel("r1")
    bench.step()
    assert bench.text("r2") == "B"
    assert bench.failed("r1").code is FailureCode.CANCELLED
    assert bench.model.samplers[0].closed == 1


def test_cancelling_a_waiting_request_ends_it_once() -> None:
    bench = LoopBench()
    bench.add("r1")
    bench.add("r2")
    bench.step()
    bench.loop.cancel("r2")
    bench.loop.cancel("r2")
    bench.run()
    assert bench.failed("r2").code is FailureCode.CANCELLED


def test_cancelling_what_is_not_there_does_nothing() -> None:
    bench = LoopBench()
    bench.loop.cancel("nobody")
    assert bench.loop.is_idle


def test_what_a_cancelled_request_has_computed_is_still_good() -> None:
    bench = LoopBench()
    bench.add("r1", LONG[:100])
    for _ in range(20):
        bench.step()
    bench.loop.cancel("r1")
    assert bench.computed_for("r2", LONG[:100], num_predict=1) == 1


def test_a_failed_step_ends_its_requests_and_the_loop_goes_on() -> None:
    bench = LoopBench(parallel=2)
    bench.add("r1")
    bench.add("r2")
    bench.model.fail_next = True
    bench.step()
    assert bench.failed("r1").code is FailureCode.INTERNAL
    assert bench.failed("r2").code is FailureCode.INTERNAL
    assert bench.ask("r3", "again") == "AGAIN"


def test_what_a_failed_step_left_behind_is_not_used_again() -> None:
    bench = LoopBench()
    bench.ask("r1", LONG[:100])
    bench.add("r2", LONG[:100])
    bench.model.fail_next = True
    bench.run()
    assert bench.computed_for("r3", LONG[:100], num_predict=1) == 100


def test_a_failed_step_spares_a_request_that_was_not_in_it() -> None:
    bench = LoopBench(FakeModel(batch_tokens=8), parallel=2)
    bench.add("first", "a" * 20)
    bench.add("second", "b" * 40)
    bench.step()  # takes the shorter prompt
    bench.model.fail_next = True
    bench.run()
    ended = {type(bench.end(request_id)).__name__ for request_id in ("first", "second")}
    assert ended == {"Failed", "Finished"}


# ---------------------------------------------------------------- a full window


def test_a_full_window_ends_with_length_where_it_may_not_shift() -> None:
    bench = LoopBench(FakeModel(window_tokens=8))
    assert bench.ask("r1", "hello", shift=False) == "HELL"
    assert bench.finished("r1").reason is DoneReason.LENGTH


def test_a_full_window_ends_with_length_where_the_model_cannot_shift() -> None:
    model = FakeModel(window_tokens=8)
    model.can_shift = False
    bench = LoopBench(model)
    assert bench.ask("r1", "hello") == "HELL"
    assert bench.finished("r1").reason is DoneReason.LENGTH


def test_a_full_window_drops_half_of_what_is_behind_the_kept_tokens() -> None:
    bench = LoopBench(FakeModel(window_tokens=16))
    bench.ask("r1", "abcdefghij", num_keep=2)
    assert bench.model.shifts == [(0, 2, 7)]
    assert bench.finished("r1").reason is DoneReason.STOP


def test_bos_is_kept_besides_num_keep() -> None:
    model = FakeModel(window_tokens=16)
    model.has_bos = True
    bench = LoopBench(model)
    bench.ask("r1", "abcdefghi", num_keep=2)
    assert model.shifts == [(0, 3, 6)]


def test_keeping_everything_leaves_no_room_and_ends_with_length() -> None:
    bench = LoopBench(FakeModel(window_tokens=8))
    assert bench.ask("r1", "hello", num_keep=-1) == "HELL"
    assert bench.finished("r1").reason is DoneReason.LENGTH


def test_an_endless_answer_ends_after_ten_windows() -> None:
    class Endless(FakeModel):
        def constraint(self, json_schema: str) -> FakeConstraint:
            return FakeConstraint(json_schema, count=10_000)

    bench = LoopBench(Endless(window_tokens=16))
    assert bench.ask("r1", "hello", num_ctx=16, json_schema="x") == "X" * 160
    assert bench.finished("r1").reason is DoneReason.LENGTH
    assert len(bench.model.shifts) > 10


def test_what_lies_behind_a_shift_is_computed_again_for_the_next() -> None:
    bench = LoopBench(FakeModel(window_tokens=80))
    bench.ask("r1", LONG[:50], num_keep=35)
    left = TokensPrompt(tokens=tuple(bench.model.cells[0]))
    bench.add_request(structs.replace(asked("r2", num_predict=1), prompt=left))
    bench.run()
    assert bench.model.shifts
    assert bench.started("r2").cached_tokens == 35


# ---------------------------------------------------------------- pause and resume


@pytest.mark.parametrize("steps", range(9))
def test_a_paused_answer_goes_on_as_if_nothing_had_happened(steps: int) -> None:
    bench = LoopBench(FakeModel(batch_tokens=8))
    text = LONG[:30]
    bench.add("r1", text)
    for _ in range(steps):
        bench.step()
    bench.loop.pause("r1")
    bench.ask("r2", "something else")
    bench.loop.resume("r1")
    bench.run()
    assert bench.text("r1") == text.upper()
    assert bench.charged("r1")[1] == bench.finished("r1").usage.completion_tokens == 31


def test_a_paused_request_leaves_its_slot_to_others() -> None:
    bench = LoopBench()
    bench.add("r1")
    bench.step()
    bench.loop.pause("r1")
    assert bench.ask("r2", "bye") == "BYE"
    assert bench.text("r1") == "H"


def test_a_loop_whose_requests_are_all_paused_is_idle() -> None:
    bench = LoopBench()
    bench.add("r1")
    bench.step()
    bench.loop.pause("r1")
    assert bench.loop.is_idle
    bench.loop.resume("r1")
    assert not bench.loop.is_idle


def test_resuming_computes_nothing_twice_while_the_slot_was_not_needed() -> None:
    bench = LoopBench()
    bench.add("r1", LONG[:50])
    for _ in range(10):
        bench.step()
    bench.loop.pause("r1")
    bench.loop.resume("r1")
    bench.run()
    assert bench.model.computed_tokens == 50 + 50  # the prompt, and the answer without its end


def test_a_request_that_is_paused_before_it_is_added_waits() -> None:
    bench = LoopBench()
    bench.loop.pause("r1")
    bench.add("r1")
    bench.run()
    assert bench.events == []
    bench.loop.resume("r1")
    bench.run()
    assert bench.text("r1") == "HELLO"


def test_a_request_is_started_once_however_often_it_pauses() -> None:
    bench = LoopBench()
    bench.add("r1")
    for _ in range(3):
        bench.step()
        bench.loop.pause("r1")
        bench.loop.resume("r1")
    bench.run()
    assert bench.started("r1").prompt_tokens == 5


def test_a_paused_request_can_be_cancelled() -> None:
    bench = LoopBench()
    bench.add("r1")
    bench.step()
    bench.loop.pause("r1")
    bench.loop.cancel("r1")
    bench.run()
    assert bench.failed("r1").code is FailureCode.CANCELLED
    assert bench.ask("r2", "bye") == "BYE"


def test_pausing_what_has_ended_does_not_hold_a_later_request_of_that_id() -> None:
    bench = LoopBench()
    bench.loop.pause("r1")
    bench.loop.resume("r1")
    assert bench.ask("r1") == "HELLO"

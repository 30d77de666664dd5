"""What a batch loop gives beside text: choices, log probabilities, scores, schemas; and images."""

import numpy as np
import pytest

from inference.engine.model import DecodeError, Logits
from inference.messages import DoneReason, FailureCode, PromptScored, TopToken
from tests.inference.engine.fake_model import FakeConstraint, FakeModel
from tests.inference.engine.loop_bench import LoopBench, with_images

LONG = "abcdefghij" * 20


# ---------------------------------------------------------------- several choices


def test_every_choice_answers_and_ends_once_before_the_request() -> None:
    bench = LoopBench(parallel=3)
    bench.add("r1", "hello", choices=3)
    events = bench.run()
    assert [bench.text("r1", choice) for choice in range(3)] == ["HELLO"] * 3
    assert sorted(e.choice for e in bench.choices_ended("r1")) == [0, 1, 2]
    assert events[-1] is bench.finished("r1")
    assert bench.finished("r1").usage.completion_tokens == 18


def test_choices_compute_their_prompt_once() -> None:
    bench = LoopBench(FakeModel(batch_tokens=256), parallel=4)
    assert bench.computed_for("r1", LONG, choices=4, num_predict=1) == len(LONG) + 3


def test_more_choices_than_slots_are_answered_one_after_the_other() -> None:
    bench = LoopBench(parallel=2)
    bench.ask("r1", "hello", choices=5)
    assert [bench.text("r1", choice) for choice in range(5)] == ["HELLO"] * 5


def test_one_choice_is_not_told_of_on_its_own() -> None:
    bench = LoopBench()
    bench.ask("r1")
    assert bench.choices_ended("r1") == []


def test_a_choice_ends_for_its_own_reason() -> None:
    bench = LoopBench(parallel=2)
    bench.ask("r1", "hello", choices=2, num_predict=2)
    assert {e.reason for e in bench.choices_ended("r1")} == {DoneReason.LENGTH}


def test_cancelling_ends_all_choices_with_one_failure() -> None:
    bench = LoopBench(parallel=2)
    bench.add("r1", "hello", choices=3)
    bench.step()
    bench.loop.cancel("r1")
    bench.run()
    assert bench.failed("r1").code is FailureCode.CANCELLED
    assert [sampler.closed for sampler in bench.model.samplers] == [1, 1, 1]


# ---------------------------------------------------------------- log probabilities


def likeliest_logprob() -> float:
    return 10 - float(np.log(np.exp(10) + 511))


def test_every_token_comes_with_its_log_probability() -> None:
    bench = LoopBench()
    bench.ask("r1", "hey", top_logprobs=0)
    assert [each.token for each in bench.logprobs("r1")] == [b"H", b"E", b"Y"]
    assert bench.logprobs("r1")[0].logprob == pytest.approx(likeliest_logprob(), abs=1e-5)


def test_alternatives_come_best_first() -> None:
    bench = LoopBench()
    bench.ask("r1", "hey", top_logprobs=2)
    best, other = bench.logprobs("r1")[0].top
    assert best == TopToken(token=b"H", logprob=bench.logprobs("r1")[0].logprob)
    assert other.logprob == pytest.approx(likeliest_logprob() - 10, abs=1e-5)


def test_without_being_asked_for_there_are_no_log_probabilities() -> None:
    bench = LoopBench()
    bench.ask("r1")
    assert bench.logprobs("r1") == []


def test_the_log_probability_is_the_models_whatever_a_schema_allows() -> None:
    bench = LoopBench()
    bench.ask("r1", "hey", top_logprobs=1, json_schema="x")
    said = bench.logprobs("r1")[0]
    assert said.token == b"X"
    assert said.logprob == pytest.approx(likeliest_logprob() - 10, abs=1e-5)
    assert said.top[0].token == b"H"


# ---------------------------------------------------------------- prompt scores


def scores(bench: LoopBench) -> list[bytes]:
    (scored,) = [e for e in bench.events if isinstance(e, PromptScored)]
    return [each.token for each in scored.logprobs]


def test_a_prompt_is_scored_before_its_answer() -> None:
    bench = LoopBench()
    bench.add("r1", "hello", scores_prompt=True)
    kinds = [type(event).__name__ for event in bench.run()]
    assert kinds.index("PromptScored") < kinds.index("Token")
    assert scores(bench) == [b"H", b"E", b"L", b"L", b"O"]


def test_the_first_token_of_a_prompt_has_no_probability() -> None:
    bench = LoopBench()
    bench.ask("r1", "hello", scores_prompt=True)
    (scored,) = [e for e in bench.events if isinstance(e, PromptScored)]
    first, *others = scored.logprobs
    assert first.logprob == 0.0
    assert all(each.logprob < -5 for each in others)


def test_a_prompt_of_one_token_is_scored() -> None:
    bench = LoopBench()
    bench.ask("r1", "h", scores_prompt=True)
    assert scores(bench) == [b"H"]


def test_a_prompt_longer_than_a_step_is_scored_whole() -> None:
    bench = LoopBench(FakeModel(batch_tokens=256), parallel=2)
    bench.ask("r1", LONG, scores_prompt=True, choices=2)
    assert b"".join(scores(bench)).decode() == LONG.upper()


def test_a_step_has_no_more_rows_of_logits_than_there_is_room_for() -> None:
    model = FakeModel(batch_tokens=256)
    bench = LoopBench(model, parallel=4)
    for number in range(4):
        bench.add(f"r{number}", LONG, scores_prompt=True, num_predict=1)
    bench.run()
    rows = [
        sum(len(c.tokens) if c.wants_all_logits else c.wants_logits for c in batch)
        for batch in model.batches
    ]
    assert max(rows) <= 4 + 32


def test_a_prompt_that_is_in_the_cache_is_scored_all_the_same() -> None:
    bench = LoopBench()
    bench.ask("r1", LONG[:100])
    bench.ask("r2", LONG[:100], scores_prompt=True)
    assert b"".join(scores(bench)).decode() == LONG[:100].upper()
    assert bench.started("r2").cached_tokens == 0


def test_a_pause_in_the_middle_of_scoring_scores_every_token_once() -> None:
    bench = LoopBench(FakeModel(batch_tokens=256))
    bench.add("r1", LONG[:100], scores_prompt=True)
    bench.step()
    bench.step()
    bench.loop.pause("r1")
    bench.loop.resume("r1")
    bench.run()
    assert b"".join(scores(bench)).decode() == LONG[:100].upper()


# ---------------------------------------------------------------- constraints


def test_an_answer_keeps_to_its_schema_and_ends_when_that_is_complete() -> None:
    bench = LoopBench()
    assert bench.ask("r1", "hello", json_schema="x") == "XXX"
    assert bench.finished("r1").reason is DoneReason.STOP
    assert bench.finished("r1").usage.completion_tokens == 3


def test_every_choice_has_a_constraint_of_its_own() -> None:
    bench = LoopBench(parallel=2)
    bench.ask("r1", "hello", json_schema="x", choices=2)
    assert [bench.text("r1", choice) for choice in range(2)] == ["XXX", "XXX"]


def test_a_constraint_that_breaks_fails_its_request_only() -> None:
    class Broken(FakeConstraint):
        def apply(self, logits: Logits) -> None:
            raise DecodeError(f"no mask for {len(logits)} tokens")

    class Model(FakeModel):
        def constraint(self, json_schema: str) -> FakeConstraint:
            return Broken(json_schema)

    bench = LoopBench(Model(), parallel=3)
    bench.add("bad", json_schema="x", choices=2)
    assert bench.ask("good", "fine") == "FINE"
    assert bench.failed("bad").code is FailureCode.INTERNAL
    assert [sampler.closed for sampler in bench.model.samplers] == [1, 1, 1]


# ---------------------------------------------------------------- images


def seeing() -> LoopBench:
    return LoopBench(FakeModel(sees=True), parallel=2)


def test_an_image_is_computed_once_in_its_place() -> None:
    bench = seeing()
    bench.add_request(with_images("r1", "ab[img-0]cd", b"\x05"))
    bench.step()
    bench.step()
    assert bench.model.cells[0][:5] == [*b"ab", -6, -6, -6]
    bench.run()
    assert bench.model.images == [0]
    assert bench.text("r1") == "ABCD"


def test_positions_behind_an_image_count_what_it_advances() -> None:
    bench = seeing()
    bench.add_request(with_images("r1", "ab[img-0]cd", b"\x05"))
    bench.run()
    starts = [chunk.start for batch in bench.model.batches for chunk in batch]
    assert starts[:2] == [0, 4]


def test_two_images_side_by_side_are_both_computed() -> None:
    bench = seeing()
    bench.add_request(with_images("r1", "[img-1][img-0]ab", b"\x05", b"\x06"))
    bench.run()
    assert bench.model.images == [0, 0]
    assert bench.text("r1") == "AB"


def test_an_image_at_the_end_of_a_prompt_is_answered() -> None:
    bench = seeing()
    bench.add_request(with_images("r1", "ab[img-0]", b"\x05"))
    bench.run()
    assert bench.text("r1").startswith("AB")


def test_an_image_in_the_cache_is_not_computed_again() -> None:
    bench = seeing()
    for number in range(2):
        bench.add_request(with_images(f"r{number}", "ab[img-0]cd", b"\x05"))
        bench.run()
    assert bench.model.images == [0]
    assert bench.text("r1") == "ABCD"


def test_another_image_in_the_same_place_is_computed() -> None:
    bench = seeing()
    bench.add_request(with_images("r1", "ab[img-0]cd", b"\x05"))
    bench.run()
    bench.add_request(with_images("r2", "ab[img-0]cd", b"\x07"))
    bench.run()
    assert len(bench.model.images) == 2


def test_an_image_that_cannot_be_computed_fails_its_request_only() -> None:
    bench = seeing()
    bench.add_request(with_images("bad", "ab[img-0]cd", b"\x05"))
    bench.add("good", "fine")
    bench.model.fail_next_image = True
    bench.run()
    assert bench.failed("bad").code is FailureCode.INTERNAL
    assert bench.text("good") == "FINE"


def test_an_answer_about_an_image_ends_with_the_window() -> None:
    bench = LoopBench(FakeModel(window_tokens=16, sees=True))
    bench.add_request(with_images("r1", "abcdefg[img-0]h", b"\x05"))
    bench.run()
    assert bench.finished("r1").reason is DoneReason.LENGTH
    assert bench.model.shifts == []


def test_images_are_not_in_the_context() -> None:
    bench = seeing()
    bench.add_request(with_images("r1", "a[img-0]b", b"\x05"))
    bench.run()
    assert bench.finished("r1").context == (*b"ab", 256 + ord("a"), 256 + ord("b"))

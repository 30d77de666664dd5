"""The embedding loop over an embedder without a model."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.embedding import EmbedLoop, normalized
from inference.engine.model import LoadError
from inference.engine.runner_messages import Charge
from inference.messages import (
    DoneReason,
    Embed,
    Embedded,
    Event,
    Failed,
    FailureCode,
    Finished,
    ModelRef,
    RunnerOptions,
)
from tests.inference.engine.fake_embedder import BACK, FRONT, FakeEmbedder, vector_of

NO_FRAME: tuple[list[int], list[int]] = ([], [])


def embed(request_id: str = "r1", *inputs: str | tuple[int, ...], **changes: Any) -> Embed:
    fields: dict[str, Any] = {"runner": RunnerOptions(num_ctx=1024), **changes}
    return Embed(
        request_id=request_id,
        model=ModelRef(name="tiny:latest", digest="d" * 64, weights="w"),
        inputs=inputs,
        **fields,
    )


def loop_over(embedder: FakeEmbedder, *requests: Embed) -> EmbedLoop:
    loop = EmbedLoop(lambda: embedder)
    for request in requests:
        loop.add(request)
    return loop


def run(loop: EmbedLoop) -> list[Event]:
    events: list[Event] = []
    for _ in range(10_000):
        if loop.is_idle:
            return events
        events += loop.step()[0]
    raise AssertionError("the loop does not come to an end")


def vectors_of(events: Iterable[Event], request_id: str = "r1") -> list[list[float]]:
    """Return the vectors that were sent, which must come in order and without gaps."""
    rows: list[bytes] = []
    for event in events:
        if isinstance(event, Embedded) and event.request_id == request_id:
            assert event.first == len(rows)
            rows += event.vectors
    return [np.frombuffer(row, dtype="<f4").tolist() for row in rows]


def expected(*texts: str) -> list[list[float]]:
    framed = [[FRONT, *map(ord, text), BACK] for text in texts]
    return [normalized(vector_of(tokens)).tolist() for tokens in framed]


def end_of(events: Sequence[Event], request_id: str = "r1") -> Finished | Failed:
    ends = [
        event
        for event in events
        if event.request_id == request_id and isinstance(event, Finished | Failed)
    ]
    assert len(ends) == 1
    return ends[0]


def failure_of(*inputs: str | tuple[int, ...], **changes: Any) -> tuple[FailureCode, str]:
    end = end_of(run(loop_over(FakeEmbedder(), embed("r1", *inputs, **changes))))
    assert isinstance(end, Failed)
    return end.code, end.message


def test_input_becomes_one_vector_and_a_good_end() -> None:
    events = run(loop_over(FakeEmbedder(), embed("r1", "abc")))

    end = end_of(events)
    assert vectors_of(events) == expected("abc")
    assert isinstance(end, Finished)
    assert end.reason is DoneReason.STOP
    assert end.usage.prompt_tokens == 5
    assert end.usage.prompt_eval_ns > 0


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    texts = [chr(97 + number % 26) * (number % 9 + 1) for number in range(100)]

    events = run(loop_over(FakeEmbedder(), embed("r1", *texts)))

    assert vectors_of(events) == expected(*texts)


def test_inputs_of_several_requests_share_a_batch() -> None:
    embedder = FakeEmbedder()
    loop = loop_over(embedder, embed("r1", "a", "b"), embed("r2", "c"))

    loop.step()

    assert sorted(embedder.batches[0]) == [[FRONT, ord(c), BACK] for c in "abc"]
    assert loop.is_idle


def test_small_request_is_not_held_up_by_a_large_one() -> None:
    embedder = FakeEmbedder()
    loop = loop_over(embedder, embed("large", *["x" * 20] * 1000))
    loop.step()
    loop.add(embed("small", "y"))

    events = [event for _ in range(2) for event in loop.step()[0]]

    assert isinstance(end_of(events, "small"), Finished)


def test_requests_take_turns_input_by_input() -> None:
    embedder = FakeEmbedder(batch_tokens=24)
    loop = loop_over(
        embedder, embed("r1", *["a" * 4] * 8), embed("r2", *["b" * 4] * 8), embed("r3", "c" * 4)
    )
    run(loop)

    letters = ["".join(sorted(chr(tokens[1]) for tokens in batch)) for batch in embedder.batches]
    assert letters[:3] == ["abbc", "aabb", "aabb"]


def test_input_that_does_not_fit_gets_the_next_batch_to_itself() -> None:
    embedder = FakeEmbedder()
    loop = loop_over(embedder, embed("r1", *["x" * 4] * 30), embed("large", "y" * 30))

    events = [event for _ in range(2) for event in loop.step()[0]]

    assert isinstance(end_of(events, "large"), Finished)


def test_every_step_tells_what_it_computed() -> None:
    loop = loop_over(FakeEmbedder(), embed("r1", "abc", "d"), embed("r2", "e"))

    _, charges = loop.step()

    assert sorted((c.request_id, c.prompt_tokens, c.completion_tokens) for c in charges) == [
        ("r1", 8, 0),
        ("r2", 3, 0),
    ]


def test_long_input_is_cut_to_its_head() -> None:
    embedder = FakeEmbedder()

    events = run(loop_over(embedder, embed("r1", "a" * 10 + "b" * 1000)))

    assert embedder.batches == [[[FRONT, *map(ord, "a" * 10 + "b" * 20), BACK]]]
    assert len(vectors_of(events)) == 1


def test_request_can_ask_for_a_smaller_window() -> None:
    embedder = FakeEmbedder()

    run(loop_over(embedder, embed("r1", "abc", runner=RunnerOptions(num_ctx=3))))

    assert embedder.batches == [[[FRONT, ord("a"), BACK]]]


def test_input_that_fills_the_window_is_not_cut() -> None:
    embedder = FakeEmbedder()

    run(loop_over(embedder, embed("r1", "a" * 30, truncate=False)))

    assert len(embedder.batches[0][0]) == 32


def test_input_that_may_not_be_cut_is_refused() -> None:
    assert failure_of("a" * 31, truncate=False) == (
        FailureCode.BAD_REQUEST,
        "the input length exceeds the context length",
    )


@pytest.mark.parametrize("num_ctx", [1, 2])
def test_window_without_room_beside_the_special_tokens_is_refused(num_ctx: int) -> None:
    assert failure_of("a", runner=RunnerOptions(num_ctx=num_ctx)) == (
        FailureCode.BAD_REQUEST,
        "input after truncation exceeds maximum context length",
    )


def test_one_bad_input_fails_the_whole_request() -> None:
    events = run(loop_over(FakeEmbedder(), embed("r1", "a", "b" * 40, "c", truncate=False)))

    assert isinstance(end_of(events), Failed)


def test_bad_request_does_not_touch_its_neighbours() -> None:
    loop = loop_over(FakeEmbedder(), embed("bad", (5000,)), embed("good", "abc"))

    events = run(loop)

    assert isinstance(end_of(events, "bad"), Failed)
    assert vectors_of(events, "good") == expected("abc")


def test_token_ids_are_framed_like_text() -> None:
    events = run(loop_over(FakeEmbedder(), embed("r1", (97, 98))))

    assert vectors_of(events) == expected("ab")


def test_special_tokens_that_are_there_already_are_not_doubled() -> None:
    events = run(loop_over(FakeEmbedder(), embed("r1", (FRONT, 97, 98, BACK))))

    assert vectors_of(events) == expected("ab")


@pytest.mark.parametrize("token", [-1, BACK + 1, 2**63])
def test_unknown_token_id_is_refused(token: int) -> None:
    assert failure_of((97, token)) == (
        FailureCode.BAD_REQUEST,
        f"token id {token} is not in the model's vocabulary",
    )


def test_empty_text_is_its_special_tokens() -> None:
    events = run(loop_over(FakeEmbedder(), embed("r1", "")))

    assert vectors_of(events) == expected("")


def test_input_without_any_token_is_refused() -> None:
    end = end_of(run(loop_over(FakeEmbedder(frame=NO_FRAME), embed("r1", ""))))

    assert isinstance(end, Failed)
    assert end.code is FailureCode.BAD_REQUEST


def test_request_without_inputs_just_ends() -> None:
    events = run(loop_over(FakeEmbedder(), embed("r1")))

    assert [type(event) for event in events] == [Finished]


def test_only_the_head_of_a_huge_text_is_tokenized() -> None:
    embedder = FakeEmbedder()

    run(loop_over(embedder, embed("r1", "word " * 1_000_000)))

    assert embedder.tokenized_characters < 10_000


def test_text_with_few_tokens_is_read_to_its_end() -> None:
    events = run(loop_over(FakeEmbedder(), embed("r1", " " * 100_000 + "abc")))

    assert vectors_of(events) == expected("abc")


def test_vectors_keep_their_length_where_asked() -> None:
    events = run(loop_over(FakeEmbedder(), embed("r1", "abc", normalize=False)))

    assert vectors_of(events) == [vector_of([FRONT, *map(ord, "abc"), BACK]).tolist()]


def test_zero_vector_stays_zero() -> None:
    assert normalized(np.zeros((1, 3), dtype=np.float32)).tolist() == [[0.0, 0.0, 0.0]]


def test_huge_components_do_not_overflow() -> None:
    vector = np.array([[3e30, 4e30]], dtype=np.float32)

    assert normalized(vector)[0] == pytest.approx([0.6, 0.8])


def test_vector_that_is_no_number_is_refused() -> None:
    embedder = FakeEmbedder()
    embedder.broken_token = ord("n")
    loop = loop_over(embedder, embed("bad", "n"), embed("good", "abc"))

    events = run(loop)

    end = end_of(events, "bad")
    assert isinstance(end, Failed)
    assert (end.code, end.message) == (
        FailureCode.BAD_REQUEST,
        "embedding contains NaN or Inf values",
    )
    assert vectors_of(events, "good") == expected("abc")


def test_failed_batch_fails_its_requests_and_no_later_one() -> None:
    embedder = FakeEmbedder()
    loop = loop_over(embedder, embed("r1", "a"), embed("r2", "b"))
    embedder.fail_next = True
    events, charges = loop.step()
    loop.add(embed("r3", "c"))

    events += run(loop)

    codes = [end_of(events, name) for name in ("r1", "r2")]
    assert [isinstance(e, Failed) and e.code for e in codes] == [FailureCode.INTERNAL] * 2
    assert charges == []
    assert vectors_of(events, "r3") == expected("c")


def test_cancelled_request_ends_once_and_is_not_computed() -> None:
    embedder = FakeEmbedder()
    loop = loop_over(embedder, embed("r1", "a"))

    loop.cancel("r1")
    loop.cancel("r1")
    end = end_of(run(loop))

    assert isinstance(end, Failed)
    assert end.code is FailureCode.CANCELLED
    assert embedder.batches == []


def test_cancelling_what_is_not_there_does_nothing() -> None:
    loop = loop_over(FakeEmbedder())

    loop.cancel("nobody")

    assert loop.is_idle


def test_embedder_is_made_for_the_first_request() -> None:
    made: list[FakeEmbedder] = []

    def make() -> FakeEmbedder:
        made.append(FakeEmbedder())
        return made[-1]

    loop = EmbedLoop(make)
    loop.step()
    before = len(made)
    for name in ("r1", "r2"):
        loop.add(embed(name, "a"))
        run(loop)

    assert (before, len(made)) == (0, 1)


def test_embedder_that_cannot_be_made_fails_the_request() -> None:
    def refuse() -> FakeEmbedder:
        raise LoadError("no memory")

    loop = EmbedLoop(refuse)
    loop.add(embed("r1", "a"))
    end = end_of(run(loop))

    assert isinstance(end, Failed)
    assert (end.code, end.message) == (FailureCode.LOAD_FAILED, "no memory")


def test_close_frees_the_embedder_once() -> None:
    embedder = FakeEmbedder()
    loop = loop_over(embedder, embed("r1", "a"))
    run(loop)

    loop.close()
    loop.close()

    assert embedder.closed == 1


# ---------------------------------------------------------------- inputs longer than a batch


def test_input_longer_than_a_batch_is_computed_in_parts() -> None:
    embedder = FakeEmbedder(window_tokens=100)

    events = run(loop_over(embedder, embed("r1", "a", "b" * 80, "c")))

    assert [len(part) for part in embedder.parts] == [32, 32, 18]
    assert vectors_of(events) == expected("a", "b" * 80, "c")


def test_every_part_is_charged() -> None:
    embedder = FakeEmbedder(window_tokens=100)
    loop = loop_over(embedder, embed("r1", "b" * 80))
    charges: list[Charge] = []
    while not loop.is_idle:
        charges += loop.step()[1]

    assert [charge.prompt_tokens for charge in charges] == [32, 32, 18]


def test_short_inputs_go_between_the_parts_of_a_long_one() -> None:
    embedder = FakeEmbedder(window_tokens=1000)
    loop = loop_over(embedder, embed("long", "b" * 900))
    loop.step()
    loop.add(embed("short", "a"))

    events = [event for _ in range(2) for event in loop.step()[0]]

    assert isinstance(end_of(events, "short"), Finished)


def test_long_inputs_follow_each_other() -> None:
    embedder = FakeEmbedder(window_tokens=100)
    loop = loop_over(embedder, embed("r1", "a" * 70, "b" * 70), embed("r2", "c" * 70))

    events = run(loop)

    assert vectors_of(events, "r1") == expected("a" * 70, "b" * 70)
    assert vectors_of(events, "r2") == expected("c" * 70)


def test_cancelled_long_input_makes_room_for_the_next() -> None:
    embedder = FakeEmbedder(window_tokens=100)
    loop = loop_over(embedder, embed("r1", "a" * 90))
    loop.step()
    loop.cancel("r1")
    loop.add(embed("r2", "b" * 90))

    events = run(loop)

    assert isinstance(end_of(events, "r1"), Failed)
    assert vectors_of(events, "r2") == expected("b" * 90)


def test_failed_part_fails_its_request_alone() -> None:
    embedder = FakeEmbedder(window_tokens=100)
    loop = loop_over(embedder, embed("r1", "a" * 90), embed("r2", "b" * 90))
    embedder.fail_next = True

    events = run(loop)

    ends = sorted(type(end_of(events, name)).__name__ for name in ("r1", "r2"))
    assert ends == ["Failed", "Finished"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "cancel", "step", "fail"]),
            st.integers(0, 5),
            st.lists(st.integers(0, 120), max_size=6),
        ),
        max_size=40,
    )
)
def test_every_request_ends_exactly_once_whatever_happens(
    moves: list[tuple[str, int, list[int]]],
) -> None:
    embedder = FakeEmbedder(window_tokens=100, max_sequences=3)
    loop = loop_over(embedder)
    events: list[Event] = []
    added: list[str] = []
    for number, (move, target, lengths) in enumerate(moves):
        if move == "add":
            added.append(f"r{number}")
            loop.add(embed(added[-1], *["x" * length for length in lengths]))
        elif move == "cancel" and added:
            loop.cancel(added[target % len(added)])
        else:
            embedder.fail_next = move == "fail"
            events += loop.step()[0]
    events += run(loop)

    for name in added:
        end_of(events, name)
        vectors_of(events, name)

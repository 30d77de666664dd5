"""What a run comes to."""

import pytest

from bench.chat import Answer
from bench.load import pieces_between, summarize

_S = 1_000_000_000


def _answer(sent_s: float, *arrivals_s: float) -> Answer:
    return Answer(
        sent_ns=round(sent_s * _S),
        pieces=["word "] * len(arrivals_s),
        arrivals_ns=[round(moment * _S) for moment in arrivals_s],
        prompt_tokens=7,
        completion_tokens=len(arrivals_s),
    )


def test_speed_counts_from_the_first_question_to_the_last_piece() -> None:
    summary = summarize([_answer(10, 11, 12), _answer(11, 12, 14)])

    assert summary.tokens_per_s == pytest.approx(4 / 4)
    assert summary.prompt_tokens == 14


def test_times_are_those_of_single_answers() -> None:
    summary = summarize([_answer(0, 1, 2), _answer(5, 8, 9)])

    assert summary.ttft_p50_s == pytest.approx(2)
    assert summary.gap_p50_s == pytest.approx(1)


def test_pieces_outside_the_window_do_not_count() -> None:
    assert pieces_between([_answer(0, 1, 2, 3), _answer(0, 2)], 2 * _S, 3 * _S) == 2

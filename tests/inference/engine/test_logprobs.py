"""Logits → log probabilities, against the definition in double precision."""

import numpy as np
import numpy.typing as npt
import pytest

from inference.engine.logprobs import prompt_logprobs, token_logprob
from inference.engine.model import Logits

VOCABULARY = 5000


class NumberedTokens:
    """A vocabulary in which every token is called by its number."""

    def named_piece(self, token: int) -> bytes:
        return b"<%d>" % token


def _logits(seed: int = 0) -> Logits:
    return np.random.default_rng(seed).normal(0, 4, VOCABULARY).astype(np.float32)


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    exact = logits.astype(np.float64)
    return np.asarray(exact - np.log(np.exp(exact).sum()))


def test_a_logprob_is_the_tokens_log_softmax() -> None:
    logits = _logits()
    found = token_logprob(NumberedTokens(), logits, 17, 0)
    assert found.token == b"<17>"
    assert found.logprob == pytest.approx(_log_softmax(logits)[17], abs=1e-5)
    assert found.top == ()


def test_the_most_probable_tokens_come_best_first() -> None:
    logits = _logits()
    exact = _log_softmax(logits)
    found = token_logprob(NumberedTokens(), logits, 0, 20).top
    best = np.argsort(-exact)[:20]
    assert [each.token for each in found] == [b"<%d>" % token for token in best]
    assert [each.logprob for each in found] == pytest.approx(exact[best].tolist(), abs=1e-5)


@pytest.mark.parametrize("shift", [-3000.0, 3000.0])
def test_large_logits_neither_overflow_nor_vanish(shift: float) -> None:
    logits = np.array([0, 1, 2], np.float32) + np.float32(shift)
    found = token_logprob(NumberedTokens(), logits, 0, 0)
    assert found.logprob == pytest.approx(-2.4076059, abs=1e-3)


def test_logits_are_only_read() -> None:
    logits = _logits()
    before = logits.copy()
    token_logprob(NumberedTokens(), logits, 3, 5)
    assert np.array_equal(logits, before)


def test_a_prompt_is_scored_row_by_row() -> None:
    rows = [_logits(seed) for seed in range(3)]
    found = prompt_logprobs(NumberedTokens(), rows, [4, 5, 6], 2)
    names = NumberedTokens()
    assert found == [token_logprob(names, row, 4 + i, 2) for i, row in enumerate(rows)]

"""Logits → log probabilities, as clients are told them. Knows no sequences and no sampling."""

import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from inference.engine.model import Logits
from inference.engine.ranking import strongest
from inference.messages import TokenLogprob, TopToken


class TokenNames(Protocol):
    """What is needed of a vocabulary."""

    def named_piece(self, token: int) -> bytes:
        """Return a token's bytes; control tokens have their names."""


def token_logprob(names: TokenNames, logits: Logits, token: int, top: int) -> TokenLogprob:
    """Return a token's natural log probability and the `top` most probable tokens.

    `logits` has the shape (vocabulary,) and is only read: it must be as the model computed it,
    before a constraint has been applied to it.
    """
    total = _log_of_sum(logits)
    return TokenLogprob(
        token=names.named_piece(token),
        logprob=float(logits[token]) - total,
        top=tuple(
            TopToken(token=names.named_piece(other), logprob=float(logits[other]) - total)
            for other in (strongest(logits, top).tolist() if top > 0 else ())
        ),
    )


def prompt_logprobs(
    names: TokenNames, rows: Iterable[Logits], tokens: Iterable[int], top: int
) -> list[TokenLogprob]:
    """Return what `token_logprob` says of each row and the token that follows it in the prompt.

    A row at a time: it stays in the processor's cache, which larger blocks would not.
    """
    return [token_logprob(names, row, token, top) for row, token in zip(rows, tokens, strict=True)]


def _log_of_sum(logits: Logits) -> float:
    """Return log(sum(exp(logits))), without overflow."""
    largest = logits.max()
    powers = logits - largest
    return float(largest) + math.log(float(np.exp(powers, out=powers).sum()))

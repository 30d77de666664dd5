"""An Embedder without a model: a character is a token, a vector counts the tokens by rest mod 4."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference.engine.model import DecodeError

Vectors = npt.NDArray[np.float32]

FRONT = 1000
BACK = 1001
WIDTH = 4


def vector_of(tokens: Sequence[int]) -> Vectors:
    """Return what the embedder answers for a framed input."""
    return np.bincount([token % WIDTH for token in tokens], minlength=WIDTH).astype(np.float32)


class FakeEmbedder:
    """Records its batches; `fail_next` makes one fail, `broken_token` yields NaN."""

    def __init__(
        self,
        *,
        window_tokens: int = 32,
        batch_tokens: int = 32,
        max_sequences: int = 8,
        frame: tuple[list[int], list[int]] = ([FRONT], [BACK]),
    ) -> None:
        self.window_tokens = window_tokens
        self.batch_tokens = batch_tokens
        self.max_sequences = max_sequences
        self.front, self.back = frame
        self.batches: list[list[list[int]]] = []
        self.parts: list[list[int]] = []
        self.tokenized_characters = 0
        self.broken_token: int | None = None
        self.fail_next = False
        self.closed = 0
        self._long: list[int] = []

    def tokenize(self, text: str) -> list[int]:
        self.tokenized_characters += len(text)
        return [ord(character) for character in text if character != " "]

    def has_token(self, token: int) -> bool:
        return 0 <= token <= BACK

    def encode(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        self._may_fail()
        assert 1 <= len(inputs) <= self.max_sequences
        assert sum(map(len, inputs)) <= self.batch_tokens
        assert all(1 <= len(tokens) <= self.window_tokens for tokens in inputs)
        self.batches.append([list(tokens) for tokens in inputs])
        return np.stack([self._vector(tokens) for tokens in inputs])

    def extend(self, tokens: Sequence[int], *, is_last: bool) -> Vectors | None:
        assert 1 <= len(tokens) <= self.batch_tokens
        self.parts.append(list(tokens))
        try:
            self._may_fail()
        except DecodeError:
            self.abandon()
            raise
        self._long += tokens
        assert len(self._long) <= self.window_tokens
        if not is_last:
            return None
        vector = self._vector(self._long)
        self.abandon()
        return vector

    def abandon(self) -> None:
        self._long = []

    def close(self) -> None:
        self.closed += 1

    def _vector(self, tokens: Sequence[int]) -> Vectors:
        vector = vector_of(tokens)
        if self.broken_token in tokens:
            vector[0] = np.nan
        return vector

    def _may_fail(self) -> None:
        if self.fail_next:
            self.fail_next = False
            raise DecodeError("out of luck")

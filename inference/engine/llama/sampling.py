"""How the next token is chosen: the option table in llama.cpp's order.

Logit bias, penalties, top_k and the greedy choice look at the whole vocabulary and are done in
numpy, which is quicker; llama.cpp's samplers get the few candidates that are left. The choices are
llama.cpp's, token for token. Knows no sequence and no grammar.
Source of the order and the formulas: llama.cpp, src/llama-sampler.cpp and common/sampling.cpp.
"""

import ctypes
import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp.llama_cpp as lib
import numpy as np
import numpy.typing as npt

from inference.engine.model import DecodeError, Logits, UnusableInput
from inference.engine.ranking import strongest
from inference.messages import Sampling

_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_MIROSTAT_TOKENS: Final = 100  # llama.cpp's m
# exp() of less than this is zero in 32 bits. Probabilities of zero become NaN in llama.cpp's
# `typical` and `mirostat`, so such candidates are left out.
_LEAST_EXPONENT: Final = -87.0
_ROUNDING: Final = 1e-3
_FLOATS: Final = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "mirostat_tau",
    "mirostat_eta",
)
_MOST_CHANGE: Final = 1e4
_TEMPERATURES: Final = (1e-3, 1e4)
_REPEAT_PENALTIES: Final = (1e-3, 1e3)


def build_sampler(sampling: Sampling, seed: int, *, n_vocab: int, window: int) -> "ChainSampler":
    """Return a new sampler; `window` is the most tokens that penalties look back on.

    Raises UnusableInput for a number that is not finite and a bias on an unknown token.
    """
    for name in _FLOATS:
        if not math.isfinite(getattr(sampling, name)):
            raise UnusableInput(f"option {name!r} must be a finite number")
    changes = LogitChanges(sampling, n_vocab=n_vocab, window=window)
    if sampling.temperature <= 0:
        return ChainSampler([], changes)
    seed &= 0xFFFFFFFF
    temperature = lib.llama_sampler_init_temp(_clamp(sampling.temperature, *_TEMPERATURES))
    if sampling.mirostat in {1, 2}:
        parts = [temperature, _mirostat(sampling, seed, n_vocab)]
        return ChainSampler(parts, changes, deepest=_LEAST_EXPONENT)
    parts = [*_filters(sampling), temperature, lib.llama_sampler_init_dist(seed)]
    top_k = min(sampling.top_k, n_vocab) if sampling.top_k > 0 else None
    return ChainSampler(parts, changes, most_candidates=top_k, deepest=_deepest(sampling))


class LogitChanges:
    """What is added to and taken from logits first: biases, then penalties on recent tokens."""

    def __init__(self, sampling: Sampling, *, n_vocab: int, window: int) -> None:
        """Raises UnusableInput for a bias that is not finite or on an unknown token."""
        self._n_vocab = n_vocab
        bias: Counter[int] = Counter()
        for token, added in sampling.logit_bias:
            if not 0 <= token < n_vocab:
                raise UnusableInput(f"logit_bias: there is no token {token}")
            if not math.isfinite(added):
                raise UnusableInput("logit_bias must hold finite numbers")
            bias[token] += _clamp(added, -_MOST_CHANGE, _MOST_CHANGE)  # type: ignore[assignment]
        self._biased = np.fromiter(bias.keys(), np.intp, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))
        self._repeat = _clamp(sampling.repeat_penalty, *_REPEAT_PENALTIES)
        self._frequency = _clamp(sampling.frequency_penalty, -_MOST_CHANGE, _MOST_CHANGE)
        self._presence = _clamp(sampling.presence_penalty, -_MOST_CHANGE, _MOST_CHANGE)
        is_idle = (self._repeat, self._frequency, self._presence) == (1.0, 0.0, 0.0)
        last_n = window if sampling.repeat_last_n < 0 else min(sampling.repeat_last_n, window)
        self._recent: deque[int] = deque(maxlen=0 if is_idle else last_n)
        self._counts: Counter[int] = Counter()

    def see(self, tokens: Sequence[int]) -> None:
        """Add tokens that penalties look back on. Ids that are no tokens, images, do not count."""
        most = self._recent.maxlen
        if not most:
            return
        for token in tokens[-most:]:
            if not 0 <= token < self._n_vocab:
                continue
            if len(self._recent) == most:
                self._forget_oldest()
            self._recent.append(token)
            self._counts[token] += 1

    def applied(self, logits: Logits) -> Logits:
        """Return the changed logits; the ones that were given stay as they are."""
        if not (self._counts or self._biased.size):
            return logits
        values = logits.copy()
        values[self._biased] += self._bias
        if self._counts:
            seen = np.fromiter(self._counts.keys(), np.intp, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            found = values[seen]
            scaled = np.where(found > 0, found / self._repeat, found * self._repeat)
            values[seen] = scaled - (counts * self._frequency + self._presence)
        return values

    def _forget_oldest(self) -> None:
        oldest = self._recent.popleft()
        self._counts[oldest] -= 1
        if not self._counts[oldest]:
            del self._counts[oldest]


class _Room:
    """Memory for candidates, as llama.cpp reads it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._candidates = np.zeros(size, _CANDIDATE)
        self.ids = self._candidates["id"]
        self.logits = self._candidates["logit"]
        self.pointer = ctypes.cast(self._candidates.ctypes.data, lib.llama_token_data_p)


class ChainSampler:
    """A llama.cpp sampler chain behind a choice of candidates; without a chain, the greedy one.

    Not thread-safe.
    """

    def __init__(
        self,
        parts: Sequence[Any],
        changes: LogitChanges,
        *,
        most_candidates: int | None = None,
        deepest: float = -math.inf,
    ) -> None:
        """Take over the parts: `close` frees them.

        Candidates are the `most_candidates` largest logits (None: all), less those that are
        further below the largest than `deepest`.
        """
        self._changes = changes
        self._most_candidates = most_candidates
        self._deepest = deepest
        self._room = _Room(most_candidates or 0)
        self._array: Any = lib.llama_token_data_array()
        self._chain = None
        if parts:
            self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for part in parts:
            lib.llama_sampler_chain_add(self._chain, part)

    def close(self) -> None:
        """Free the chain with its parts. A second call does nothing."""
        if self._chain is not None:
            lib.llama_sampler_free(self._chain)
            self._chain = None

    def see(self, tokens: Sequence[int]) -> None:
        """Take a prompt's tokens, or an answer's that were chosen elsewhere, for the penalties."""
        self._changes.see(tokens)

    def choose(self, logits: Logits) -> int:
        """Choose a token and remember it. `logits`, of shape (vocabulary,), are only read.

        Raises DecodeError where no token has a finite logit.
        """
        token = self._choose(self._changes.applied(logits))
        self._changes.see((token,))
        return token

    def probabilities(self, logits: Logits) -> dict[int, float]:
        """Return the chances of the tokens that can be chosen. Costs a draw of the seed."""
        token = self._choose(self._changes.applied(logits))
        if self._chain is None:
            return {token: 1.0}
        left = self._array.data[: self._array.size]
        return {int(candidate.id): float(candidate.p) for candidate in left}

    def _choose(self, values: Logits) -> int:
        if self._chain is None:
            token = int(values.argmax())
            if not math.isfinite(values[token]):
                raise DecodeError("no token can be chosen")
            return token
        self._set_candidates(values)
        array = self._array
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        if not 0 <= array.selected < array.size:
            raise DecodeError("no token was chosen")
        return int(array.data[array.selected].id)

    def _set_candidates(self, values: Logits) -> None:
        """Put the candidates where the chain finds them."""
        found, logits = self._candidates(values)
        largest = float(logits.max(initial=-np.inf))
        if not math.isfinite(largest):
            raise DecodeError("no token can be chosen")
        if self._deepest > -math.inf:
            is_near = logits >= largest + self._deepest
            found, logits = found[is_near], logits[is_near]
        self._fill(found, logits)
        self._array.sorted = self._most_candidates is not None

    def _candidates(self, values: Logits) -> tuple[npt.NDArray[Any], Logits]:
        if self._most_candidates is not None:
            found = strongest(values, self._most_candidates)
        elif values.min() > -np.inf:
            return np.arange(values.size, dtype=np.int32), values
        else:
            found = np.flatnonzero(values > -np.inf)
        return found, values[found]

    def _fill(self, found: npt.NDArray[Any], logits: Logits) -> None:
        size = found.size
        if size > self._room.size:
            self._room = _Room(size)
        self._room.ids[:size] = found
        self._room.logits[:size] = logits
        array = self._array
        array.data, array.size, array.selected = self._room.pointer, size, -1


def _filters(sampling: Sampling) -> list[Any]:
    parts = []
    if sampling.typical_p < 1:
        parts.append(lib.llama_sampler_init_typical(max(sampling.typical_p, 0.0), 1))
    if sampling.top_p < 1:
        parts.append(lib.llama_sampler_init_top_p(max(sampling.top_p, 0.0), 1))
    if sampling.min_p > 0:
        parts.append(lib.llama_sampler_init_min_p(min(sampling.min_p, 1.0), 1))
    return parts


def _deepest(sampling: Sampling) -> float:
    """Return how far below the largest logit a candidate may be to have a chance, at most."""
    if sampling.typical_p < 1:
        return _LEAST_EXPONENT
    if sampling.min_p > 0 and sampling.top_p >= 1:
        return math.log(min(sampling.min_p, 1.0)) - _ROUNDING
    return -math.inf


def _mirostat(sampling: Sampling, seed: int, n_vocab: int) -> Any:
    tau = _clamp(sampling.mirostat_tau, 0.0, 100.0)
    eta = _clamp(sampling.mirostat_eta, 0.0, 10.0)
    if sampling.mirostat == 1:
        return lib.llama_sampler_init_mirostat(n_vocab, seed, tau, eta, _MIROSTAT_TOKENS)
    return lib.llama_sampler_init_mirostat_v2(seed, tau, eta)


def _clamp(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)

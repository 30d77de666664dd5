"""What the loops of a runner need of a loaded model, as protocols and plain values.

Tokens are ints, pieces are bytes, positions count from 0 in each sequence. Implemented by
`inference.engine.llama`; tests have one without llama.cpp. Knows no sockets, requests' owners or
templates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from inference.messages import Sampling
from inference.prompting.control_names import BoundaryTexts, ControlNames

Logits = npt.NDArray[np.float32]
MIN_WINDOW_TOKENS: Final = 256  # llama.cpp rounds smaller windows up (contract 11, 6.4)
# Rows of logits that `decode` has room for beside one for each sequence: prompts that are scored
# need a row for every token.
SCORED_TOKENS: Final = 32


class LoadError(Exception):
    """llama.cpp refused the file or could not get the memory for it."""


class DecodeError(Exception):
    """A computation failed; the sequences of that batch are lost."""


class UnusableInput(Exception):
    """A part of a request that the model cannot take, said in words for the client."""


class Sampler(Protocol):
    """Chooses the next token of one sequence and remembers what it chose."""

    def see(self, tokens: Sequence[int]) -> None:
        """Take the prompt's tokens, for penalties on what has been said."""

    def choose(self, logits: Logits) -> int:
        """Choose a token from logits of shape (vocabulary,), which are only read, and remember it.

        Raises DecodeError where none can be chosen.
        """

    def close(self) -> None:
        """Free it. A second call does nothing."""


class Constraint(Protocol):
    """A grammar that an answer must satisfy, as it stands after the tokens so far."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow any more."""

    def apply(self, logits: Logits) -> None:
        """Set the logits of every token that may not come next to minus infinity, in place."""

    def accept(self, token: int) -> None:
        """Take the token that was chosen. Raises DecodeError where it was not allowed."""

    def accept_text(self, text: str) -> bool:
        """Take text that was said already; where it is not allowed, nothing is taken: False."""

    def fresh(self) -> "Constraint":
        """Return another that stands where this one stands now."""


class EncodedImage(Protocol):
    """An image as the model sees it, computed by `Vision.encode`.

    It takes `length` places in the list of a prompt's tokens, all with the value `token`, which is
    negative and the same for the same image, so that prompts can be compared as lists of ints.
    It advances the position of its sequence by `positions` (fewer than `length` for M-RoPE).
    """

    @property
    def token(self) -> int:
        """Its value in the list of tokens."""

    @property
    def length(self) -> int:
        """How many tokens it counts for."""

    @property
    def positions(self) -> int:
        """How far it moves its sequence's position on."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one sequence in a batch.

    Logits are wanted of none, of the last, or of all of them.
    """

    sequence: int
    start: int  # position of the first token
    tokens: Sequence[int]
    wants_logits: bool
    wants_all_logits: bool = False


class Vocabulary(Protocol):
    """Text ↔ tokens of a model. Safe to use from another thread while the model computes."""

    window_tokens: int  # context length of one sequence

    def tokenize(self, text: str, *, parse_special: bool = True) -> list[int]:
        """Return the tokens of a whole prompt, BOS added where the model wants it."""

    def tokenize_part(self, text: str, *, parse_special: bool) -> list[int]:
        """Return the tokens of a part of a prompt: no BOS."""

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones included. Raises ValueError for unknown ids."""

    def has_token(self, token: int) -> bool:
        """Whether the id is one of the vocabulary."""

    def piece(self, token: int) -> bytes:
        """Return a token's bytes; control tokens have none."""

    def named_piece(self, token: int) -> bytes:
        """Return a token's bytes; control tokens have their names."""

    def is_end(self, token: int) -> bool:
        """Whether generation ends with this token."""

    def adds_bos(self) -> bool:
        """Whether `tokenize` puts a BOS in front."""

    def control_names(self) -> ControlNames:
        """Return the names of its control tokens."""

    def boundary_texts(self) -> BoundaryTexts:
        """Return the names of the tokens for a text's begin and end."""

    def fill_tokens(self) -> tuple[int, int, int] | None:
        """Return the tokens for prefix, suffix and middle of an infill; None: it has none."""


class Vision(Protocol):
    """The projector of a model that can see. Used from the prompting thread only."""

    def encode(self, image: bytes, *, scope: str = "") -> EncodedImage:
        """Return what the model sees, remembered for the others of a scope (a cache group).

        Raises UnusableInput for a file that is no image it knows.
        """

    def places(self, image: bytes, *, scope: str = "") -> int:
        """Return the `length` that `encode` would give, without computing what the model sees.

        Raises UnusableInput for a file that is no image it knows.
        """


class Model(Vocabulary, Protocol):
    """A loaded model with a KV cache of `parallel` sequences."""

    batch_tokens: int  # the most tokens of one `decode`
    size_bytes: int
    size_vram_bytes: int
    can_shift: bool  # whether `shift` works for this architecture

    @property
    def vision(self) -> Vision | None:
        """Its eyes; None: it cannot see."""

    def sampler(self, sampling: Sampling, seed: int) -> Sampler:
        """Return a new sampler. Raises UnusableInput."""

    def constraint(self, json_schema: str) -> Constraint:
        """Return a constraint at its start. Safe from another thread. Raises UnusableInput."""

    def decode(self, chunks: Sequence[Chunk]) -> list[int]:
        """Compute the chunks; return for each the row of its last token. Raises DecodeError."""

    def decode_image(self, sequence: int, start: int, image: Any) -> None:
        """Put an EncodedImage into a sequence at a position. Raises DecodeError."""

    def logits(self, row: int) -> Logits:
        """Return a row of the last `decode`: a view that may be written, shape (vocabulary,)."""

    def forget(self, sequence: int) -> None:
        """Drop a sequence from the KV cache."""

    def keep(self, sequence: int, positions: int) -> bool:
        """Keep only the first positions. False: this architecture cannot, all are dropped."""

    def shift(self, sequence: int, keep: int, drop: int) -> None:
        """Drop `drop` positions behind the first `keep` and move the later ones down."""

    def save(self, sequence: int) -> bytes:
        """Return the state of a sequence."""

    def restore(self, sequence: int, state: bytes) -> bool:
        """Replace what a sequence holds by a saved state. False: it holds nothing now."""

    def close(self) -> None:
        """Free the model."""

"""Which tokens need not be computed again. Pure: lists of ints in, decisions out.

A slot of the KV cache keeps its tokens after its request has ended; a slot that is needed for
something else can leave its state in RAM. A request takes over the longest prefix that it may use.

Who may use what: reusing a prefix makes an answer come sooner, which tells whether somebody has
sent that prefix before. So tokens are shared inside a cache group (one user, unless the model says
otherwise), and beyond it only tokens that come from the manifest of the same model.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

# Fewer tokens are computed faster than they are stored and found again.
WORTH_KEEPING_TOKENS: Final = 32
# A state is copied as a whole: not if that is many times what is wanted of it.
_MOST_COPIED_FOR_ONE: Final = 16
_MOST_STORED: Final = 256


@dataclass(slots=True)
class Owner:
    """Whose tokens they are: a cache group, a model (digest of its manifest)."""

    group: str
    manifest: str


@dataclass(slots=True)
class Cells:
    """The tokens in a sequence of the KV cache, in order.

    The first `own` come from the model's manifest. Only the first `intact` can be used again: what
    lies behind a context shift was computed from tokens that are gone.
    """

    owner: Owner
    tokens: list[int] = field(default_factory=list)
    own: int = 0
    intact: int | None = None  # None: all

    def usable(self, owner: Owner, tokens: Sequence[int], own: int) -> int:
        """Return how many leading tokens a prompt can take over, at most all but its last.

        `own` of the prompt's tokens come from the manifest.
        """
        limit = min(len(self.tokens), len(tokens) - 1)
        if self.intact is not None:
            limit = min(limit, self.intact)
        if self.owner.group != owner.group:
            if self.owner.manifest != owner.manifest:
                return 0
            limit = min(limit, self.own, own)
        return common_prefix(self.tokens, tokens, limit)


def common_prefix(first: Sequence[int], second: Sequence[int], limit: int) -> int:
    """Return the length of the common prefix, at most `limit`.

    By halving, because comparing slices is fast and a loop over tokens is not.
    """
    low, high = 0, max(0, limit)
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def is_worth_copying(cells: Cells, wanted: int) -> bool:
    """Whether all of a sequence is copied for the sake of its first `wanted` tokens."""
    return WORTH_KEEPING_TOKENS <= wanted >= len(cells.tokens) / _MOST_COPIED_FOR_ONE


class PrefixStore:
    """States that have left their slot, the least recently used dropped first.

    Bounded by the bytes of the states.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[int, tuple[Cells, bytes]] = OrderedDict()
        self._next_key = 0
        self.used_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_used(self) -> bool:
        """Whether there is room for anything at all."""
        return self._most_bytes > 0

    def put(self, cells: Cells, state: bytes) -> None:
        """Keep a state, if there is room for it at all, instead of shorter ones it contains."""
        if len(state) > self._most_bytes:
            return
        for key in [key for key, (old, _) in self._entries.items() if _contains(cells, old)]:
            self._drop(key)
        self._entries[self._next_key] = (cells, state)
        self._next_key += 1
        self.used_bytes += len(state)
        while self.used_bytes > self._most_bytes or len(self._entries) > _MOST_STORED:
            self._drop(next(iter(self._entries)))

    def best(self, owner: Owner, tokens: Sequence[int], own: int) -> tuple[int, int]:
        """Return how many tokens the best state saves, and its key for `take`; (0, -1): none."""
        best, best_key = 0, -1
        for key, (cells, _) in self._entries.items():
            found = cells.usable(owner, tokens, own)
            if found >= max(best, 1) and is_worth_copying(cells, found):
                best, best_key = found, key
        return best, best_key

    def take(self, key: int) -> tuple[Cells, bytes]:
        """Return a state and remember that it was used."""
        self._entries.move_to_end(key)
        return self._entries[key]

    def _drop(self, key: int) -> None:
        _, state = self._entries.pop(key)
        self.used_bytes -= len(state)


def _contains(longer: Cells, shorter: Cells) -> bool:
    length = len(shorter.tokens)
    return (
        longer.owner == shorter.owner
        and longer.own >= shorter.own
        and longer.intact is None
        and shorter.intact is None
        and longer.tokens[:length] == shorter.tokens
    )

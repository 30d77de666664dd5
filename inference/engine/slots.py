"""The slots of the KV cache: who sits where, and what can be taken over from whom.

Puts `prefix_cache`'s decisions into practice on a `Model`. Knows no requests and no text.
"""

from collections import deque

from inference.engine.model import Model
from inference.engine.prefix_cache import (
    WORTH_KEEPING_TOKENS,
    Cells,
    Owner,
    PrefixStore,
    is_worth_copying,
)
from inference.engine.prompt import Prompt


class Slots:
    """`parallel` sequences of a model's KV cache. A free one keeps its tokens while it can."""

    def __init__(self, model: Model, *, parallel: int, store_bytes: int) -> None:
        self._model = model
        self._free = deque(range(parallel))  # the longest unused first
        self._busy: set[int] = set()
        self._store = PrefixStore(store_bytes)
        nobody = Owner(group="", manifest="")
        self.cells = [Cells(nobody) for _ in range(parallel)]

    @property
    def has_free(self) -> bool:
        """Whether `acquire` can succeed."""
        return bool(self._free)

    def reusable(self, owner: Owner, prompt: Prompt, line: list[int]) -> int:
        """Return how many leading tokens `acquire` would find now. A slot must be free."""
        _, in_slots = self._best_slot(owner, prompt, line, self._victim())
        in_store, _ = self._store.best(owner, line, prompt.own)
        return max(in_slots, in_store)

    def acquire(self, owner: Owner, prompt: Prompt, line: list[int]) -> tuple[int, int]:
        """Take a free slot for a line; return it and how many of the tokens are in it already."""
        slot = self._victim()
        source, found = self._best_slot(owner, prompt, line, slot)
        stored, key = self._store.best(owner, line, prompt.own)
        if stored > found:
            reused = self._restore(slot, self._store.take(key)[1], prompt, stored)
        elif not found:
            self._retire(slot)
            self._model.forget(slot)
            reused = 0
        elif source in self._busy or self._is_better_copied(source, found, slot):
            reused = self._restore(slot, self._model.save(source), prompt, found)
        else:
            slot = source
            if self._lost(slot, found) >= WORTH_KEEPING_TOKENS:
                self._retire(slot)
            reused = self._keep(slot, prompt, found)
        self._free.remove(slot)
        self._busy.add(slot)
        self.cells[slot] = Cells(owner, line[:reused], min(prompt.own, reused))
        return slot, reused

    def grow(self, slot: int, tokens: list[int], own: int) -> None:
        """Take note of tokens that were computed in a slot."""
        cells = self.cells[slot]
        cells.tokens += tokens
        cells.own = min(own, len(cells.tokens))

    def shifted(self, slot: int, keep: int, line: list[int]) -> None:
        """Take note that a slot now holds a line of which only the first `keep` are intact."""
        cells = self.cells[slot]
        cells.tokens = list(line)
        cells.intact = min(keep, keep if cells.intact is None else cells.intact)

    def release(self, slot: int) -> None:
        """Give a slot back; its tokens stay until it is needed."""
        self._busy.discard(slot)
        self._free.append(slot)

    def spoil(self, slot: int) -> None:
        """Give a slot back whose content is not to be trusted."""
        self._model.forget(slot)
        self.cells[slot] = Cells(Owner(group="", manifest=""))
        self.release(slot)

    def _best_slot(
        self, owner: Owner, prompt: Prompt, line: list[int], victim: int
    ) -> tuple[int, int]:
        """Return the slot that has most of a line, and how much; (-1, 0): none is worth it.

        A few tokens are not worth copying a sequence nor losing one, unless the victim's, which is
        lost anyway.
        """
        best, most = -1, 0
        for slot, cells in enumerate(self.cells):
            found = prompt.whole_images(cells.usable(owner, line, prompt.own))
            is_dear = slot in self._busy or self._lost(slot, found) >= WORTH_KEEPING_TOKENS
            if slot != victim and is_dear and not is_worth_copying(cells, found):
                continue
            if found > most or (found == most and found and slot not in self._busy):
                best, most = slot, found
        return best, most

    def _victim(self) -> int:
        """Return the free slot to take for something new.

        Beside busy ones, because neighbours are computed together (8 answers: 45 ms a step in
        neighbouring slots, 97 ms in every other slot); else the one that will be missed least.
        """
        return min(self._free, key=lambda slot: (-self._busy_neighbours(slot), self._is_used(slot)))

    def _busy_neighbours(self, slot: int) -> int:
        return (slot - 1 in self._busy) + (slot + 1 in self._busy)

    def _is_used(self, slot: int) -> bool:
        return bool(self.cells[slot].tokens)

    def _lost(self, slot: int, kept: int) -> int:
        """Return how many tokens are thrown away where a slot is reused in place."""
        return len(self.cells[slot].tokens) - kept

    def _is_better_copied(self, source: int, kept: int, victim: int) -> bool:
        """Whether reusing a slot in place would throw away much, and there is an empty one."""
        much = self._lost(source, kept) >= WORTH_KEEPING_TOKENS
        return much and source != victim and not self.cells[victim].tokens

    def _retire(self, slot: int) -> None:
        """Leave a slot's state in RAM before it is overwritten."""
        cells = self.cells[slot]
        is_worth_it = len(cells.tokens) >= WORTH_KEEPING_TOKENS and cells.intact is None
        if is_worth_it and self._store.is_used:
            self._store.put(cells, self._model.save(slot))

    def _restore(self, slot: int, state: bytes, prompt: Prompt, length: int) -> int:
        self._retire(slot)
        if not self._model.restore(slot, state):
            return 0
        return self._keep(slot, prompt, prompt.whole_images(length))

    def _keep(self, slot: int, prompt: Prompt, length: int) -> int:
        return length if self._model.keep(slot, prompt.position(length)) else 0

"""A text that grows → the HTML of its blocks, where only what has changed is made anew.

A block is over once two others have begun behind it; its HTML stays then, so an answer of any
length costs what its end costs. Knows no chat and no socket.
"""

from typing import Any, Final

from inference.chats.markdown import growing_blocks

_OPEN_BLOCKS: Final = 2


class GrowingText:
    """The blocks of one text, for everybody who follows it."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self._text = ""
        self._closed = 0  # of the blocks, those that stay
        self._closed_end = 0  # where the text of the others begins
        self._references: dict[str, Any] = {}

    def open_characters(self, text: str) -> int:
        """Return how much of the whole text as it is now would be made anew."""
        return 0 if text == self._text else len(text) - self._closed_end

    def update(self, text: str) -> None:
        """Take the whole text as it is now: the one before and something behind it."""
        if text == self._text:
            return
        self._text = text
        tail = text[self._closed_end :]
        found = growing_blocks(tail, self._references)
        self.blocks[self._closed :] = [html for html, _ in found]
        if len(found) > _OPEN_BLOCKS:
            self._close(tail, found[-_OPEN_BLOCKS][1], len(found) - _OPEN_BLOCKS)

    def _close(self, tail: str, line: int, count: int) -> None:
        at = 0
        for _ in range(line):
            at = tail.index("\n", at) + 1
        self._closed += count
        self._closed_end += at


def first_difference(known: list[str], blocks: list[str]) -> int:
    """Return the index of the first block that is not as it is known."""
    pairs = zip(known, blocks, strict=False)
    same = next((at for at, (old, new) in enumerate(pairs) if old != new), None)
    return min(len(known), len(blocks)) if same is None else same

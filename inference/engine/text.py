"""Token bytes → text that may be shown: whole UTF-8 characters, nothing of a stop string.

Pure; knows no model and no request. What could still become a stop string is held back until it
is decided.
"""

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer as it grows."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        self._held = ""
        self.has_stopped = False

    def push(self, piece: bytes) -> str:
        """Add a token's bytes and return the text that is now certain.

        Once a stop string is complete, `has_stopped` is set, the text before it is returned and
        everything later is dropped.
        """
        if self.has_stopped:
            return ""
        self._held += self._decoder.decode(piece)
        if not self._stop:
            return self._release(len(self._held))
        found = [at for text in self._stop if (at := self._held.find(text)) >= 0]
        if found:
            self.has_stopped = True
            return self._release(min(found))
        return self._release(len(self._held) - self._undecided())

    def flush(self) -> str:
        """Return what was held back; the bytes of a character that never got whole are dropped."""
        return "" if self.has_stopped else self._release(len(self._held))

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _undecided(self) -> int:
        """Return the length of the longest tail that begins a stop string."""
        longest = max(map(len, self._stop)) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(text.startswith(tail) for text in self._stop):
                return length
        return 0

"""Token bytes → text that may be shown: whole UTF-8 characters, nothing of a stop string.

Pure; knows no model and no request. What could still become a stop string is held back until it
is decided. Log probabilities travel with the text of their tokens.
"""

import codecs
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from inference.messages import TokenLogprob


class Released(NamedTuple):
    """Text that is certain now, and the log probabilities of the tokens that begin in it."""

    text: str
    logprobs: tuple[TokenLogprob, ...]


class TextStream:
    """The text of one answer as it grows."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        """Empty stop strings are ignored."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(filter(None, stop))
        self._longest_begun = max(map(len, self._stop), default=1) - 1
        self._held = ""
        self._shown = 0  # characters that were released
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # where its text begins
        self.stop_sequence = ""  # the stop string that is complete

    @property
    def has_stopped(self) -> bool:
        """Whether a stop string is complete."""
        return bool(self.stop_sequence)

    @property
    def held(self) -> str:
        """What is not certain yet."""
        return self._held

    @property
    def is_whole(self) -> bool:
        """Whether there are no bytes that wait for the rest of their character."""
        return not self._decoder.getstate()[0]

    def push(self, piece: bytes, logprob: TokenLogprob | None = None) -> Released:
        """Add a token's bytes and return what is now certain.

        A token without text of its own, a control token or the first bytes of a character, goes
        with the text after it. Once a stop string is complete, it is `stop_sequence`, the text
        before it is returned and everything later is dropped.
        """
        if self.has_stopped:
            return Released("", ())
        if logprob is not None:
            self._waiting.append((self._shown + len(self._held), logprob))
        self._held += self._decoder.decode(piece)
        stop = self._first_stop()
        if stop is None:
            return self._release(len(self._held) - self._undecided())
        stop_at, self.stop_sequence = stop
        return self._release(stop_at)

    def flush(self) -> Released:
        """Return what was held back; the bytes of a character that never got whole are dropped."""
        if self.has_stopped:
            return Released("", ())
        text, self._held = self._held, ""
        logprobs = tuple(logprob for _, logprob in self._waiting)
        self._waiting.clear()
        return Released(text, logprobs)

    def _release(self, length: int) -> Released:
        text, self._held = self._held[:length], self._held[length:]
        self._shown += length
        logprobs = []
        while self._waiting and self._waiting[0][0] < self._shown:
            logprobs.append(self._waiting.popleft()[1])
        return Released(text, tuple(logprobs))

    def _first_stop(self) -> tuple[int, str] | None:
        """Return the stop string that is complete first, however tokens are cut, and its place."""
        ends = [
            (at + len(text), at, text) for text in self._stop if (at := self._held.find(text)) >= 0
        ]
        return min(ends)[1:] if ends else None

    def _undecided(self) -> int:
        """Return the length of the longest tail that begins a stop string."""
        for length in range(min(self._longest_begun, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(text.startswith(tail) for text in self._stop):
                return length
        return 0

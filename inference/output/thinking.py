"""The first block of thinking in an answer, apart from what comes after it (contract 6.7).

Knows nothing of tool calls and of channels.
"""

import enum
from typing import Final, NamedTuple

from inference.output.tails import begun_length


class _State(enum.Enum):
    UNDECIDED = enum.auto()
    OPENED = enum.auto()  # only blanks so far behind the opening tag
    INSIDE = enum.auto()
    CLOSED = enum.auto()  # only blanks so far behind the closing tag
    OVER = enum.auto()


_PATIENT: Final = frozenset({_State.UNDECIDED, _State.INSIDE})


class Split(NamedTuple):
    """Thinking, and what is said after it or instead of it."""

    thinking: str
    rest: str


class ThinkingSplitter:
    """Divides the text of one answer as it grows.

    Thinking counts only as the first thing that is said, and only one block of it. Blanks around
    the tags are dropped. `prompt_end`: if it ends with the opening tag, thinking has begun.
    """

    def __init__(self, tags: tuple[str, str] | None, prompt_end: str) -> None:
        """Without tags nothing is divided."""
        self._opening, self._closing = tags or ("", "")
        self._held = ""
        self._state = _State.OVER if tags is None else _State.UNDECIDED
        if tags and prompt_end.rstrip().endswith(self._opening):
            self._state = _State.OPENED

    @property
    def is_undecided(self) -> bool:
        """Whether thinking may still begin."""
        return self._state is _State.UNDECIDED

    @property
    def is_thinking(self) -> bool:
        """Whether a block is open."""
        return self._state in {_State.OPENED, _State.INSIDE}

    @property
    def is_over(self) -> bool:
        """Whether all that follows is passed on as it is."""
        return self._state is _State.OVER

    def rules_out(self, text: str) -> bool:
        """Return whether this text, said next, would mean that there is no thinking."""
        return self.is_undecided and not self._may_open((self._held + text).lstrip())

    def push(self, text: str) -> Split:
        """Add text and return what is now certain."""
        if self.is_over:
            return Split("", text)
        self._held += text
        if text.isspace() and self._state in _PATIENT:
            return Split("", "")  # decides nothing, and a model may go on like this for long
        if self._is(_State.UNDECIDED):
            self._decide()
        if self._is(_State.OPENED):
            self._skip_blanks(_State.INSIDE)
        thinking = self._read_thinking() if self._is(_State.INSIDE) else ""
        if self._is(_State.CLOSED):
            self._skip_blanks(_State.OVER)
        return Split(thinking, self._take() if self._is(_State.OVER) else "")

    def flush(self) -> Split:
        """Return what was held back, at the end of the answer."""
        held = self._take()
        if self._state is _State.INSIDE:
            return Split(held.rstrip(), "")
        return Split("", held if self._state in {_State.UNDECIDED, _State.OVER} else "")

    def _is(self, state: _State) -> bool:
        return self._state is state

    def _may_open(self, said: str) -> bool:
        return said.startswith(self._opening) or self._opening.startswith(said)

    def _decide(self) -> None:
        said = self._held.lstrip()
        if said.startswith(self._opening):
            self._held = said[len(self._opening) :]
            self._state = _State.OPENED
        elif not self._may_open(said):
            self._state = _State.OVER

    def _skip_blanks(self, then: _State) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self._state = then

    def _read_thinking(self) -> str:
        """Return thinking up to the closing tag or to what may become one, blanks before it."""
        end = self._held.find(self._closing)
        if end >= 0:
            thinking = self._held[:end].rstrip()
            self._held = self._held[end + len(self._closing) :]
            self._state = _State.CLOSED
            return thinking
        certain = self._held[: len(self._held) - begun_length(self._held, (self._closing,))]
        thinking = certain.rstrip()
        self._held = self._held[len(thinking) :]
        return thinking

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held

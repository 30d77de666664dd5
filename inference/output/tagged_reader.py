"""The reader of calls whose arguments are tagged texts.

Knows nothing of what stands around a call.
"""

from inference.output.reading import (
    MAX_HEAD,
    Outcome,
    Reader,
    Start,
    after_opening,
    literal,
    skip_blanks,
)
from inference.output.syntax import TaggedCall
from inference.output.tools import Call, Toolbox


def begin_tagged(shape: TaggedCall, text: str, start: int, tools: Toolbox) -> Reader | Start:
    """Return a reader; a brace or a tag behind the opening belongs to another shape."""
    return after_opening(text, start, shape.opening, "{[<") or _TaggedReader(shape, start, tools)


class _TaggedReader:
    """A name and arguments between tags; steps from piece to piece as they become whole."""

    def __init__(self, shape: TaggedCall, start: int, tools: Toolbox) -> None:
        self._shape = shape
        self._tools = tools
        self._position = start + len(shape.opening)
        self._searched = self._position  # no end of the piece before here
        self._name = ""
        self._key = ""
        self._texts: dict[str, str] = {}
        self._step = self._read_name

    def read(self, text: str) -> Outcome | None:
        while True:
            before = self._step
            outcome = self._step(text)
            if outcome is not None or self._step == before:
                return outcome

    def finish(self, text: str) -> Call | None:
        """Return the call if only its closing tag is missing."""
        is_whole = self._step == self._read_between and text[self._position :].strip() == ""
        return self._tools.tagged_call(self._name, self._texts) if is_whole else None

    def _read_name(self, text: str) -> Outcome | None:
        if self._shape.name_end:
            name = self._until(text, self._shape.name_end)
            if name is None and len(text) < self._position + MAX_HEAD:
                return None
        else:
            name = self._bare_name(text)
            if name is None:
                return None
        self._name = (name or "").strip()
        if self._name not in self._tools:
            return Outcome(self._position, None)
        self._step = self._read_between
        return None

    def _bare_name(self, text: str) -> str | None:
        """Return the name up to a blank or a tag."""
        at = skip_blanks(text, self._position)
        end = next((i for i in range(at, len(text)) if text[i].isspace() or text[i] == "<"), None)
        if end is None and len(text) < at + MAX_HEAD:
            return None
        self._position = at + MAX_HEAD if end is None else end
        return text[at : self._position]

    def _read_between(self, text: str) -> Outcome | None:
        at = skip_blanks(text, self._position)
        self._move(at)
        verdict = literal(text, at, self._shape.key_opening)
        if verdict is None:
            self._move(at + len(self._shape.key_opening))
            self._step = self._read_key
            return None
        closing = literal(text, at, self._shape.closing)
        if closing is None:
            call = self._tools.tagged_call(self._name, self._texts)
            return Outcome(at + len(self._shape.closing), call)
        is_open = Start.MAYBE in {verdict, closing}
        return None if is_open else Outcome(at, None)

    def _read_key(self, text: str) -> Outcome | None:
        first, *others = self._shape.key_end.split()
        start = self._position
        key = self._until(text, first)
        if key is None:
            return None
        for piece in others:
            at = skip_blanks(text, self._position)
            verdict = literal(text, at, piece)
            if verdict is Start.NO:
                return Outcome(at, None)
            if verdict is Start.MAYBE:
                self._move(start)
                return None
            self._move(at + len(piece))
        self._key = key.partition('"')[0].strip()  # other attributes may follow it
        self._step = self._read_value
        return None

    def _read_value(self, text: str) -> Outcome | None:
        value = self._until(text, self._shape.value_end)
        if value is None:
            return None
        self._texts[self._key] = value.removeprefix("\n").removesuffix("\n")
        self._step = self._read_between
        return None

    def _until(self, text: str, mark: str) -> str | None:
        """Return the text up to a mark and go behind it; None if it has not come yet."""
        end = text.find(mark, self._searched)
        if end < 0:
            self._searched = max(self._position, len(text) - len(mark) + 1)
            return None
        piece = text[self._position : end]
        self._move(end + len(mark))
        return piece

    def _move(self, position: int) -> None:
        self._position = self._searched = position

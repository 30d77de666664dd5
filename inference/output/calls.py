"""Tool calls in the text of an answer, and the content around them.

Text is held back only while it may belong to a call. What looked like a call and is none comes
out as content; blanks and tags next to a call are dropped. Knows nothing of thinking and of
templates.
"""

import re
from typing import Final, NamedTuple

from inference.output.json_readers import JsonReader
from inference.output.readers import begin
from inference.output.reading import Reader, Start, skip_blanks
from inference.output.syntax import CallSyntax, JsonCall, PythonCall
from inference.output.tails import begun_length
from inference.output.tools import Call, Toolbox

_JOINTS: Final = ",;"
_NEVER: Final = "(?!)"


class Found(NamedTuple):
    """Content, and the calls that came after it or among it."""

    content: str
    calls: list[Call]


class CallScanner:
    """Divides the text of one answer as it grows.

    A run is a row of calls with the tags, brackets and commas around them. Outside of runs `_held`
    is text that may begin one. Inside it starts behind the last thing that was decided, and
    `_position` is how far it is understood.
    """

    def __init__(self, syntax: CallSyntax, tools: Toolbox) -> None:
        self._syntax = syntax
        self._tools = tools
        self._openings = syntax.openings()
        self._opening = re.compile("|".join(map(re.escape, self._openings)) or _NEVER)
        letters = "".join(re.escape(text[0]) for text in self._openings)
        self._may_open = re.compile(f"[{letters}]" if letters else _NEVER)
        self._fillers = sorted({*self._openings, *syntax.closers}, key=len, reverse=True)
        self._has_lists = any(isinstance(each, JsonCall | PythonCall) for each in syntax.shapes)
        self._held = ""
        self._position = 0
        self._kept = ""  # of what is understood behind a call, what is content if text follows
        self._depth = 0  # of lists around calls
        self._reader: Reader | None = None
        self._is_inside = False
        self._is_marked = False  # the run began with a text that only calls begin with
        self._is_first = True  # nothing but blanks was said
        self._has_content = False
        self._follows_call = False
        self._is_end = False
        self._content: list[str] = []
        self._calls: list[Call] = []

    @property
    def open_json(self) -> str:
        """What there is of a call as JSON between tags; empty: no such call is open."""
        is_open = self._is_marked and isinstance(self._reader, JsonReader)
        return self._held[self._position :] if is_open else ""

    def push(self, text: str) -> Found:
        """Add text and return what is now certain."""
        is_plain = self._has_content and not self._held and not self._is_inside
        if is_plain and not self._may_open.search(text):
            return Found(text, [])
        self._held += text
        if text.isspace() and not (self._has_content or self._is_inside):
            return Found("", [])
        return self._run()

    def flush(self) -> Found:
        """Return what was held back, at the end of the answer."""
        self._is_end = True
        found = self._run()
        if self._reader is not None:
            call = self._reader.finish(self._held)
            if call is None:
                self._release(len(self._held))
            else:
                self._accept(call, len(self._held))
        elif self._is_inside and self._follows_call:
            self._content.append(self._kept.strip())
        else:
            self._release(len(self._held))
        rest = self._take()
        return Found(found.content + rest.content, found.calls + rest.calls)

    def _run(self) -> Found:
        while self._step_inside() if self._is_inside else self._step_outside():
            pass
        return self._take()

    def _take(self) -> Found:
        found = Found("".join(self._content), self._calls)
        self._content, self._calls = [], []
        return found

    def _release(self, length: int) -> None:
        """Make the beginning of what is held content."""
        said, self._held = self._held[:length], self._held[length:]
        if said:
            self._content.append(said)
            self._has_content = self._has_content or not said.isspace()

    # ---------------------------------------------------------------- outside of runs

    def _step_outside(self) -> bool:
        """Release content; return whether a run begins."""
        blanks = len(self._held) - len(self._held.lstrip())
        if blanks == len(self._held) and not self._has_content:
            return False
        if self._is_first and self._syntax.is_bare and self._held[blanks] in "{[":
            return self._enter(blanks, is_marked=False)
        found = self._opening.search(self._held)
        tail = 0 if self._is_end else begun_length(self._held, self._openings)
        certain = len(self._held) - tail
        if found and found.start() <= certain:
            return self._enter(found.start(), is_marked=True)
        if self._has_content or certain > blanks:
            self._is_first = False
            self._release(certain)
        return False

    def _enter(self, start: int, *, is_marked: bool) -> bool:
        """Begin a run. Blanks before a first run stay held, they go if it has a call."""
        if self._held[:start].strip() or self._has_content:
            self._release(start)
            start = 0
        self._is_inside = True
        self._is_marked = is_marked
        self._is_first = self._follows_call = False
        self._position = start
        self._depth = 0
        return True

    # ---------------------------------------------------------------- inside a run

    def _step_inside(self) -> bool:
        """Understand one more thing; return whether there is more to do."""
        if self._reader is not None:
            return self._read(self._reader)
        self._skip_blanks()
        if self._position == len(self._held):
            return False
        verdict = self._begin_call()
        if verdict is Start.NO:
            verdict = self._skip_filler()
        if verdict is Start.NO:
            self._leave()
        return verdict is not Start.MAYBE

    def _read(self, reader: Reader) -> bool:
        outcome = reader.read(self._held)
        if outcome is None:
            return False
        if outcome.call is None:
            self._release(outcome.end)
            self._position = 0
            self._follows_call = False
        else:
            self._accept(outcome.call, outcome.end)
        self._reader = None
        return True

    def _accept(self, call: Call, end: int) -> None:
        self._calls.append(call)
        self._held = self._held[end:]
        self._position = 0
        self._kept = ""
        self._follows_call = True

    def _skip_blanks(self) -> None:
        end = skip_blanks(self._held, self._position)
        self._kept += self._held[self._position : end]
        self._position = end

    def _begin_call(self) -> Start | None:
        """Return None if a call begins here, and keep its reader."""
        for shape in self._syntax.shapes:
            started = begin(shape, self._held, self._position, self._tools)
            if not isinstance(started, Start):
                self._reader = started
                return None
            if started is Start.MAYBE and not self._is_end:
                return started
        return Start.NO

    def _skip_filler(self) -> Start | None:
        """Go over a tag, a bracket or a comma; None if there was one."""
        rest = self._held[self._position :]
        for filler in self._fillers:
            if rest.startswith(filler):
                self._position += len(filler)
                return None
            if filler.startswith(rest):
                if not self._is_end:
                    return Start.MAYBE
                if self._follows_call:
                    self._position = len(self._held)  # a closing tag that was cut off
                    return None
        return self._skip_mark(rest[0])

    def _skip_mark(self, mark: str) -> Start | None:
        if self._has_lists and mark == "[":
            self._depth += 1
        elif mark == "]" and self._depth:
            self._depth -= 1
        elif mark in _JOINTS and (self._follows_call or self._depth):
            self._kept += mark
        else:
            return Start.NO
        self._position += 1
        return None

    def _leave(self) -> None:
        """End the run, before text that does not belong to it."""
        if self._follows_call:
            self._held = self._held[self._position :]
            kept = self._kept if self._has_content else self._kept.lstrip()
            self._held, rest = kept, self._held
            self._release(len(kept))
            self._held = rest
        else:
            self._release(self._position)
        self._is_inside = False

"""Readers of calls whose arguments are a JSON object.

Know nothing of what stands around a call.
"""

import re
from typing import Final

from inference.output.json_scan import JsonScan
from inference.output.reading import MAX_HEAD, Outcome, skip_blanks
from inference.output.syntax import NamedCall
from inference.output.tools import Call, Toolbox, decode

_MAX_WORDS: Final = 3  # before the arguments, of which one is the name
_NUMBERED_NAME: Final = re.compile(r"(?:functions?\.)?(.+?)(?::\d+)?")
_BARE_KEY: Final = re.compile(r"([{,]\s*)([A-Za-z_][\w.-]*)(\s*:)")


class JsonReader:
    """An object with the name and the arguments; decided early if its first key is no call's."""

    def __init__(self, start: int, tools: Toolbox) -> None:
        self._start = start
        self._inside = start + 1  # only blanks so far behind the brace
        self._tools = tools
        self._scan = JsonScan(start)
        self._is_plausible = False

    def read(self, text: str) -> Outcome | None:
        """Return the outcome, None as long as the text does not tell."""
        self._inside = at = skip_blanks(text, self._inside)
        if at < len(text) and text[at] not in '"}':
            return Outcome(at, None)
        self._scan.advance(text)
        if not self._is_plausible and self._scan.first_key:
            first, last = self._scan.first_key
            if not self._tools.may_begin_call(str(decode(text[first:last]))):
                return Outcome(last, None)
            self._is_plausible = True
        if not self._scan.is_done:
            return None
        end = self._scan.end
        call = None if end is None else self._tools.call(decode(text[self._start : end]))
        return Outcome(self._scan.position, call)

    def finish(self, text: str) -> Call | None:
        """Return the call that it becomes once all that is open is closed."""
        return self._tools.call(decode(self._scan.closed(text[self._start :])))


class NamedReader:
    """A name in front of an object with the arguments."""

    def __init__(self, shape: NamedCall, start: int, tools: Toolbox) -> None:
        self._shape = shape
        self._head_start = start + len(shape.opening)
        self._tools = tools
        self._name = ""
        self._object_start = 0
        self._scan: JsonScan | None = None

    def read(self, text: str) -> Outcome | None:
        """Return the outcome, None as long as the text does not tell."""
        if self._scan is None:
            outcome = self._read_head(text)
            if outcome is not None or self._scan is None:
                return outcome
        self._scan.advance(text)
        if not self._scan.is_done:
            return None
        end = self._scan.end
        call = None if end is None else self._call(text[self._object_start : end])
        return Outcome(self._scan.position, call)

    def finish(self, text: str) -> Call | None:
        """Return the call that it becomes once all that is open is closed."""
        if self._scan is None:
            return None
        return self._call(self._scan.closed(text[self._object_start :]))

    def _read_head(self, text: str) -> Outcome | None:
        limit = self._head_start + MAX_HEAD
        brace = text.find("{", self._head_start, limit)
        if brace < 0:
            return Outcome(self._head_start, None) if len(text) >= limit else None
        head = text[self._head_start : brace]
        for separator in self._shape.separators:
            head = head.replace(separator, " ")
        words = map(self._known, head.split()[:_MAX_WORDS])
        name = next((word for word in words if word is not None), None)
        if name is None:
            return Outcome(self._head_start, None)
        self._name = name
        self._object_start = brace
        self._scan = JsonScan(brace, self._shape.quote)
        return None

    def _known(self, word: str) -> str | None:
        """Return the tool's name that a word stands for: `name` or `functions.name:0`."""
        if word in self._tools:
            return word
        named = _NUMBERED_NAME.fullmatch(word)
        return named[1] if named and named[1] in self._tools else None

    def _call(self, arguments: str) -> Call | None:
        if self._shape.quote != '"':
            arguments = _with_json_quotes(arguments, self._shape.quote)
        return self._tools.named_call(self._name, arguments)


def _with_json_quotes(text: str, quote: str) -> str:
    """Return JSON for an object with bare keys and strings between other quotes."""
    pieces = text.split(quote)
    for number, piece in enumerate(pieces):
        if number % 2:
            pieces[number] = _json_string(piece)
        else:
            pieces[number] = _BARE_KEY.sub(r'\1"\2"\3', piece)
    return "".join(pieces)


def _json_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

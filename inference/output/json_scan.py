"""Where a JSON object ends in a growing text, and how to close one that was cut off.

Every character is looked at once. Knows nothing of what the object means.
"""

import re
from typing import Final

from inference.output.tails import begun_length

MAX_DEPTH: Final = 64
_PARTNERS: Final = {"{": "}", "[": "]"}


class JsonScan:
    """Follows one object that begins at `start` with a brace.

    `end` is where it ended; `has_failed`: it is no object, as far as `position`. With another
    `quote` than `"`, strings stand between two of these and have no escapes.
    """

    def __init__(self, start: int, quote: str = '"') -> None:
        self.position = start
        self.end: int | None = None
        self.has_failed = False
        self.first_key: tuple[int, int] | None = None  # where it stands, quotes included
        self._quote = quote
        self._has_escapes = quote == '"'
        self._open: list[str] = []
        self._string_start: int | None = None
        structure = "".join(map(re.escape, "{}[]"))
        self._outside = re.compile(f"[{structure}]|{re.escape(quote)}")
        self._inside = re.compile(r'["\\]' if self._has_escapes else re.escape(quote))

    @property
    def is_done(self) -> bool:
        """Whether the object ended or failed."""
        return self.has_failed or self.end is not None

    def advance(self, text: str) -> None:
        """Go on in the text, which grew since the last time."""
        while not self.is_done:
            pattern = self._outside if self._string_start is None else self._inside
            found = pattern.search(text, self.position)
            if found is None:
                self.position = len(text) - begun_length(text[self.position :], (self._quote,))
                return
            if not self._take(found, text):
                return

    def closed(self, text: str) -> str:
        """Return the object as it would be if all that is open were closed, from its start."""
        body = text
        if self._string_start is not None:
            is_escaped = self._has_escapes and self._ends_in_escape(body)
            body = (body[:-1] if is_escaped else body) + self._quote
        else:
            body = body.rstrip().removesuffix(",")
        return body + "".join(_PARTNERS[each] for each in reversed(self._open))

    def _take(self, found: re.Match[str], text: str) -> bool:
        """Take one mark into account; False if the text ends inside it."""
        mark, at = found.group(), found.start()
        if mark == "\\":
            if at + 1 >= len(text):
                self.position = at
                return False
            self.position = at + 2
            return True
        self.position = found.end()
        if mark == self._quote:
            self._take_quote(at)
        elif mark in _PARTNERS:
            self._open.append(mark)
            self.has_failed = len(self._open) > MAX_DEPTH
        elif _PARTNERS[self._open.pop()] != mark:
            self.has_failed = True
        elif not self._open:
            self.end = self.position
        return True

    def _take_quote(self, at: int) -> None:
        if self._string_start is None:
            self._string_start = at
            return
        if self.first_key is None:
            self.first_key = self._string_start, self.position
        self._string_start = None

    def _ends_in_escape(self, text: str) -> bool:
        return (len(text) - len(text.rstrip("\\"))) % 2 == 1

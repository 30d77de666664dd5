"""What a model's control tokens are called, and where a text holds such names.

Knows names only: no vocabulary, no tokens and no templates.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple


class BoundaryTexts(NamedTuple):
    """What a vocabulary calls its tokens for a text's begin and end; empty where it has none."""

    begin: str = ""
    end: str = ""


class ControlNames:
    """The names of a vocabulary's control tokens. Never changes; any thread may use it."""

    __slots__ = ("_all", "_beginnings", "_longest", "_pattern")

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names; empty ones do not count."""
        known = {name for name in names if name}
        # Of two names that begin alike, the longer one is meant.
        longest_first = sorted(known, key=lambda name: (-len(name), name))
        # An alternative that never matches stands for a vocabulary without control tokens.
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        # Too many texts end in a letter; what ends in half a name of letters is taken as it is.
        marked = [name for name in known if not name[0].isalnum()]
        self._beginnings = frozenset(name[:end] for name in marked for end in range(1, len(name)))
        self._longest = max(map(len, self._beginnings), default=0)
        self._all = "\0".join(longest_first)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the start and end of every name, and of a beginning of one at the text's end."""
        found = [match.span() for match in self._pattern.finditer(text)]
        free = len(text) - (found[-1][1] if found else 0)
        for length in range(min(self._longest, free), 0, -1):
            if text[len(text) - length :] in self._beginnings:
                return [*found, (len(text) - length, len(text))]
        return found

    def are_made_of(self, text: str) -> bool:
        """Whether a name holds the text or the other way round."""
        return bool(text) and (text in self._all or self._pattern.search(text) is not None)

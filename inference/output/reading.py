"""What the readers of one call have in common.

A reader is given the same text again and again as it grows, from the same start, and looks at
every character once. Knows no shape of a call.
"""

import enum
import re
from typing import Final, NamedTuple, Protocol

from inference.output.tools import Call

_BLANKS: Final = re.compile(r"\s*")
MAX_HEAD: Final = 256  # characters of what stands before the arguments


class Outcome(NamedTuple):
    """Where a call ends in the text; `call` is None where the text up to there is no call."""

    end: int
    call: Call | None


class Reader(Protocol):
    """Reads one call."""

    def read(self, text: str) -> Outcome | None:
        """Return the outcome, None as long as the text does not tell."""

    def finish(self, text: str) -> Call | None:
        """Return the call that a text which ends too early stands for, if it can be repaired."""


class Start(enum.Enum):
    """Whether a shape begins at a place."""

    NO = enum.auto()
    MAYBE = enum.auto()  # the text is too short to tell


def literal(text: str, start: int, wanted: str) -> Start | None:
    """Return whether a fixed text stands at a place; None if it does."""
    if text.startswith(wanted, start):
        return None
    return Start.MAYBE if wanted.startswith(text[start:]) else Start.NO


def after_opening(text: str, start: int, opening: str, foreign: str) -> Start | None:
    """Return whether an opening and something else than `foreign` characters stand at a place.

    After too many blanks there is nothing to wait for.
    """
    verdict = literal(text, start, opening)
    if verdict is not None:
        return verdict
    behind = start + len(opening)
    at = skip_blanks(text, behind)
    if at - behind > MAX_HEAD:
        return Start.NO
    if at == len(text):
        return Start.MAYBE
    return Start.NO if text[at] in foreign else None


def skip_blanks(text: str, at: int) -> int:
    """Return the first place from `at` on without a blank."""
    found = _BLANKS.match(text, at)
    return at if found is None else found.end()

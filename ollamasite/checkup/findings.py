"""What a check has found. Knows nothing of what is looked at."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias


class Level(enum.StrEnum):
    """How bad it is. An error is something that does not work, or is open to strangers."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: what is wrong, and what to do. `code` is for programs and stays."""

    code: str
    level: Level
    message: str
    advice: str = ""


# Looks at one part of the site and tells what is wrong with it; nothing, where all is well.
Look: TypeAlias = Callable[[], Iterable[Finding]]


def error(code: str, message: str, advice: str) -> Finding:
    """Return a finding of what does not work."""
    return Finding(code, Level.ERROR, message, advice)


def warning(code: str, message: str, advice: str) -> Finding:
    """Return a finding of what works, and will not always."""
    return Finding(code, Level.WARNING, message, advice)


def note(code: str, message: str) -> Finding:
    """Return a finding of what could not be looked at."""
    return Finding(code, Level.NOTE, message)

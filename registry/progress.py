"""What a long registry job tells those who wait for it (contract/ollama.md 1.9, 4.5).

Knows nothing of how an event reaches a client.
"""

from collections.abc import Callable
from typing import Final

import msgspec

# For work on files that have no digest yet: clients draw a bar only where one is given.
NO_DIGEST: Final = "0000000000000000000"


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event, in the wire's field order."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


Report = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Report to nobody."""
    del progress

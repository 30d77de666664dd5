"""Whether this process is about to go, and who wants to hear of it while it still answers.

A web process that has been told to go says so (`/readyz`), lets what runs come to its end and asks
whoever stays connected to come again elsewhere. Knows no request, no socket and no server; one
event loop at a time uses it.
"""

from collections.abc import Callable
from typing import Final

Listener = Callable[[], None]

_process: Final = {"is_leaving": False}
_listeners: Final[set[Listener]] = set()


def begin() -> None:
    """Say that the process is about to go. Nobody hears it twice."""
    if _process["is_leaving"]:
        return
    _process["is_leaving"] = True
    for listener in list(_listeners):
        listener()


def is_leaving() -> bool:
    """Whether the process is about to go."""
    return _process["is_leaving"]


def listen(listener: Listener) -> None:
    """Have a function called when the process is about to go; at once where it is. See `forget`."""
    _listeners.add(listener)
    if is_leaving():
        listener()


def forget(listener: Listener) -> None:
    """Call a function no longer, whether or not it was to be called."""
    _listeners.discard(listener)


def stay() -> None:
    """Take it back: for the tests, whose process goes on."""
    _process["is_leaving"] = False

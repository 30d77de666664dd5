"""What becomes known of a request while it is answered: its route, who sends it, what it uses.

Whoever finds something out notes it here; `ollamasite.access_log` reads it at the end. No text of
anybody is in it, no key and no path, which may have a secret in it. Knows no HTTP.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from ollamasite.tracing import RequestTrace


@dataclass(slots=True)
class RequestRecord:
    """One request. `calls` are its requests to models, each as fields of a line of the log."""

    request_id: str
    takes_calls: bool  # until its own line is written; a socket's has none
    route: str = ""
    user_id: int | None = None
    key_id: int | None = None
    trace: RequestTrace | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)


current: Final[ContextVar[RequestRecord | None]] = ContextVar("ollamasite_record", default=None)


def note_route(route: str) -> None:
    """Note where the current request goes, as the URLconf spells it."""
    if record := current.get():
        record.route = route


def note_caller(user_id: int, key_id: int | None) -> None:
    """Note who sends the current request, and with which key."""
    if record := current.get():
        record.user_id = user_id
        record.key_id = key_id

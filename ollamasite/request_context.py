"""What belongs to the request that is being answered: its id, its client, and headers to add.

The outermost layer of the ASGI application, so that what is answered before Django is reached
(static files, refusals, uploads, preflights) has an id too: in `x-request-id`, in error texts and
in the log. An id that a client sends is not taken over: two requests never share one. Knows no
route, no error and what no header means.
"""

import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from ollamasite import client_address

_ID: Final = "x-request-id"
# The headers by name in lower case. Tasks and threads of a request share its dict.
_headers: ContextVar[dict[str, str] | None] = ContextVar("ollamasite_answer_headers", default=None)


def current_request_id() -> str:
    """Return the id of the request that is being answered; outside of any, a new one."""
    return (_headers.get() or {}).get(_ID) or _new_id()


def add_headers(headers: Mapping[str, str]) -> None:
    """Have headers sent with the answer to the current request, unless it has begun."""
    of_request = _headers.get()
    if of_request is not None:
        of_request.update((name.lower(), value) for name, value in headers.items())


class RequestContext:
    """Wraps the site's ASGI application."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection under an id of its own."""
        added = {_ID: _new_id()}

        async def send_with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                ours = {name.encode(): value.encode() for name, value in added.items()}
                others = [item for item in event.get("headers", ()) if item[0].lower() not in ours]
                event = {**event, "headers": [*others, *ours.items()]}
            await send(event)

        before, came_from = _headers.set(added), client_address.enter(scope)
        try:
            await self._application(scope, receive, send_with_headers)
        finally:
            client_address.leave(came_from)
            _headers.reset(before)


def _new_id() -> str:
    return f"req_{secrets.token_hex(12)}"

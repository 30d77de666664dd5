"""Answers of the ASGI layers around Django, which have no response objects.

What an error body looks like is decided in `ollamasite.error_responses`. Knows no route.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ollamasite import meters
from ollamasite.challenges import asked_of_scope, challenge
from ollamasite.error_responses import dialect_headers, dialect_of, to_payload
from ollamasite.errors import ServiceError, Unauthenticated
from ollamasite.http import JSON_UTF8, encode_json

Header = tuple[bytes, bytes]
_NO_CONTENT: Final = 204


async def answer(
    send: Any, status: int, headers: Iterable[Header] = (), *, body: bytes = b""
) -> None:
    """Send a whole answer."""
    sent = list(headers)
    if status != _NO_CONTENT:
        sent.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse(send: Any, error: ServiceError, scope: Mapping[str, Any], *, closes: bool) -> None:
    """Send an error. `closes`: the rest of the body is not to be read, so the connection ends."""
    path = scope["path"]
    meters.error_told(error.code, dialect_of(path).value)
    headers = {"content-type": JSON_UTF8, **error.headers, **dialect_headers(path)}
    if closes:
        headers["connection"] = "close"
    if error.status == Unauthenticated.status:
        headers["www-authenticate"] = challenge(asked_of_scope(scope), error.code)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await answer(send, error.status, raw, body=encode_json(to_payload(error, dialect_of(path))))

"""The outermost ASGI layer: foreign Host headers and oversized bodies are refused here.

It stands before Django because Django's handler spools a whole body before any view runs, and
because Host must also hold for WebSockets. Rules for Host: contract/ollama.md 1.0; they end DNS
rebinding. Knows no route and no user.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from asgiref.typing import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)

from ollamasite.errors import BodyTooLarge
from ollamasite.raw_answers import answer, refuse

_MAX_DIGITS: Final = 19
# How long whoever sends too much may go on, and nothing of it is kept.
_LISTEN_S: Final = 5.0
# A name or an address and perhaps a port: nothing that another reader would take for more.
_HOST: Final = re.compile(r"(?:\[[^\[\]@/?#\s]*\]|[^\[\]:@/?#\s]*)(?::[0-9]*)?")
_LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")


class Guard:
    """Wraps the site's ASGI application. `body_limit` tells a request's limit in bytes."""

    def __init__(
        self,
        application: ASGI3Application,
        *,
        site_hosts: Iterable[str],
        body_limit: Callable[[Any], int],
    ) -> None:
        self._application = application
        self._hosts = {"localhost", socket.gethostname().lower(), *map(str.lower, site_hosts)}
        self._body_limit = body_limit

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one connection, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._application(scope, receive, send)
        elif not self._is_for_this_site(scope):
            await _refuse_host(scope, send)
        elif scope["type"] == "http":
            await self._serve_limited(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    def _is_for_this_site(self, scope: Any) -> bool:
        # Of several, others behind this would read another one (RFC 9112, 3.2).
        has_one = sum(key == b"host" for key, _ in scope["headers"]) <= 1
        return has_one and self.is_known_host(_header(scope, b"host"))

    def is_known_host(self, header: str) -> bool:
        """Whether a Host header names this site: its names, a local name or an IP address.

        No browser leaves it out, so without one there is nobody to be led astray.
        """
        if not _HOST.fullmatch(header):
            return False
        host = _without_port(header).rstrip(".").lower()
        if not header or host in self._hosts or host.endswith(_LOCAL_SUFFIXES):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    async def _serve_limited(
        self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        limit = self._body_limit(scope)
        declared = _header(scope, b"content-length")
        if _is_over(declared, limit):
            await _refuse_body(scope, receive, send, is_on_its_way=True)
            return
        received = 0
        is_on_its_way = True
        is_too_large = False
        has_started = False

        async def counted() -> ASGIReceiveEvent:
            nonlocal received, is_on_its_way, is_too_large
            event = await receive()
            if event["type"] == "http.request":
                received += len(event["body"])
                is_on_its_way = event.get("more_body", False)
                is_too_large = received > limit
            # To the application it looks as if the client had left: it cleans up and says nothing.
            return {"type": "http.disconnect"} if is_too_large else event

        async def noted(event: ASGISendEvent) -> None:
            nonlocal has_started
            has_started = True
            await send(event)

        await self._application(scope, counted, noted)
        if is_too_large and not has_started:
            await _refuse_body(scope, receive, send, is_on_its_way=is_on_its_way)


async def _refuse_body(scope: Any, receive: Any, send: Any, *, is_on_its_way: bool) -> None:
    """Refuse a body, and let what is on its way come for a moment before the connection ends.

    Who is cut off while sending, a proxy among them, often does not get to read why.
    """

    async def send_unfinished(event: dict[str, Any]) -> None:
        is_body = event["type"] == "http.response.body"
        await send({**event, "more_body": True} if is_body else event)

    await refuse(send_unfinished, BodyTooLarge(), scope, closes=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(_LISTEN_S):
            while is_on_its_way:
                is_on_its_way = (await receive()).get("more_body", False)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _header(scope: Any, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return ""


def _is_over(length: str, limit: int) -> bool:
    # Python refuses to read a number of thousands of digits.
    if not (length.isascii() and length.isdigit()):
        return False
    return len(length) > _MAX_DIGITS or int(length) > limit


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


async def _refuse_host(scope: Scope, send: ASGISendCallable) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": "unknown host"})
        return
    await answer(send, 403)

"""What holds for every WebSocket before and behind its consumer. Knows no route and no message.

Its calls of the database borrow a thread each (`ollamasite.request_threads`). Where it cannot be
opened now, because the database is away say, the handshake is refused with 503: a page tries again
later and later. One that is open is closed with 1013. Whoever has left hears nothing any more,
which is no error of who was just speaking.
"""

from collections.abc import Mapping
from typing import Any, Final

from ollamasite.error_responses import Dialect, to_payload, to_service_error
from ollamasite.errors import ServiceError
from ollamasite.http import JSON, encode_json
from ollamasite.request_threads import lent_threads

# RFC 6455's registry.
CLOSE_INTERNAL_ERROR: Final = 1011
CLOSE_TRY_LATER: Final = 1013
_CAN_REFUSE: Final = "websocket.http.response"  # an extension of ASGI; uvicorn has it
_UNAVAILABLE: Final = 503


class SocketEdge:
    """Wraps the ASGI application of the sockets."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one socket."""
        line = _Line(scope, receive, send)
        async with lent_threads():
            try:
                await self._application(scope, line.receive, line.send)
            except Exception as error:  # noqa: BLE001 - the server would make a traceback of it
                await line.end(to_service_error(error))


class _Line:
    """One socket, and how far it is."""

    def __init__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        self._can_refuse = _CAN_REFUSE in (scope.get("extensions") or {})
        self._receive = receive
        self._send = send
        self._is_accepted = False
        self._is_over = False

    async def receive(self) -> Any:
        """Return the next event of the client."""
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self._is_over = True
        return event

    async def send(self, event: Any) -> None:
        """Send an event, unless nobody is there any longer."""
        if self._is_over:
            return
        self._is_accepted |= event["type"] == "websocket.accept"
        self._is_over = event["type"] == "websocket.close"
        try:
            await self._send(event)
        except OSError:  # as ASGI has it; the client's disconnect is on its way
            self._is_over = True

    async def end(self, error: ServiceError) -> None:
        """Say that it cannot be opened, or not go on."""
        if self._is_accepted or not self._can_refuse:
            is_for_now = error.status == _UNAVAILABLE
            code = CLOSE_TRY_LATER if is_for_now else CLOSE_INTERNAL_ERROR
            await self.send({"type": "websocket.close", "code": code})
            return
        body = encode_json(to_payload(error, Dialect.NATIVE))
        headers = {"content-type": JSON, **error.headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        begin = {"type": f"{_CAN_REFUSE}.start", "status": error.status, "headers": raw}
        await self.send(begin)
        await self.send({"type": f"{_CAN_REFUSE}.body", "body": body})

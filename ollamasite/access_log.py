"""One line of the log for each request, and its figures for `/metrics`.

Wraps the ASGI application behind `ollamasite.request_context`, which gives the request its id. A
line has a route and no path: paths and queries may have secrets in them. Knows no view.
"""

import logging
import time
from typing import Any, Final

from django.conf import settings

from ollamasite import meters, tracing
from ollamasite.error_responses import dialect_of
from ollamasite.request_context import current_request_id
from ollamasite.request_record import RequestRecord, current

logger = logging.getLogger("ollamasite.access")

UNMATCHED: Final = "unmatched"
# Programs ask these all the time.
_QUIET: Final = frozenset({"healthz", "readyz", "metrics", "static", "jobs/strip"})
_SERVER_ERROR: Final = 500
_BEGINS: Final = frozenset({"http.response.start", "websocket.http.response.start"})


class AccessLog:
    """Wraps the site's ASGI application."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection and write down what came of it."""
        kind = scope["type"]
        statuses: list[int] = []

        async def send_and_look(event: Any) -> None:
            if event["type"] in _BEGINS:
                statuses.append(event["status"])
            await send(event)

        record = RequestRecord(current_request_id(), takes_calls=kind == "http")
        record.trace = tracing.start(scope)
        token = current.set(record)
        began_s = time.perf_counter()
        meters.OPEN.labels(kind).inc()
        try:
            await self._application(scope, receive, send_and_look)
        except Exception:
            statuses[:] = [_SERVER_ERROR]
            logger.exception("unexpected error", extra={"request_id": record.request_id})
            raise
        finally:
            meters.OPEN.labels(kind).dec()
            current.reset(token)
            record.takes_calls = False
            _write(scope, record, statuses[0] if statuses else None, time.perf_counter() - began_s)


def _write(scope: Any, record: RequestRecord, status: int | None, seconds: float) -> None:
    route = record.route or _route_beside_views(scope["path"])
    dialect = dialect_of(scope["path"]).value
    is_http = scope["type"] == "http"
    method = scope["method"] if is_http else "WEBSOCKET"
    if is_http:
        meters.http_answered(
            route=route, method=method, status=status, dialect=dialect, seconds=seconds
        )
    if record.trace is not None:
        record.trace.end(route=route, method=method, status=status, request_id=record.request_id)
    facts: dict[str, Any] = {
        "request_id": record.request_id,
        "method": method,
        "route": route,
        "status": status if status is not None or not is_http else meters.LEFT,
        "dialect": dialect,
        "duration_ms": round(seconds * 1000, 1),
        "user_id": record.user_id,
        "key_id": record.key_id,
        "trace_id": record.trace.trace_id if record.trace else None,
    }
    for call in record.calls or [{}]:
        logger.log(_level(route), "request", extra=facts | call)


def _level(route: str) -> int:
    return logging.DEBUG if route in _QUIET else logging.INFO


def _route_beside_views(path: str) -> str:
    return "static" if path.startswith(settings.STATIC_URL) else UNMATCHED

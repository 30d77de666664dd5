"""Which web pages may call the API from a browser (CORS), as Ollama decides it.

Rules and header list: contract/ollama.md 1.0. A page of a foreign origin is refused, one of an
allowed origin may read the answers, in every case without cookies: only its own key counts. Pages
of the site itself are not covered: Django's CSRF check is theirs, and WebSockets' Origin is
checked where they are accepted. Knows no route and no user.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ollamasite.error_responses import Dialect, dialect_of
from ollamasite.raw_answers import Header, answer

_ANY: Final = "*"
_METHODS: Final = b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_MAX_AGE_S: Final = b"43200"
_HEADERS: Final = (
    *("Authorization", "Content-Type", "User-Agent", "Accept", "X-Requested-With", "Openai-Beta"),
    *("X-Stainless-Arch", "X-Stainless-Async", "X-Stainless-Custom-Poll-Interval"),
    *("X-Stainless-Helper-Method", "X-Stainless-Lang", "X-Stainless-Os"),
    *("X-Stainless-Package-Version", "X-Stainless-Poll-Helper", "X-Stainless-Retry-Count"),
    *("X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Timeout"),
)
_KNOWN: Final = frozenset(name.lower() for name in _HEADERS)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_MAX_ASKED: Final = 64


class Cors:
    """Wraps the site's ASGI application. An origin may hold one `*`."""

    def __init__(self, application: Any, *, origins: Iterable[str]) -> None:
        self._application = application
        allowed = list(origins)
        self._allows_any = _ANY in allowed
        patterns = (re.escape(origin).replace(r"\*", ".*") for origin in allowed)
        self._allowed = re.compile("|".join(patterns))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, with leave for its origin, or refuse it."""
        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not (origin and _is_covered(scope)) or _is_same_site(origin, headers):
            await self._application(scope, receive, send)
        elif not (self._allows_any or self._allowed.fullmatch(origin.lower())):
            await answer(send, 403)
        elif scope["method"] == "OPTIONS":
            await answer(send, 204, self._preflight(origin, headers))
        else:
            kept = [item for item in scope["headers"] if item[0] != b"cookie"]
            to_page = self._adding(self._leave(origin), send)
            await self._application({**scope, "headers": kept}, receive, to_page)

    def _leave(self, origin: str) -> list[Header]:
        if self._allows_any:
            return [(b"access-control-allow-origin", b"*")]
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"vary", b"Origin"),
        ]

    def _preflight(self, origin: str, headers: Mapping[bytes, bytes]) -> list[Header]:
        asked = headers.get(b"access-control-request-headers", b"").decode("latin-1")
        return [
            *self._leave(origin),
            (b"vary", b"Access-Control-Request-Method"),
            (b"vary", b"Access-Control-Request-Headers"),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _allowed_headers(asked)),
            (b"access-control-max-age", _MAX_AGE_S),
        ]

    @staticmethod
    def _adding(added: list[Header], send: Any) -> Any:
        async def send_with_leave(event: Any) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event.get("headers", ()), *added]}
            await send(event)

        return send_with_leave


def _is_covered(scope: Any) -> bool:
    if scope["type"] != "http":
        return False
    path: str = scope["path"]
    return path == "/" or dialect_of(path) is not Dialect.PAGE


def _is_same_site(origin: str, headers: Mapping[bytes, bytes]) -> bool:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return origin.lower() in {f"http://{host}", f"https://{host}"}


def _allowed_headers(asked: str) -> bytes:
    # Further headers that a client's library adds are let in too: they prove nothing by themselves.
    names = [name.strip() for name in asked.split(",")[:_MAX_ASKED]]
    further = [name for name in names if _TOKEN.fullmatch(name) and name.lower() not in _KNOWN]
    return ",".join((*_HEADERS, *further)).encode()

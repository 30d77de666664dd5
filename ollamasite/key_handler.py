"""Django's ASGI handler for requests that carry an API key.

Sessions, CSRF, messages and page headers are not theirs, and each of those middlewares is
synchronous: two threads' hops a request. Which requests come here is decided by `carries_key`;
everything else takes `settings.MIDDLEWARE`. Knows no route and checks no key.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler

from ollamasite.error_responses import Dialect, dialect_of

_KEY_HEADERS: Final = frozenset({b"authorization", b"x-api-key"})


class KeyHandler(ASGIHandler):
    """Runs `settings.KEY_MIDDLEWARE` instead of `settings.MIDDLEWARE`."""

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's own
        """Build the chain; called once, while the application is put together."""
        for_pages = settings.MIDDLEWARE
        settings.MIDDLEWARE = settings.KEY_MIDDLEWARE
        try:
            super().load_middleware(is_async)
        finally:
            settings.MIDDLEWARE = for_pages


def carries_key(scope: Mapping[str, Any]) -> bool:
    """Whether an HTTP request is for the API and presents a key, right or wrong."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    is_api = dialect_of(scope["path"]) is not Dialect.PAGE
    return is_api and any(name in _KEY_HEADERS and value.strip() for name, value in headers)

"""`X-Forwarded-Proto` holds only where a trusted proxy has written it; else it is taken away.

Django and `ollamasite.challenges` believe the header when the site is behind a proxy that speaks
TLS (settings.SECURE_PROXY_SSL_HEADER): anybody who reaches the site past that proxy could write it
too. Knows no route and no answer.
"""

import logging
from typing import Any, Final

from django.conf import settings

from ollamasite.client_address import comes_through_trusted_proxy

logger = logging.getLogger(__name__)

_HEADER: Final = b"x-forwarded-proto"


class ForwardedProto:
    """Wraps the site's ASGI application."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._has_told = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection, without the header where it does not hold."""
        if settings.SECURE_PROXY_SSL_HEADER and "headers" in scope:
            scope = self._checked(scope)
        await self._application(scope, receive, send)

    def _checked(self, scope: Any) -> Any:
        has_header = any(name.lower() == _HEADER for name, _ in scope["headers"])
        if not has_header or comes_through_trusted_proxy(scope):
            return scope
        if not self._has_told:
            self._has_told = True
            peer = (scope.get("client") or ("somebody unknown",))[0]
            logger.warning(
                "X-Forwarded-Proto from %s is not believed: name the proxy in "
                "OLLAMASITE_TRUSTED_PROXIES",
                peer,
            )
        return {
            **scope,
            "headers": [item for item in scope["headers"] if item[0].lower() != _HEADER],
        }

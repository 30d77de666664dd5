"""The headers that tell browsers what an answer may do. Knows no page.

Pages use files of this site alone: no inline script or style, no other origin, no frames. The
admin's library sets styles in its pages and computes the conditions in their attributes, so there
these two are allowed and scripts in pages are not. What is no page may do nothing at all.

`SecurityHeaders` is a layer of the ASGI application, so that every answer has them: files, streams,
uploads and refusals too. What an answer has already, stays.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import async_only_middleware

from ollamasite.challenges import asked_of_scope

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]
Header = tuple[bytes, bytes]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)

ADMIN_CONTENT_SECURITY_POLICY: Final = (
    f"{CONTENT_SECURITY_POLICY}; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"
)
DATA_CONTENT_SECURITY_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
PERMISSIONS_POLICY: Final = (
    "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()"
)
_ADMIN: Final = "/admin/"
_PAGE: Final = b"text/html"
_CSP: Final = b"content-security-policy"
_HSTS: Final = b"strict-transport-security"


@async_only_middleware
def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Add the policy to answers that a browser would show as a page."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            policy = _page_policy(request.path_info)
            response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware


class SecurityHeaders:
    """Wraps the site's ASGI application."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": _completed(scope, event.get("headers", ()))}
            await send(event)

        await self._application(scope, receive, send_with_headers)


def _completed(scope: Any, headers: Iterable[Header]) -> list[Header]:
    sent = list(headers)
    known = {name.lower(): value for name, value in sent}
    sent += [item for item in _ALWAYS if item[0] not in known]
    path = scope["path"]
    if _CSP not in known and not path.startswith(settings.STATIC_URL):
        is_page = known.get(b"content-type", b"").startswith(_PAGE)
        policy = _page_policy(path) if is_page else DATA_CONTENT_SECURITY_POLICY
        sent.append((_CSP, policy.encode()))
    if settings.SECURE_HSTS_SECONDS and _HSTS not in known and _is_https(scope):
        sent.append((_HSTS, f"max-age={settings.SECURE_HSTS_SECONDS}".encode()))
    return sent


_ALWAYS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", PERMISSIONS_POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def _page_policy(path: str) -> str:
    is_admin = path.startswith(_ADMIN)
    return ADMIN_CONTENT_SECURITY_POLICY if is_admin else CONTENT_SECURITY_POLICY


def _is_https(scope: Any) -> bool:
    return asked_of_scope(scope).scheme == "https"

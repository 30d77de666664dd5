"""The Content-Security-Policy of every HTML answer. Knows no page.

Pages use files of this site alone: no inline script or style, no other origin, no frames. The
admin's library sets styles in its pages and computes the conditions in their attributes, so there
these two are allowed and scripts in pages are not.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import async_only_middleware

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'self'"
)

ADMIN_CONTENT_SECURITY_POLICY: Final = (
    f"{CONTENT_SECURITY_POLICY}; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"
)
_ADMIN: Final = "/admin/"


@async_only_middleware
def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Add the header to answers that a browser would show as a page."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            is_admin = request.path_info.startswith(_ADMIN)
            policy = ADMIN_CONTENT_SECURITY_POLICY if is_admin else CONTENT_SECURITY_POLICY
            response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware

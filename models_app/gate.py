"""The gate: no request reaches a view unless its row in the policy table lets it.

Runs after the session is known and before every view, the unknown routes included. Knows no
view; what a refusal looks like is decided in `ollamasite.error_responses`.
"""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import Resolver404, resolve
from django.utils.http import urlencode

from models_app import policy
from models_app.auth import principal_of_request
from models_app.permissions import Principal
from ollamasite.error_responses import Dialect, dialect_of, to_response
from ollamasite.errors import Forbidden, ServiceError, Unauthenticated
from ollamasite.http import is_page_request


class GateMiddleware:
    """Finds the route's rule and the caller, and lets the request pass or answers itself."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Let the request pass, or answer 401, 403, or with the sign-in page."""
        route = _route_of(request.path_info)
        rule = policy.UNKNOWN if route is None else policy.ROUTES.get(route, policy.UNKNOWN)
        principal: Principal | None = None
        if not rule.is_open(request.method or ""):
            try:
                principal = await sync_to_async(principal_of_request)(request)
            except Unauthenticated as error:
                return _refuse(request, error)
            if not rule.admits(principal):
                return _refuse(request, Forbidden())
        request.principal = principal  # type: ignore[attr-defined]
        if route is None and (target := _without_slash(request)):
            return target
        return await self._get_response(request)


def _route_of(path: str) -> str | None:
    try:
        return resolve(path).route
    except Resolver404:
        return None


def _without_slash(request: HttpRequest) -> HttpResponseBase | None:
    # As Ollama's router: /api/tags/ is sent to /api/tags, and a POST keeps its method and body.
    path = request.path_info.rstrip("/")
    if not request.path_info.endswith("/") or not path or _route_of(path) is None:
        return None
    response = HttpResponseRedirect(path)
    response.status_code = 301 if request.method == "GET" else 307
    return response


def _refuse(request: HttpRequest, error: ServiceError) -> HttpResponseBase:
    is_page = dialect_of(request.path_info) is Dialect.PAGE and is_page_request(request)
    if is_page and isinstance(error, Unauthenticated):
        return redirect(f"/signin?{urlencode({'next': request.get_full_path()})}")
    return to_response(error, request)

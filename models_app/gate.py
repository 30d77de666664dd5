"""The gate: no request reaches a view unless its row in the policy table lets it.

Runs after the session is known and before every view, the unknown routes included. Knows no
view; what a refusal looks like is decided in `ollamasite.error_responses`.
"""

import io
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.asgi import ASGIRequest
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import Resolver404, resolve
from django.utils.http import urlencode

from models_app import key_uses, policy
from models_app.auth import known_principal, principal_of_request
from models_app.errors import KeyHasLimits
from models_app.permissions import Principal
from models_app.scrapers import is_scraper
from ollamasite.error_responses import Dialect, dialect_of, to_response, to_service_error
from ollamasite.errors import BadRequest, Forbidden, ServiceError, Unauthenticated
from ollamasite.http import is_page_request
from ollamasite.request_record import note_caller, note_route

_BODY_HEADERS: Final = frozenset({b"content-type", b"content-length"})


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
        rule = policy.rule_of(route)
        note_route(route or "")
        principal: Principal | None = None
        if not rule.is_open(request.method or "") and not _is_let_in(request, rule):
            try:
                principal = await _admitted(request, rule)
            except (ServiceError, DatabaseError, InterfaceError) as error:
                return _refuse(request, to_service_error(error))
        request.principal = principal  # type: ignore[attr-defined]
        if route is None and (target := _without_slash(request)):
            return target
        return await self._get_response(request)


def _is_let_in(request: HttpRequest, rule: policy.Rule) -> bool:
    return rule.is_for_scrapers and is_scraper(request)


async def _admitted(request: HttpRequest, rule: policy.Rule) -> Principal:
    """Return who asks. Raises Unauthenticated, Forbidden, TooManyAttempts."""
    principal = known_principal(request)
    if principal is None:
        principal = await sync_to_async(_admit)(request, rule)
    else:
        _require(principal, rule, request.method or "")
    note_caller(principal.user_id, principal.key_id)
    key_uses.write_soon()
    return principal


def admit_scope(scope: Mapping[str, Any], route: str) -> Principal:
    """Return who sends a request that does not go through Django's handler.

    Reads no byte of its body. Raises Unauthenticated, Forbidden, BadRequest, TooManyAttempts.
    """
    # What the body is said to be is left out: looking for a form's CSRF token would parse it.
    headers = [item for item in scope["headers"] if item[0] not in _BODY_HEADERS]
    try:
        request = ASGIRequest({**scope, "headers": headers}, io.BytesIO())
    except UnicodeDecodeError as error:
        raise BadRequest("the query is not UTF-8") from error
    SessionMiddleware(_no_view).process_request(request)
    AuthenticationMiddleware(_no_view).process_request(request)
    note_route(route)
    principal = _admit(request, policy.ROUTES[route])
    note_caller(principal.user_id, principal.key_id)
    key_uses.write()  # there is a thread for it already
    return principal


def _admit(request: HttpRequest, rule: policy.Rule) -> Principal:
    is_change = rule.is_change(request.method or "")
    principal = principal_of_request(request, is_change=is_change)
    _require(principal, rule, request.method or "")
    return principal


def _require(principal: Principal, rule: policy.Rule, method: str) -> None:
    if rule.admits(principal, method):
        return
    raise KeyHasLimits if rule.admits_owner(principal, method) else Forbidden


def _no_view(request: HttpRequest) -> HttpResponseBase:
    del request
    return HttpResponse()


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
    query = request.META.get("QUERY_STRING", "")
    response = HttpResponseRedirect(f"{path}?{query}" if query else path)
    response.status_code = 301 if request.method == "GET" else 307
    return response


def _refuse(request: HttpRequest, error: ServiceError) -> HttpResponseBase:
    is_page = dialect_of(request.path_info) is Dialect.PAGE and is_page_request(request)
    if is_page and isinstance(error, Unauthenticated):
        return redirect(f"/signin?{urlencode({'next': request.get_full_path()})}")
    return to_response(error, request)

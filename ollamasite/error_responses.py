"""Error → answer, in the shape of each dialect. The only module that writes an error body.

Shapes: contract/ollama.md 2.1; content types: section 11. `handle_api_exception` serves DRF views,
`ErrorMiddleware` plain Django views, the `page_*` functions are the URLconf's handlers,
`to_payload` serves streams whose first byte is already out. Knows no app: only `ServiceError`.
"""

import enum
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import (
    BadRequest as DjangoBadRequest,
)
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.response import HttpResponseBase
from django.shortcuts import render
from rest_framework import exceptions as drf

from ollamasite import errors, meters
from ollamasite.challenges import asked_of_request, challenge
from ollamasite.http import JSON, JSON_UTF8, PLAIN, is_page_request, json_response
from ollamasite.request_context import current_request_id

logger = logging.getLogger(__name__)


class Dialect(enum.Enum):
    """Whose words an answer is in."""

    NATIVE = "native"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    REGISTRY = "registry"
    PAGE = "page"


_OPENAI_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
_OPENAI_CODES: Final = {
    "unauthenticated": "invalid_api_key",
    "model_not_found": "model_not_found",
    "prompt_too_long": "context_length_exceeded",
    "previous_response_not_found": "previous_response_not_found",
    "rate_limited": "rate_limit_exceeded",
    "too_many_at_once": "rate_limit_exceeded",
    "too_many_attempts": "rate_limit_exceeded",
    "quota_exceeded": "insufficient_quota",
}
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# The codes of OCI's distribution spec (contract/registry.md 2.2), by our code, else by status.
_REGISTRY_CODES: Final = {
    "blob_not_found": "BLOB_UNKNOWN",
    "digest_mismatch": "DIGEST_INVALID",
    "invalid_digest": "DIGEST_INVALID",
    "invalid_manifest": "MANIFEST_INVALID",
    "invalid_gguf": "MANIFEST_INVALID",
    "invalid_template": "MANIFEST_INVALID",
    "invalid_tag": "MANIFEST_INVALID",
    "manifest_blob_unknown": "MANIFEST_BLOB_UNKNOWN",
    "manifest_unknown": "MANIFEST_UNKNOWN",
    "invalid_model_name": "NAME_INVALID",
    "model_not_found": "NAME_UNKNOWN",
    "quota_full": "DENIED",
    "upload_unknown": "BLOB_UPLOAD_UNKNOWN",
    "upload_busy": "BLOB_UPLOAD_INVALID",
    "upload_out_of_order": "BLOB_UPLOAD_INVALID",
    "range_not_satisfiable": "SIZE_INVALID",
}
_REGISTRY_STATUS_CODES: Final = {
    401: "UNAUTHORIZED",
    403: "DENIED",
    404: "NAME_UNKNOWN",
    405: "UNSUPPORTED",
    413: "SIZE_INVALID",
    429: "TOOMANYREQUESTS",
}
# What is wrong with who asks, by whether a key was presented at all. Of one that was, nobody is
# told whether there is such a key.
_NO_KEY: Final = {
    Dialect.OPENAI: "You didn't provide an API key: send it as `Authorization: Bearer KEY`.",
    Dialect.ANTHROPIC: "x-api-key header is required",
}
_WRONG_KEY: Final = {
    Dialect.OPENAI: "Incorrect API key provided. It does not exist, or not hold any longer here.",
    Dialect.ANTHROPIC: "invalid x-api-key",
}
_KEY_HEADERS: Final = ("authorization", "x-api-key")
_SERVER_ERRORS: Final = 500
_DATABASE_AWAY: Final = (OperationalError, InterfaceError)  # gone, locked, on a full disk
# Ollama's router answers these in plain text everywhere; under /v1 SDKs read their own shape.
_ROUTER_ERRORS: Final = (errors.NotFound, errors.MethodNotAllowed)


def dialect_of(path: str) -> Dialect:
    """Return whose words answers below a path are in."""
    if path.startswith("/v1/messages/") or path == "/v1/messages":
        return Dialect.ANTHROPIC
    if path.startswith("/v1/") or path == "/v1":
        return Dialect.OPENAI
    if path.startswith("/api/") or path == "/api":
        return Dialect.NATIVE
    if path.startswith("/v2/") or path == "/v2":
        return Dialect.REGISTRY
    return Dialect.PAGE


def to_service_error(error: Exception) -> errors.ServiceError:
    """Return the ServiceError that an exception stands for; the unknown becomes a logged 500."""
    match error:
        case errors.ServiceError():
            return error
        case Http404() | drf.NotFound():
            return errors.NotFound()
        case drf.MethodNotAllowed():
            return errors.MethodNotAllowed()
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return errors.Unauthenticated()
        case PermissionDenied() | drf.PermissionDenied():
            return errors.Forbidden()
        case RequestDataTooBig():
            return errors.BodyTooLarge()
        case (
            ValidationError()
            | SuspiciousOperation()
            | DjangoBadRequest()
            | UnreadablePostError()
            | drf.ParseError()
        ):
            # What a form would say beside its fields; the others have nothing to say.
            return errors.BadRequest(" ".join(getattr(error, "messages", [])))
    return _unexpected(error)


def _unexpected(error: Exception) -> errors.ServiceError:
    if isinstance(error, _DATABASE_AWAY):
        logger.warning("the database cannot be used: %s", " ".join(str(error).split()))
        return errors.DatabaseUnavailable()
    error_id = current_request_id()
    logger.error("unexpected error %s", error_id, exc_info=error)
    return errors.ServiceError(f"internal server error (id {error_id})")


def to_payload(error: errors.ServiceError, dialect: Dialect) -> dict[str, Any]:
    """Return the JSON body of an error."""
    if dialect is Dialect.ANTHROPIC:
        return _anthropic_payload(error)
    if dialect is Dialect.REGISTRY:
        return {"errors": [_registry_error(error)]}
    if dialect is not Dialect.OPENAI:
        return {"error": error.message}
    return {
        "error": {
            "message": error.message,
            "type": _OPENAI_TYPES.get(error.status, "api_error"),
            "param": error.param or None,
            "code": _openai_code(error),
        }
    }


def _anthropic_payload(error: errors.ServiceError) -> dict[str, Any]:
    other = "invalid_request_error" if error.status < _SERVER_ERRORS else "api_error"
    kind = _ANTHROPIC_TYPES.get(error.status, other)
    told = {"type": kind, "message": error.message}
    return {"type": "error", "error": told, "request_id": current_request_id()}


def _registry_error(error: errors.ServiceError) -> dict[str, Any]:
    by_status = _REGISTRY_STATUS_CODES.get(error.status, "UNKNOWN")
    code = _REGISTRY_CODES.get(error.code, by_status)
    return {"code": code, "message": error.message, "detail": error.detail}


def dialect_headers(path: str) -> dict[str, str]:
    """Return the headers that every answer below a path has in its dialect, good or bad."""
    if dialect_of(path) is Dialect.ANTHROPIC:
        return {"request-id": current_request_id()}
    if dialect_of(path) is Dialect.REGISTRY:
        return {"docker-distribution-api-version": "registry/2.0"}
    return {}


def _openai_code(error: errors.ServiceError) -> str | None:
    fallback = "server_error" if error.status >= _SERVER_ERRORS else None
    return _OPENAI_CODES.get(error.code, fallback)


def to_response(error: errors.ServiceError, request: HttpRequest) -> HttpResponse:
    """Return the whole answer for an error raised before the first byte."""
    dialect = dialect_of(request.path_info)
    _say_what_of_the_key(error, request, dialect)
    meters.error_told(error.code, dialect.value)
    headers = dict(error.headers)
    own_type = headers.pop("Content-Type", "")
    if error.status == errors.Unauthenticated.status:
        told = challenge(asked_of_request(request), error.code)
        headers.setdefault("WWW-Authenticate", told)
    is_plain = type(error) in _ROUTER_ERRORS and dialect in {Dialect.NATIVE, Dialect.PAGE}
    if is_plain and not _wants_page(request, dialect):
        return HttpResponse(error.message, status=error.status, content_type=PLAIN, headers=headers)
    if _wants_page(request, dialect):
        context = {"status": error.status, "message": error.message}
        response = render(request, "ollamasite/error.html", context, status=error.status)
        for name, value in headers.items():
            response[name] = value
        return response
    is_late = dialect is Dialect.OPENAI and not isinstance(error, errors.InvalidBody)
    return json_response(
        to_payload(error, dialect),
        status=error.status,
        content_type=own_type or (JSON if is_late else JSON_UTF8),
        newline=is_late,
        headers=headers,
    )


def _say_what_of_the_key(
    error: errors.ServiceError, request: HttpRequest, dialect: Dialect
) -> None:
    """Put more words to a plain refusal, in the dialects whose clients show it to people."""
    if type(error) is not errors.Unauthenticated or error.message != error.default_message:
        return
    has_key = any(name in request.headers for name in _KEY_HEADERS)
    error.message = (_WRONG_KEY if has_key else _NO_KEY).get(dialect, error.message)


def _wants_page(request: HttpRequest, dialect: Dialect) -> bool:
    return dialect is Dialect.PAGE and is_page_request(request)


def handle_api_exception(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """Answer for an exception that left a DRF view (REST_FRAMEWORK["EXCEPTION_HANDLER"])."""
    response = to_response(to_service_error(error), context["request"]._request)  # noqa: SLF001
    if isinstance(error, drf.MethodNotAllowed):
        allowed = context["view"].allowed_methods
        response.headers["Allow"] = ", ".join(m for m in allowed if m != "OPTIONS")
    return response


class ErrorMiddleware:
    """Answers for exceptions that left a plain view, and gives answers what headers they lack."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on."""
        response = await self._get_response(request)
        for name, value in dialect_headers(request.path_info).items():
            response.headers[name] = value
        if isinstance(response, HttpResponse):
            response.headers.setdefault("Content-Length", str(len(response.content)))
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        """Turn an exception of a view into its answer."""
        return to_response(to_service_error(error), request)


def page_bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`handler400`."""
    return to_response(to_service_error(exception), request)


def page_forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`handler403`."""
    return to_response(to_service_error(exception), request)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`handler404`."""
    return to_response(to_service_error(exception), request)


def page_server_error(request: HttpRequest) -> HttpResponse:
    """`handler500`: for what no view has raised, such as sessions."""
    error = sys.exc_info()[1]
    told = to_service_error(error) if isinstance(error, Exception) else errors.ServiceError()
    return to_response(told, request)

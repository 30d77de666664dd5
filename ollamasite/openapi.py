"""`GET /openapi.json`: the API as an OpenAPI 3.1 document, made from the types that it runs on.

Bodies are the `msgspec.Struct`s that the views decode into, replies those of `openapi_routes`,
access is `models_app.policy`. drf-spectacular is not used: it describes serializers, parsers and
renderers, and the views here have none of the three; every part of its schema would be overridden,
and uploads, which go beside Django, could not be in it.
Format: https://spec.openapis.org/oas/v3.1.1.html. Knows no model, no caller and no request.
"""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from typing import Any, Final, Literal

import msgspec
from django.http import HttpResponse
from django.urls import URLPattern, get_resolver
from msgspec import UNSET, UnsetType

from models_app.permissions import Scope
from models_app.policy import ROUTES
from ollamasite.api_views import ReadView
from ollamasite.error_responses import Dialect, dialect_of
from ollamasite.http import JSON, PLAIN
from ollamasite.openapi_routes import OPERATIONS, Operation

_REFERENCE: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"<(?:(\w+):)?(\w+)>")
_BYTES: Final = "application/octet-stream"


class NativeErrorReply(msgspec.Struct, kw_only=True):
    """An error in Ollama's shape."""

    error: str


class OpenAIErrorDetail(msgspec.Struct, kw_only=True):
    """What is wrong; `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorReply(msgspec.Struct, kw_only=True):
    """An error in OpenAI's shape."""

    error: OpenAIErrorDetail


class AnthropicErrorDetail(msgspec.Struct, kw_only=True):
    """What is wrong."""

    type: str
    message: str


class AnthropicErrorReply(msgspec.Struct, kw_only=True):
    """An error in Anthropic's shape."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | UnsetType = UNSET


_ERRORS: Final[dict[Dialect, type[msgspec.Struct]]] = {
    Dialect.NATIVE: NativeErrorReply,
    Dialect.OPENAI: OpenAIErrorReply,
    Dialect.ANTHROPIC: AnthropicErrorReply,
}
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "An API key as password."},
}


class OpenApiView(ReadView):
    """`GET /openapi.json`."""

    async def get(self, request: Any) -> HttpResponse:
        """Return the document; it is the same for everybody."""
        del request
        return HttpResponse(_document_bytes(), content_type=JSON)


def document() -> dict[str, Any]:
    """Return the document as values that JSON can hold."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ollamasite",
            "version": metadata.version("ollamasite"),
            "description": "Ollama's API under /api, OpenAI's and Anthropic's under /v1.",
        },
        "security": [{name: []} for name in _SECURITY],
        "paths": {_path(route): dict(_operations(route)) for route in OPERATIONS},
        "components": {"schemas": _components(), "securitySchemes": _SECURITY},
    }


@cache
def _document_bytes() -> bytes:
    return msgspec.json.encode(document())


# ------------------------------------------------------------------ paths


def _path(route: str) -> str:
    return "/" + _PARAMETER.sub(r"{\2}", route)


def _operations(route: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for method, operation in OPERATIONS[route].items():
        summary = operation.summary or _view_summary(route, method)
        described = {
            "operationId": _operation_id(route, method),
            "tags": [dialect_of(f"/{route}").value],
            "summary": summary,
            "description": _access(route, method),
            "parameters": [*_path_parameters(route), *_query_parameters(operation)],
            "responses": dict(_responses(route, method, operation)),
        }
        yield method, described | _request_body(operation)


def _access(route: str, method: str) -> str:
    scope = _scope(route, method)
    return f"A key needs the scope `{scope}`." if scope else "Every key will do."


def _scope(route: str, method: str) -> Scope | None:
    rule = ROUTES[route]
    return Scope.WRITE if method.upper() in rule.changing_methods else rule.scope


def _operation_id(route: str, method: str) -> str:
    return "_".join([method, *re.findall(r"\w+", _PARAMETER.sub(r"\2", route))])


def _view_summary(route: str, method: str) -> str:
    """Return the first line of the docstring of whoever answers."""
    handler = getattr(_views()[route], method)
    return (inspect.getdoc(handler) or "").partition("\n")[0]


@cache
def _views() -> dict[str, Any]:
    return {
        str(pattern.pattern): getattr(pattern.callback, "view_class", None)
        for pattern in get_resolver().url_patterns
        if isinstance(pattern, URLPattern)
    }


def _path_parameters(route: str) -> Iterator[dict[str, Any]]:
    for kind, name in _PARAMETER.findall(route):
        # OpenAPI has no parameter that goes over a slash; clients must not escape it here.
        slashes = {"description": "May have slashes in it."} if kind == "path" else {}
        schema = {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema, **slashes}


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name, schema in operation.query:
        yield {"name": name, "in": "query", "required": False, "schema": schema}


def _request_body(operation: Operation) -> dict[str, Any]:
    if operation.takes_bytes:
        return {"requestBody": {"required": True, "content": {_BYTES: {}}}}
    if operation.body is None:
        return {}
    example = dict(operation.example)
    schema = {"allOf": [_schemas()[operation.body]], "required": list(example)}
    content = {JSON: {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _responses(route: str, method: str, operation: Operation) -> Iterator[tuple[str, Any]]:
    content: dict[str, Any] = {}
    if operation.reply is not None:
        content[JSON] = {"schema": _schemas()[operation.reply]}
    if operation.stream:
        content[operation.stream] = {"schema": {"type": "string"}}
    for status in operation.statuses:
        yield (
            str(status),
            {"description": "The answer.", **({"content": content} if content else {})},
        )
    refusal = {
        JSON: {"schema": _schemas()[_ERRORS[dialect_of(f"/{route}")]]},
        PLAIN: {"schema": {"type": "string"}},
    }
    # An answer to HEAD has no body.
    shown = {} if method == "head" else {"content": refusal}
    yield "4XX", {"description": "The request is refused.", **shown}
    yield "5XX", {"description": "The server cannot answer now.", **shown}


# ------------------------------------------------------------------ components


def _types() -> list[type]:
    operations = [each for methods in OPERATIONS.values() for each in methods.values()]
    wanted = [kind for each in operations for kind in (each.body, each.reply) if kind is not None]
    return list(dict.fromkeys([*wanted, *_ERRORS.values()]))


@cache
def _schemas_and_components() -> tuple[dict[type, dict[str, Any]], dict[str, Any]]:
    types = _types()
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    by_type = dict(zip(types, schemas, strict=True))
    bodies = [
        each.body for methods in OPERATIONS.values() for each in methods.values() if each.body
    ]
    for name in _reachable([by_type[body] for body in bodies], components):
        _let_null_be_absent(components[name])
    return by_type, components


def _schemas() -> dict[type, dict[str, Any]]:
    return _schemas_and_components()[0]


def _components() -> dict[str, Any]:
    return _schemas_and_components()[1]


def _reachable(schemas: list[dict[str, Any]], components: dict[str, Any]) -> set[str]:
    """Return the names of all components that schemas refer to, directly or not."""
    found: set[str] = set()
    pending: list[Any] = list(schemas)
    while pending:
        names = set(_references(pending.pop())) - found
        found |= names
        pending += [components[name] for name in names]
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    elif isinstance(schema, dict):
        if isinstance(target := schema.get("$ref"), str):
            yield target.rpartition("/")[2]
        for item in schema.values():
            yield from _references(item)


def _let_null_be_absent(component: dict[str, Any]) -> None:
    """Say that a body's field may be null, which every route takes for absent."""
    for name, schema in component.get("properties", {}).items():
        if schema and {"type": "null"} not in schema.get("anyOf", []):
            outer = {key: schema[key] for key in ("default",) if key in schema}
            inner = {key: item for key, item in schema.items() if key not in outer}
            component["properties"][name] = {**outer, "anyOf": [inner, {"type": "null"}]}

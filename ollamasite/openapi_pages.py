"""The pages of the API: what there is, and each operation with examples and a way to try it.

They tell the OpenAPI document, with the address by which the browser has come. Know no row of the
database.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache

from models_app.page_requests import allow
from ollamasite import openapi_examples as examples
from ollamasite import openapi_shown
from ollamasite.errors import NotFound


@never_cache
@allow("GET")
def overview(request: HttpRequest) -> HttpResponse:
    """Show every operation in a line; `q` narrows them."""
    words = request.GET.get("q", "")[:200]
    context = {
        "groups": openapi_shown.found(words),
        "words": words,
        "base_url": _base_url(request),
    }
    return render(request, "ollamasite/api.html", context)


@never_cache
@allow("GET")
def operation(request: HttpRequest, operation_id: str) -> HttpResponse:
    """Show one operation. Raises NotFound."""
    shown = openapi_shown.by_id().get(operation_id)
    if shown is None:
        raise NotFound
    base_url = _base_url(request)
    context = {
        "operation": shown,
        "groups": openapi_shown.groups(),
        "base_url": base_url,
        "curl": examples.curl(shown, base_url),
        "python": examples.python(shown, base_url),
        "package": examples.python_package(shown),
        "command": examples.command_line(shown, base_url),
    }
    return render(request, "ollamasite/api_operation.html", context)


def _base_url(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").rstrip("/")

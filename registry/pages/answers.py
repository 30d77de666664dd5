"""How pages of jobs and models are answered: whole, or the part that a page asks for anew.

Knows no page.
"""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def page_or_part(
    request: HttpRequest, name: str, context: Mapping[str, Any], *, status: int = 200
) -> HttpResponse:
    """Return `registry/<name>.html`, or `registry/<name>_part.html` where htmx asks for that."""
    template = f"registry/{name}_part.html" if is_for_part(request) else f"registry/{name}.html"
    answer = render(request, template, dict(context), status=status)
    answer.headers["Vary"] = "Cookie, HX-Request"
    return answer


def is_for_part(request: HttpRequest) -> bool:
    """Whether a part of a page is asked for, to be put in place of the one that is there."""
    return request.headers.get("HX-Request") == "true"

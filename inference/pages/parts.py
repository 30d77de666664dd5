"""Pages of which a part is asked for again and again (static/inference/live.js). Knows no page."""

from django.http import HttpRequest


def is_part(request: HttpRequest) -> bool:
    """Whether htmx asks for the part of a page that changes."""
    return request.headers.get("HX-Request") == "true"

"""The requests of the matrix, made from the URLconf: each route with each method that it serves.

Their bodies are empty and what they name is not there, so that whoever is let in gets a quick
answer. Knows no credential and no rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.urls import URLPattern, URLResolver, get_resolver

from models_app.policy import PREFIXES, is_under
from registry.distribution_request import Place
from tests.access.presented import MODEL

_PARTS: Final = {
    "<path:name>": "{me}/" + MODEL,
    "<str:reference>": "latest",
    "<str:digest>": f"sha256:{'0' * 64}",
    "<str:session>": "0" * 32,
    "<str:job_id>": "0" * 32,
    "<str:request_id>": "0" * 32,
    "<int:rule_id>": "987654",
    "<int:key_id>": "987654",
    "<str:part>": "template",
    "<str:name>": "nobody",
    "<str:user>": "nobody",
    "<str:prefix>": "0" * 12,
    "<str:invite_id>": "987654",
    "<int:invite_id>": "987654",
    "<int:session_id>": "987654",
    "<str:secret>": "nothing",
    "<str:response_id>": f"resp_{'0' * 32}",
    "<str:operation_id>": "post_api_chat",
    "<str:chat_id>": "0" * 32,
    "<str:folder_id>": "0" * 32,
    "<str:image_id>": "0" * 32,
    "<uidb64>": "MQ",
    "<token>": "nothing",
}
_PAGE_METHODS: Final = ("get", "post")


@dataclass(frozen=True, slots=True)
class Cell:
    """A route with one of its methods. `path` may have `{me}` in it, the caller's name.

    `wants_token`: a form's CSRF token, where it is a page that takes forms.
    """

    route: str
    method: str
    path: str
    wants_token: bool = False

    def path_for(self, name: str) -> str:
        """Return the path as somebody asks for it."""
        return self.path.replace("{me}", name)


def cells() -> list[Cell]:
    """Return every route × method that the URLconf and the places beside Django serve."""
    beside = {place.route: {method.lower() for method in place.methods} for place in Place}
    beside["api/blobs/<str:digest>"] = {"post"}
    beside["api/nodes/blobs/<str:digest>"] = {"get", "head"}
    found = []
    for route, view in served(get_resolver().url_patterns):
        if any(is_under(route, prefix) for prefix in PREFIXES):
            continue
        methods = _methods_of(view) | beside.get(route, set())
        is_exempt = getattr(view, "csrf_exempt", False)
        found += [
            Cell(route, method.upper(), _path(route), not is_exempt) for method in sorted(methods)
        ]
    return found


def admin_routes() -> list[str]:
    """Return the routes of the admin panel, those with a regular expression left out."""
    routes = [route for route, _ in served(get_resolver().url_patterns)]
    return [route for route in routes if is_under(route, "admin") and "(" not in route]


def served(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return all routes with their views."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from served(pattern.url_patterns, route)
        else:
            assert isinstance(pattern, URLPattern)
            yield route, pattern.callback


def _methods_of(view: Any) -> set[str]:
    view_class = getattr(view, "cls", None) or getattr(view, "view_class", None)
    if view_class is None:
        return set(_PAGE_METHODS)
    names = {name for name in view_class.http_method_names if hasattr(view_class, name)}
    return names - {"options", "trace"}


def _path(route: str) -> str:
    path = f"/{route}"
    for part, value in _PARTS.items():
        path = path.replace(part, value)
    assert "<" not in path, f"{path}: say in tests/access/cells.py what stands there"
    return path

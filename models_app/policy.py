"""The policy table: for every route, who may use it and with which scope.

`gate` enforces it before any view runs; a route without a row is closed, and a test walks the
URLconf and fails on it. Knows nothing of HTTP objects.
"""

import enum
from dataclasses import dataclass
from typing import Final

from models_app.permissions import Principal, Scope


class Access(enum.Enum):
    """Who gets as far as the view."""

    PUBLIC = "public"
    SIGNED_IN = "signed in"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `open_methods` are open to all where `access` asks for somebody otherwise.

    `changing_methods` need the scope WRITE in place of the row's own.
    """

    access: Access
    scope: Scope | None = None
    open_methods: frozenset[str] = frozenset()
    changing_methods: frozenset[str] = frozenset()

    def is_open(self, method: str) -> bool:
        """Whether a request with this method needs no credential."""
        return self.access is Access.PUBLIC or method in self.open_methods

    def admits(self, principal: Principal, method: str) -> bool:
        """Whether a caller who is known may pass."""
        if self.access is Access.ADMIN and not principal.is_admin:
            return False
        scope = Scope.WRITE if method in self.changing_methods else self.scope
        return scope is None or principal.may(scope)


_PUBLIC: Final = Rule(Access.PUBLIC)
_LIVENESS: Final = Rule(Access.SIGNED_IN, open_methods=frozenset({"GET", "HEAD"}))
_PAGE: Final = Rule(Access.SIGNED_IN)
_READ: Final = Rule(Access.SIGNED_IN, Scope.READ)
_USE: Final = Rule(Access.SIGNED_IN, Scope.USE)
_WRITE: Final = Rule(Access.SIGNED_IN, Scope.WRITE)
_READ_OR_DELETE: Final = Rule(Access.SIGNED_IN, Scope.READ, changing_methods=frozenset({"DELETE"}))

# Keys are routes as the URLconf spells them.
ROUTES: Final[dict[str, Rule]] = {
    "": _LIVENESS,
    "healthz": _PUBLIC,
    "readyz": _PUBLIC,
    "signin": _PUBLIC,
    "signout": _PAGE,
    "home": _PAGE,
    "openapi.json": _READ,
    "api/version": _READ,
    "api/status": _READ,
    "api/tags": _READ,
    "api/ps": _READ,
    "api/queue": _READ,
    "api/show": _READ,
    "api/create": _WRITE,
    "api/copy": _WRITE,
    "api/delete": _WRITE,
    "api/blobs/<str:digest>": _WRITE,
    "api/generate": _USE,
    "api/chat": _USE,
    "api/embed": _USE,
    "api/embeddings": _USE,
    "v1/models": _READ,
    "v1/models/<path:name>": _READ_OR_DELETE,
    "v1/chat/completions": _USE,
    "v1/completions": _USE,
    "v1/responses": _USE,
    "v1/responses/input_tokens": _USE,
    "v1/responses/<str:response_id>": _USE,
    "v1/responses/<str:response_id>/input_items": _USE,
    "v1/responses/<str:response_id>/cancel": _USE,
    "v1/messages": _USE,
    "v1/messages/count_tokens": _USE,
    "v1/embeddings": _USE,
}
# Routes that another library makes, by the prefix that all of them have.
PREFIXES: Final[dict[str, Rule]] = {
    "admin": Rule(Access.ADMIN, Scope.ADMIN),
}
WEBSOCKETS: Final[dict[str, Rule]] = {
    "ws/chat": _USE,
}
# A path that no route matches: strangers learn nothing, others get the router's 404.
UNKNOWN: Final = Rule(Access.SIGNED_IN)
# Longest prefix of files that need no sign-in; they are served before Django.
STATIC_PREFIX: Final = "/static/"


def rule_of(route: str | None) -> Rule:
    """Return the row of a route; None stands for a path that no route matches."""
    if route is None:
        return UNKNOWN
    by_prefix = (rule for prefix, rule in PREFIXES.items() if is_under(route, prefix))
    return ROUTES.get(route) or next(by_prefix, UNKNOWN)


def is_under(route: str, prefix: str) -> bool:
    """Whether a route is the prefix or something below it."""
    return route == prefix or route.startswith(f"{prefix}/")

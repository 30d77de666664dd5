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
    """One row. `public_methods` narrows PUBLIC to some methods."""

    access: Access
    scope: Scope | None = None

    def admits(self, principal: Principal | None) -> bool:
        """Whether a caller who is known, or nobody (None), may pass."""
        if self.access is Access.PUBLIC:
            return True
        if principal is None or (self.access is Access.ADMIN and not principal.is_admin):
            return False
        return self.scope is None or principal.may(self.scope)


_PUBLIC: Final = Rule(Access.PUBLIC)
_PAGE: Final = Rule(Access.SIGNED_IN)
_READ: Final = Rule(Access.SIGNED_IN, Scope.READ)
_USE: Final = Rule(Access.SIGNED_IN, Scope.USE)

# Keys are routes as the URLconf spells them.
ROUTES: Final[dict[str, Rule]] = {
    "": _PUBLIC,
    "healthz": _PUBLIC,
    "readyz": _PUBLIC,
    "signin": _PUBLIC,
    "signout": _PAGE,
    "home": _PAGE,
    "api/version": _READ,
    "api/tags": _READ,
    "api/ps": _READ,
    "api/show": _READ,
    "api/generate": _USE,
    "api/chat": _USE,
    "v1/models": _READ,
    "v1/models/<path:name>": _READ,
    "v1/chat/completions": _USE,
}
WEBSOCKETS: Final[dict[str, Rule]] = {
    "ws/chat": _USE,
}
# A path that no route matches: strangers learn nothing, others get the router's 404.
UNKNOWN: Final = Rule(Access.SIGNED_IN)
# Longest prefix of files that need no sign-in; they are served before Django.
STATIC_PREFIX: Final = "/static/"

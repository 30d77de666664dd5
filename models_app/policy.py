"""The policy table: for every route, who may use it and with which scope.

`gate` enforces it before any view runs; a route without a row is closed, and a test walks the
URLconf and fails on it. What a row asks about the thing that a request names (`asks`) is enforced
by the services, which know the thing; a test holds them to it. Knows nothing of HTTP objects.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from models_app.demands import Demand
from models_app.permissions import CredentialKind, Principal, Scope

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Access(enum.Enum):
    """Who gets as far as the view."""

    PUBLIC = "public"
    SIGNED_IN = "signed in"
    ACCOUNT = "account"  # whose credential reaches the account itself; rights are asked further in
    AUDITOR = "auditor"  # looks at what is recorded; what changes anything is for admins
    NODE = "node"  # machines that run models, by their join token, and nobody else
    STAFF = "staff"  # looks after the site, or after what is recorded; each page asks further


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `open_methods` are open to all where `access` asks for somebody otherwise.

    `changing_methods` need the scope WRITE in place of the row's own, `account_methods` a
    credential that reaches the account, `unlimited_methods` one without any limits of its own: they
    decide who gets in and as what. `is_for_sessions`: a person who has signed in, no program; there
    is given away what no key's scopes would limit. `is_for_scrapers`: programs that the settings
    name pass without a credential (`models_app.scrapers`).
    """

    access: Access
    scope: Scope | None = None
    open_methods: frozenset[str] = frozenset()
    changing_methods: frozenset[str] = frozenset()
    account_methods: frozenset[str] = frozenset()
    unlimited_methods: frozenset[str] = frozenset()
    is_for_sessions: bool = False
    is_for_scrapers: bool = False
    asks: Mapping[str, Demand] = field(default_factory=dict)  # by method; HEAD asks what GET does

    def asking(self, **asks: Demand) -> "Rule":
        """Return the row of a route that asks this, by method, of whoever the row lets in."""
        return replace(self, asks=asks)

    def unlimited(self, *methods: str) -> "Rule":
        """Return the row of a route that wants a credential without limits for these methods."""
        return replace(self, unlimited_methods=frozenset(methods))

    def demand(self, method: str) -> Demand:
        """Return what is asked about the thing that a request names."""
        return self.asks.get("GET" if method == "HEAD" else method, Demand.NOTHING)

    def is_open(self, method: str) -> bool:
        """Whether a request with this method needs no credential."""
        return self.access is Access.PUBLIC or method in self.open_methods

    def admits(self, principal: Principal, method: str) -> bool:
        """Whether a caller who is known may pass."""
        is_enough = method not in self.unlimited_methods or principal.is_unlimited
        return is_enough and self.admits_owner(principal, method)

    def admits_owner(self, principal: Principal, method: str) -> bool:
        """Whether a caller may pass, or may with a credential that has no limits of its own."""
        if self.access is Access.NODE or principal.kind is CredentialKind.NODE:
            return self.access is Access.NODE and principal.kind is CredentialKind.NODE
        if self.access is Access.STAFF and not (principal.is_operator or principal.is_auditor):
            return False
        if self.access in {Access.ACCOUNT, Access.AUDITOR}:
            return principal.is_for_account and self._is_looked_at_by(principal, method)
        if self.is_for_sessions and principal.kind is not CredentialKind.SESSION:
            return False
        if method in self.account_methods:
            return principal.is_for_account
        scope = self._scope_for(method)
        return scope is None or principal.may(scope)

    def _is_looked_at_by(self, principal: Principal, method: str) -> bool:
        if self.access is not Access.AUDITOR:
            return True
        return principal.is_auditor if method in _SAFE_METHODS else principal.is_admin

    def is_change(self, method: str) -> bool:
        """Whether a request with this method changes what is stored, beyond a use's traces."""
        is_writing = self._scope_for(method) not in {Scope.READ, Scope.USE}
        return is_writing and method not in _SAFE_METHODS

    def _scope_for(self, method: str) -> Scope | None:
        if method in self.account_methods:
            return Scope.ADMIN
        return Scope.WRITE if method in self.changing_methods else self.scope


_PUBLIC: Final = Rule(Access.PUBLIC)
_NODE: Final = Rule(Access.NODE)
_LIVENESS: Final = Rule(Access.SIGNED_IN, open_methods=frozenset({"GET", "HEAD"}))
_PAGE: Final = Rule(Access.SIGNED_IN)
_READ: Final = Rule(Access.SIGNED_IN, Scope.READ)
_USE: Final = Rule(Access.SIGNED_IN, Scope.USE)
_WRITE: Final = Rule(Access.SIGNED_IN, Scope.WRITE)
_READ_OR_POST: Final = Rule(Access.SIGNED_IN, Scope.READ, changing_methods=frozenset({"POST"}))
# What is given to others outlives the key that gives it.
_READ_OR_SHARE: Final = Rule(Access.SIGNED_IN, Scope.READ, account_methods=frozenset({"PATCH"}))
_READ_OR_DELETE: Final = Rule(Access.SIGNED_IN, Scope.READ, changing_methods=frozenset({"DELETE"}))

# A key needs the scope ADMIN for these, or none at all, and no patterns of models.
_ACCOUNT: Final = Rule(Access.ACCOUNT, Scope.ADMIN)
_RECORDS: Final = Rule(Access.AUDITOR, Scope.ADMIN)
# Whatever one may do, one may know who one is.
_SELF: Final = Rule(Access.SIGNED_IN, changing_methods=frozenset({"PATCH"}))
# Whatever a key may do, it may look at itself, rotate itself and end itself; others are not found.
_OWN_KEY: Final = Rule(Access.SIGNED_IN)
# Whoever may do anything may know how much of it is left.
_OWN_LIMITS: Final = Rule(Access.SIGNED_IN)
_OWN_ACCOUNT: Final = Rule(Access.SIGNED_IN, is_for_sessions=True)
# Pages with forms: programs have routes of their own for what these do.
_BY_FORM: Final = Rule(Access.SIGNED_IN, Scope.WRITE, is_for_sessions=True)
# What people say to a model is theirs; no program is given it with a key.
_OWN_CHATS: Final = Rule(Access.SIGNED_IN, Scope.USE, is_for_sessions=True)
# Repositories of the registry; a registry token is looked at where the repository is found.
_READ_OR_CHANGE: Final = Rule(
    Access.SIGNED_IN,
    Scope.READ,
    changing_methods=frozenset({"POST", "PUT", "PATCH", "DELETE"}),
)

_FIGURES: Final = Rule(Access.STAFF, account_methods=_SAFE_METHODS, is_for_scrapers=True)

# Keys are routes as the URLconf spells them.
ROUTES: Final[dict[str, Rule]] = {
    "": _LIVENESS,
    "healthz": _PUBLIC,
    "readyz": _PUBLIC,
    "metrics": _FIGURES,
    "signin": _PUBLIC,
    "signup": _PUBLIC,
    "invite": _PUBLIC,
    "invite/<str:secret>": _PUBLIC,
    "password/<uidb64>/<token>": _PUBLIC,
    "password": _OWN_ACCOUNT,
    "signout": _PAGE,
    "home": _PAGE,
    "keys": _OWN_ACCOUNT,
    "keys/new": _OWN_ACCOUNT,
    "keys/<str:prefix>": _OWN_ACCOUNT.asking(GET=Demand.KEY),
    "keys/<str:prefix>/rename": _OWN_ACCOUNT.asking(POST=Demand.KEY_NAME),
    "keys/<str:prefix>/rotate": _OWN_ACCOUNT.asking(POST=Demand.KEY_MAKER),
    "keys/<str:prefix>/revoke": _OWN_ACCOUNT.asking(POST=Demand.KEY),
    "queue": _PAGE,
    "queue/<str:request_id>/cancel": _OWN_ACCOUNT.asking(POST=Demand.OWN_OR_OPERATOR),
    "chat": _OWN_CHATS,
    "chat/list": _OWN_CHATS,
    "chat/folders": _OWN_CHATS,
    "chat/folders/<str:folder_id>/rename": _OWN_CHATS.asking(POST=Demand.OWN),
    "chat/folders/<str:folder_id>/delete": _OWN_CHATS.asking(POST=Demand.OWN),
    "chat/images/<str:image_id>": _OWN_CHATS.asking(GET=Demand.OWN),
    "chat/<str:chat_id>": _OWN_CHATS.asking(GET=Demand.OWN),
    "chat/<str:chat_id>/messages": _OWN_CHATS.asking(GET=Demand.OWN),
    "chat/<str:chat_id>/export": _OWN_CHATS.asking(GET=Demand.OWN),
    "chat/<str:chat_id>/rename": _OWN_CHATS.asking(POST=Demand.OWN),
    "chat/<str:chat_id>/move": _OWN_CHATS.asking(POST=Demand.OWN),
    "chat/<str:chat_id>/pin": _OWN_CHATS.asking(POST=Demand.OWN),
    "chat/<str:chat_id>/delete": _OWN_CHATS.asking(POST=Demand.OWN),
    "chat/<str:chat_id>/head": _OWN_CHATS.asking(POST=Demand.OWN),
    "chat/<str:chat_id>/system": _OWN_CHATS.asking(POST=Demand.OWN),
    "teams": _OWN_ACCOUNT.asking(POST=Demand.ADMIN),
    "teams/<str:name>": _OWN_ACCOUNT.asking(GET=Demand.IN_TEAM),
    "teams/<str:name>/description": _OWN_ACCOUNT.asking(POST=Demand.TEAM_OWNER),
    "teams/<str:name>/allowed-models": _OWN_ACCOUNT.asking(POST=Demand.ADMIN),
    "teams/<str:name>/delete": _OWN_ACCOUNT.asking(POST=Demand.TEAM_OWNER),
    "teams/<str:name>/invites": _OWN_ACCOUNT.asking(POST=Demand.TEAM_OWNER),
    "teams/<str:name>/members": _OWN_ACCOUNT.asking(POST=Demand.ADMIN),
    "teams/<str:name>/members/<str:user>": _OWN_ACCOUNT.asking(POST=Demand.TEAM_OWNER),
    "teams/<str:name>/members/<str:user>/remove": _OWN_ACCOUNT.asking(POST=Demand.MEMBER),
    "teams/<str:name>/service-accounts": _OWN_ACCOUNT.asking(POST=Demand.TEAM_OWNER),
    "teams/<str:name>/service-accounts/<str:user>/deactivate": _OWN_ACCOUNT.asking(
        POST=Demand.SERVICE
    ),
    "teams/<str:name>/service-accounts/<str:user>/activate": _OWN_ACCOUNT.asking(
        POST=Demand.SERVICE
    ),
    "invites": _OWN_ACCOUNT.asking(POST=Demand.ADMIN),
    "invites/<int:invite_id>/revoke": _OWN_ACCOUNT.asking(POST=Demand.INVITE),
    "profile": _OWN_ACCOUNT,
    "profile/home-team": _OWN_ACCOUNT,
    "profile/export": _OWN_ACCOUNT,
    "profile/delete": _OWN_ACCOUNT,
    "sessions/end-others": _OWN_ACCOUNT,
    "sessions/<int:session_id>/end": _OWN_ACCOUNT.asking(POST=Demand.OWN),
    "client-keys": _OWN_ACCOUNT,
    "client-keys/<int:key_id>/remove": _OWN_ACCOUNT.asking(POST=Demand.OWN),
    "models/pull": _BY_FORM,
    "models/pull/check": _BY_FORM,
    "models/create": _BY_FORM,
    "models/create/check": _BY_FORM,
    "models/upload": _BY_FORM,
    "models/upload/begin": _BY_FORM,
    "models/upload/finish": _BY_FORM,
    "jobs": _READ,
    "jobs/strip": _READ,
    "jobs/<str:job_id>": _READ.asking(GET=Demand.OWN_OR_OPERATOR),
    "jobs/<str:job_id>/cancel": _BY_FORM.asking(POST=Demand.OWN_OR_OPERATOR),
    "jobs/<str:job_id>/retry": _BY_FORM.asking(POST=Demand.OWN_OR_OPERATOR),
    "jobs/<str:job_id>/dismiss": _BY_FORM.asking(POST=Demand.OWN_OR_OPERATOR),
    "models": _READ,
    "models/<path:name>": _READ.asking(GET=Demand.MODEL_READ),
    "models/<path:name>/text/<str:part>": _READ.asking(GET=Demand.MODEL_READ),
    "models/<path:name>/load": _OWN_ACCOUNT.asking(POST=Demand.MODEL_USE),
    "models/<path:name>/unload": _OWN_ACCOUNT.asking(POST=Demand.MODEL_USE),
    "models/<path:name>/pin": _OWN_ACCOUNT.asking(POST=Demand.MODEL_PIN),
    "models/<path:name>/copy": _OWN_ACCOUNT.asking(GET=Demand.MODEL_PULL, POST=Demand.MODEL_PULL),
    "models/<path:name>/delete": _OWN_ACCOUNT.asking(
        GET=Demand.MODEL_MANAGE, POST=Demand.MODEL_MANAGE
    ),
    "models/<path:name>/access": _OWN_ACCOUNT.asking(
        GET=Demand.MODEL_MANAGE, POST=Demand.MODEL_MANAGE
    ),
    "usage": _ACCOUNT,
    "usage/requests": _ACCOUNT,
    "usage/requests/<str:request_id>": _ACCOUNT.asking(GET=Demand.USE),
    "usage/export.csv": _ACCOUNT,
    "openapi.json": _READ,
    "api-docs": _PAGE,
    "api-docs/<str:operation_id>": _PAGE,
    "api/version": _READ,
    "api/status": _READ,
    "api/storage": _READ,
    "api/tags": _READ,
    "api/ps": _READ,
    "api/queue": _READ,
    "api/queue/<str:request_id>/cancel": _USE.asking(POST=Demand.OWN_OR_OPERATOR),
    "api/show": _READ.asking(POST=Demand.MODEL_READ),
    "api/create": _WRITE,
    "api/pull": _WRITE,
    "api/push": _WRITE.asking(POST=Demand.MODEL_PULL),
    "api/copy": _WRITE.asking(POST=Demand.MODEL_PULL),
    "api/delete": _WRITE.asking(DELETE=Demand.MODEL_MANAGE),
    "api/blobs/<str:digest>": _WRITE,
    "api/nodes/join": _NODE,
    "api/nodes/blobs/<str:digest>": _NODE,
    "api/audit": _RECORDS,
    "api/usage": _ACCOUNT,
    "api/usage/requests": _ACCOUNT,
    "api/usage/export": _ACCOUNT,
    "api/me": _SELF,
    "api/users": _RECORDS.asking(POST=Demand.ADMIN).unlimited("POST"),
    "api/users/<str:name>": _RECORDS.unlimited("PATCH"),
    "api/users/<str:name>/approve": _RECORDS.unlimited("POST"),
    "api/users/<str:name>/activate": _ACCOUNT.asking(POST=Demand.SERVICE).unlimited("POST"),
    "api/users/<str:name>/deactivate": _ACCOUNT.asking(POST=Demand.SERVICE),
    "api/users/<str:name>/sessions/end": _ACCOUNT.asking(POST=Demand.OWN_OR_ADMIN),
    "api/users/<str:name>/password-link": _RECORDS.unlimited("POST"),
    "api/teams": _ACCOUNT.asking(POST=Demand.ADMIN).unlimited("POST"),
    "api/teams/<str:name>": _ACCOUNT.asking(
        GET=Demand.IN_TEAM, PATCH=Demand.TEAM_OWNER, DELETE=Demand.TEAM_OWNER
    ),
    "api/teams/<str:name>/members": _ACCOUNT.asking(GET=Demand.IN_TEAM),
    "api/teams/<str:name>/members/<str:user>": _ACCOUNT.asking(
        PUT=Demand.TEAM_OWNER, DELETE=Demand.MEMBER
    ).unlimited("PUT"),
    "api/teams/<str:name>/service-accounts": _ACCOUNT.asking(
        GET=Demand.IN_TEAM, POST=Demand.TEAM_OWNER
    ).unlimited("POST"),
    "api/invites": _ACCOUNT.asking(POST=Demand.INVITER).unlimited("POST"),
    "api/invites/<str:invite_id>": _ACCOUNT.asking(DELETE=Demand.INVITE),
    "api/me/export": _ACCOUNT.unlimited("GET"),
    "api/me/delete": _OWN_ACCOUNT,
    "api/keys": _ACCOUNT,
    "api/keys/<str:prefix>": _OWN_KEY.asking(
        GET=Demand.KEY, PATCH=Demand.KEY_NAME, DELETE=Demand.KEY
    ),
    "api/keys/<str:prefix>/rotate": _OWN_KEY.asking(POST=Demand.KEY_MAKER),
    "api/access": _READ_OR_SHARE.asking(GET=Demand.MODEL_MANAGE, PATCH=Demand.MODEL_MANAGE),
    "api/limits": _OWN_LIMITS,
    "api/limit-rules": _RECORDS.unlimited("PUT"),
    "api/limit-rules/<int:rule_id>": _RECORDS.unlimited("PATCH", "DELETE"),
    "api/jobs": _READ_OR_POST,
    "api/jobs/<str:job_id>": _READ.asking(GET=Demand.OWN_OR_OPERATOR),
    "api/jobs/<str:job_id>/cancel": _WRITE.asking(POST=Demand.OWN_OR_OPERATOR),
    "api/jobs/<str:job_id>/retry": _WRITE.asking(POST=Demand.OWN_OR_OPERATOR),
    "api/jobs/<str:job_id>/events": _READ.asking(GET=Demand.OWN_OR_OPERATOR),
    "api/generate": _USE.asking(POST=Demand.MODEL_USE),
    "api/chat": _USE.asking(POST=Demand.MODEL_USE),
    "api/embed": _USE.asking(POST=Demand.MODEL_USE),
    "api/embeddings": _USE.asking(POST=Demand.MODEL_USE),
    "v1/models": _READ,
    "v1/models/<path:name>": _READ_OR_DELETE.asking(
        GET=Demand.MODEL_READ, DELETE=Demand.MODEL_MANAGE
    ),
    "v1/chat/completions": _USE.asking(POST=Demand.MODEL_USE),
    "v1/completions": _USE.asking(POST=Demand.MODEL_USE),
    "v1/responses": _USE.asking(POST=Demand.MODEL_USE),
    "v1/responses/input_tokens": _USE.asking(POST=Demand.MODEL_USE),
    "v1/responses/<str:response_id>": _USE.asking(GET=Demand.OWN, DELETE=Demand.OWN),
    "v1/responses/<str:response_id>/input_items": _USE.asking(GET=Demand.OWN),
    "v1/responses/<str:response_id>/cancel": _USE.asking(POST=Demand.OWN),
    "v1/messages": _USE.asking(POST=Demand.MODEL_USE),
    "v1/messages/count_tokens": _USE.asking(POST=Demand.MODEL_USE),
    "v1/embeddings": _USE.asking(POST=Demand.MODEL_USE),
    "v2": _READ,
    "v2/": _READ,
    "v2/_catalog": _READ,
    "v2/<path:name>/manifests/<str:reference>": _READ_OR_CHANGE.asking(
        GET=Demand.MODEL_PULL, PUT=Demand.MODEL_PUSH, DELETE=Demand.MODEL_MANAGE
    ),
    "v2/<path:name>/tags/list": _READ.asking(GET=Demand.MODEL_PULL),
    "v2/<path:name>/referrers/<str:digest>": _READ,  # there never are any
    # What such a token is for is limited by the credential that it is fetched with.
    "v2/token": Rule(Access.SIGNED_IN),
    "v2/<path:name>/blobs/uploads/": _READ_OR_CHANGE.asking(POST=Demand.MODEL_PUSH),
    "v2/<path:name>/blobs/uploads/<str:session>": _READ_OR_CHANGE,
    "v2/<path:name>/blobs/<str:digest>": _READ_OR_CHANGE.asking(
        GET=Demand.MODEL_PULL, DELETE=Demand.MODEL_MANAGE
    ),
}
# Routes that another library makes, by the prefix that all of them have.
PREFIXES: Final[dict[str, Rule]] = {
    "admin": Rule(Access.STAFF, is_for_sessions=True),
}
WEBSOCKETS: Final[dict[str, Rule]] = {
    "ws/chat": _USE,
    "ws/chats": _OWN_CHATS,
    "ws/jobs": _READ,
}
# A path that no route matches: strangers learn nothing, others get the router's 404.
UNKNOWN: Final = Rule(Access.SIGNED_IN)


def rule_of(route: str | None) -> Rule:
    """Return the row of a route; None stands for a path that no route matches."""
    if route is None:
        return UNKNOWN
    by_prefix = (rule for prefix, rule in PREFIXES.items() if is_under(route, prefix))
    return ROUTES.get(route) or next(by_prefix, UNKNOWN)


def is_under(route: str, prefix: str) -> bool:
    """Whether a route is the prefix or something below it."""
    return route == prefix or route.startswith(f"{prefix}/")

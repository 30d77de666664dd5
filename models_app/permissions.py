"""Who may do what: principals, scopes and pure predicates.

Knows nothing of HTTP, of how a credential was presented and of the database.
"""

import enum
from dataclasses import dataclass, field


class Scope(enum.StrEnum):
    """What a key may be used for. A key without scopes may do all that its owner may."""

    READ = "read"  # list and show models, see what is loaded
    USE = "use"  # generate
    WRITE = "write"  # create, copy, delete, pull, push
    ADMIN = "admin"  # administration of the site


class Verb(enum.StrEnum):
    """What somebody wants to do with a model."""

    READ = "read"
    USE = "use"
    MANAGE = "manage"


class CredentialKind(enum.StrEnum):
    """How a principal proved who they are."""

    KEY = "key"
    SESSION = "session"
    SIGNATURE = "signature"  # by a registered ed25519 key
    REGISTRY_TOKEN = "registry token"  # noqa: S105 - no secret


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request comes from, after any credential has been checked."""

    user_id: int
    username: str
    is_admin: bool
    kind: CredentialKind
    key_id: int | None = None
    scopes: frozenset[Scope] = field(default_factory=frozenset)
    # What a registry token is for: `repository:<namespace>/<model>:<action>` and the like; None
    # for every other credential, which is for all that its scopes reach.
    granted: frozenset[str] | None = None
    client_key_id: int | None = None  # the registered ed25519 key, where one has signed

    # DRF and templates ask these of a user.
    is_authenticated = True
    is_active = True

    @property
    def namespace(self) -> str:
        """The namespace that belongs to the user alone."""
        return self.username

    def may(self, scope: Scope) -> bool:
        """Whether the credential reaches as far as `scope`."""
        if scope is Scope.ADMIN and not self.is_admin:
            return False
        return not self.scopes or scope in self.scopes


def may_write_library(principal: Principal) -> bool:
    """Whether a bare name is written to the site's shared namespace."""
    return principal.is_admin

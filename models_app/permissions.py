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

    READ = "read"  # list and show
    USE = "use"  # generate
    PULL = "pull"  # download its files
    PUSH = "push"  # upload new versions of it
    MANAGE = "manage"  # all of it: who may see it, copy over it, delete it


class SiteRole(enum.StrEnum):
    """What somebody may do for the whole site, besides administrators, who may do all of it."""

    NONE = ""
    OPERATOR = "operator"  # models, jobs and nodes; no people and no keys
    AUDITOR = "auditor"  # looks at everything that is recorded, changes nothing


class TeamRole(enum.StrEnum):
    """What a member may do in a team; each may do what the ones before may."""

    VIEWER = "viewer"  # sees the team's models and members
    MEMBER = "member"  # uses and downloads the team's models
    MAINTAINER = "maintainer"  # creates, pushes, deletes them; keys of its service accounts
    OWNER = "owner"  # members, invites, the team itself

    def reaches(self, role: "TeamRole") -> bool:
        """Whether this role may do what that one may."""
        order = list(TeamRole)
        return order.index(self) >= order.index(role)


@dataclass(frozen=True, slots=True)
class TeamPlace:
    """A place in a team. `name` is the team's, and of its namespace."""

    team_id: int
    name: str
    role: TeamRole


class CredentialKind(enum.StrEnum):
    """How a principal proved who they are."""

    KEY = "key"
    SESSION = "session"
    SIGNATURE = "signature"  # by a registered ed25519 key
    REGISTRY_TOKEN = "registry token"  # noqa: S105 - no secret
    NODE = "node"  # no person's: a machine that runs models


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
    key_name: str = ""  # what the key is called, and its prefix
    # Whether the key is good from some networks alone, until some day, for so much use, or as long
    # as its owner is in a team.
    is_bounded: bool = False
    # Of a session: its key, and what it must know of the account to be good still.
    session: tuple[str, str] | None = field(default=None, repr=False)
    site_role: SiteRole = SiteRole.NONE
    teams: tuple[TeamPlace, ...] = ()
    team: TeamPlace | None = None  # to which what is used counts
    # Patterns of names of the models that the key is for; empty: all that its owner may use.
    model_patterns: tuple[str, ...] = ()
    # Patterns of the shared models that the user may use; None: all of them.
    allowed_models: tuple[str, ...] | None = None

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

    @property
    def is_for_account(self) -> bool:
        """Whether the credential reaches the account itself: its keys, its teams and the like.

        That is every one without limits of its own, and keys for administration.
        """
        if self.granted is not None or self.model_patterns:
            return False
        return not self.scopes or Scope.ADMIN in self.scopes

    @property
    def is_unlimited(self) -> bool:
        """Whether the credential is for all that its owner may do, from everywhere and for good.

        Whatever has no limits either, such as an account, is given out by such a one alone: a key
        would give more than it is itself.
        """
        return self.is_for_account and not self.scopes and not self.is_bounded

    @property
    def is_operator(self) -> bool:
        """Whether they look after the site's models, jobs and nodes."""
        return self.is_admin or self.site_role is SiteRole.OPERATOR

    @property
    def may_operate(self) -> bool:
        """Whether they look after them by this credential too."""
        return self.is_operator and self.is_for_account

    @property
    def is_auditor(self) -> bool:
        """Whether they may look at everything that is recorded."""
        return self.is_admin or self.site_role is SiteRole.AUDITOR

    def place_in(self, namespace: str) -> TeamPlace | None:
        """Return the place in the team of this name, in whatever case it is written."""
        wanted = namespace.lower()
        return next((place for place in self.teams if place.name.lower() == wanted), None)

    def role_in(self, namespace: str) -> TeamRole | None:
        """Return the role in the team of this name, in whatever case it is written."""
        place = self.place_in(namespace)
        return None if place is None else place.role

    def reaches_in(self, namespace: str, role: TeamRole) -> bool:
        """Whether their place in the team of this name is as high as `role`."""
        own = self.role_in(namespace)
        return own is not None and own.reaches(role)


def may_write_library(principal: Principal) -> bool:
    """Whether a bare name is written to the site's shared namespace."""
    return principal.is_operator

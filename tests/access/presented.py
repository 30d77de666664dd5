"""Every kind of credential in every state, for each role of the site, and who it stands for.

    people = Pool()                                          # makes rows
    shown = people.show(Shown.SESSION, SiteRole.AUDITOR)     # who that is, and how to send it

Knows no route and no rule.
"""

import enum
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.utils import timezone

from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import User
from models_app.permissions import CredentialKind, Principal, Scope
from models_app.principals import holder_of_key, principal_of_user
from tests.credentials import CSRF_TOKEN, Holder, Way, key_headers

MODEL: Final = "thing"


class Role(enum.StrEnum):
    """What somebody is for the site."""

    USER = "user"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Shown(enum.Enum):
    """A credential and its state. The value says whether it is anybody's."""

    NONE = (1, False)
    NONSENSE = (2, False)
    EXPIRED = (3, False)
    REVOKED = (4, False)
    FOREIGN = (5, False)  # from a network that the key is not for
    LEFT_KEY = (6, False)  # of one whose account has ended
    LEFT_SIGNATURE = (7, False)
    LEFT_SESSION = (8, False)
    NO_CSRF = (9, False)  # a session alone proves nothing beside pages
    BEARER = (10, True)
    X_API_KEY = (11, True)
    BASIC = (12, True)
    BARE = (13, True)
    SIGNATURE = (14, True)
    SESSION = (15, True)
    READ = (16, True)  # keys with one scope
    USE = (17, True)
    WRITE = (18, True)
    ADMIN = (19, True)
    PATTERN = (20, True)  # a key for some models
    BOUNDED = (21, True)  # a key with an end

    @property
    def is_somebody(self) -> bool:
        """Whether the API takes it for anybody's."""
        return self.value[1]


_WAYS: Final = {
    Shown.BEARER: Way.BEARER,
    Shown.X_API_KEY: Way.X_API_KEY,
    Shown.BASIC: Way.BASIC,
    Shown.BARE: Way.BARE,
    Shown.SIGNATURE: Way.SIGNATURE,
    Shown.SESSION: Way.SESSION,
}
KEY_WAYS: Final = (Shown.BEARER, Shown.X_API_KEY, Shown.BASIC, Shown.BARE)
_LEFT: Final = {
    Shown.LEFT_KEY: Way.BEARER,
    Shown.LEFT_SIGNATURE: Way.SIGNATURE,
    Shown.LEFT_SESSION: Way.SESSION,
}


@dataclass(slots=True)
class Person:
    """Somebody of a role, with one credential of each kind, and one of the role who has left."""

    holder: Holder
    left: Holder
    secrets: dict[Shown, str]
    principals: dict[Shown, Principal]

    def request(self, shown: Shown, method: str, path: str) -> tuple[str, dict[str, str]]:
        """Return the path and the headers of a request that shows a credential."""
        if shown is Shown.NONE:
            return path, {}
        if shown is Shown.NO_CSRF:
            session = self.holder.browser.cookies["ollamasite_session"].value
            return path, {"cookie": f"ollamasite_session={session}"}
        if shown in _LEFT:
            return self.left.present(_LEFT[shown], method, path)
        if shown in _WAYS:
            return self.holder.present(_WAYS[shown], method, path)
        return path, key_headers(Way.BEARER, self.secrets[shown])


def make_person(role: Role) -> Person:
    """Make somebody of a role. Makes rows."""
    holder, left = Holder(_user(role, role)), Holder(_user(f"{role}-left", role))
    user = holder.user
    past = timezone.now() - timedelta(seconds=1)
    rules = {
        Shown.EXPIRED: KeyRules(expires_at=past),
        Shown.REVOKED: KeyRules(),
        Shown.FOREIGN: KeyRules(networks=("192.0.2.0/24",)),
        Shown.READ: KeyRules(scopes=(Scope.READ,)),
        Shown.USE: KeyRules(scopes=(Scope.USE,)),
        Shown.WRITE: KeyRules(scopes=(Scope.WRITE,)),
        Shown.ADMIN: KeyRules(scopes=(Scope.ADMIN,)),
        Shown.BOUNDED: KeyRules(expires_at=timezone.now() + timedelta(days=1)),
        Shown.PATTERN: KeyRules(models=(f"{user.username}/{MODEL}",)),
    }
    secrets = {Shown.NONSENSE: "sk-nonsense"}
    principals = {
        Shown.SESSION: principal_of_user(user, CredentialKind.SESSION),
        Shown.SIGNATURE: principal_of_user(user, CredentialKind.SIGNATURE),
        **dict.fromkeys(KEY_WAYS, _principal(holder.key.pk)),
    }
    for shown, each in rules.items():
        key, secrets[shown] = create_key(user, shown.name, each)
        if shown is Shown.REVOKED:
            revoke_key(key)
        elif shown.is_somebody:
            principals[shown] = _principal(key.pk)
    User.objects.filter(pk=left.user.pk).update(is_active=False)
    return Person(holder, left, secrets, principals)


def _principal(key_id: int) -> Principal:
    found = holder_of_key(key_id)
    assert found is not None
    return found.principal


def _user(name: str, role: Role) -> User:
    is_admin = role is Role.ADMIN
    site_role = "" if role in {Role.USER, Role.ADMIN} else str(role)
    return User.objects.create_user(
        name, password=None, is_staff=is_admin, is_superuser=is_admin, site_role=site_role
    )


__all__ = ["CSRF_TOKEN", "KEY_WAYS", "MODEL", "Person", "Role", "Shown", "make_person"]

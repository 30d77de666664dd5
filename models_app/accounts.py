"""Accounts: the writes. Knows nothing of HTTP or of how a credential is presented."""

import secrets
from dataclasses import dataclass
from typing import Final

from models_app import audit
from models_app.keys import create_key
from models_app.models import Team, User
from models_app.permissions import Principal
from models_app.site_names import take_name
from ollamasite.errors import Conflict

_MOST_SERVICE_ACCOUNTS: Final = 50  # of a team, that are open


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """The first administrator, with the secrets that are shown once."""

    username: str
    password: str
    api_key: str


@audit.act()
def create_user(
    username: str, password: str | None, *, is_admin: bool = False, by: Principal | None = None
) -> User:
    """Create an account; without a password, nobody signs in to it until it has got one.

    Raises ValidationError with sentences for the person who typed it.

    `by` None: the site itself, or the person who gets the account.
    """
    take_name(username, of="user")
    user = User.objects.create_user(
        username, password=password, is_staff=is_admin, is_superuser=is_admin
    )
    audit.record("user.create", username, by=by, is_admin=is_admin)
    return user


@audit.act()
def create_first_admin() -> FirstAdmin | None:
    """Create `admin` with a key where the site has no user at all, else return None."""
    if User.objects.exists():
        return None
    password = secrets.token_urlsafe(12)
    user = create_user("admin", password, is_admin=True)
    _, api_key = create_key(user, "first key")
    return FirstAdmin(username=user.username, password=password, api_key=api_key)


def require_room_for_service_account(team: Team) -> None:
    """Raise Conflict where a team, whose row is locked, has as many as it may have."""
    if team.service_accounts.filter(is_active=True).count() >= _MOST_SERVICE_ACCOUNTS:
        raise Conflict(f"a team has at most {_MOST_SERVICE_ACCOUNTS} service accounts")

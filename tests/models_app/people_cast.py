"""People in teams, for tests of who may do what. Knows no rule."""

from models_app.audit_log import AuditQuestion, find_entries
from models_app.auth import Credentials, authenticate
from models_app.models import User
from models_app.permissions import CredentialKind, Principal, TeamRole
from models_app.principals import principal_of_user
from models_app.teams import create_team, set_member
from ollamasite.errors import Unauthenticated

HOME = "192.0.2.7"


def seen_as(user: User) -> Principal:
    """Return the user as they are now, signed in."""
    return principal_of_user(User.objects.get(pk=user.pk), CredentialKind.SESSION)


def opens(secret: str, address: str | None = HOME) -> bool:
    """Whether a key holds, sent from an address."""
    try:
        authenticate(Credentials(key=secret, address=address))
    except Unauthenticated:
        return False
    return True


def make_team(name: str, **roles: User) -> str:
    """Make a team with people by role, in the site's own name, and return its name."""
    create_team(name, by=None)
    for role, user in roles.items():
        set_member(name, user.username, TeamRole(role), by=None)
    return name


def recorded(action: str) -> list[tuple[str, str]]:
    """Return who has done an act to what, the newest first."""
    found = find_entries(AuditQuestion(action=action), limit=100)
    return [(record.actor, record.subject) for record in found]

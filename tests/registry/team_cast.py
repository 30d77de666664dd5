"""A team for tests of rights: Alice is its maintainer, Bob a member, Vera a viewer.

Mallory and Admin are not in it. Principals are made anew from the rows, as at every request.
"""

from dataclasses import dataclass, replace
from typing import Any

from models_app.models import Membership, Team, User
from models_app.permissions import CredentialKind, Principal, TeamRole, Verb
from models_app.principals import principal_of_user
from registry import library
from registry.create import CreateModel, create_model

TEAM = "vision"


@dataclass(frozen=True, slots=True)
class TeamCast:
    """The people of the tests, by what they are to the team."""

    team: Team
    maintainer: User
    member: User
    viewer: User
    stranger: User
    admin: User


def make_cast(alice: User, bob: User, mallory: User, admin: User) -> TeamCast:
    """Create the team and its viewer."""
    team = Team.objects.create(name=TEAM)
    vera = User.objects.create_user("vera")
    roles = {alice: TeamRole.MAINTAINER, bob: TeamRole.MEMBER, vera: TeamRole.VIEWER}
    for user, role in roles.items():
        Membership.objects.create(team=team, user=user, role=role)
    return TeamCast(team, alice, bob, vera, mallory, admin)


def seen(user: User, **limits: Any) -> Principal:
    """Return a user as whoever sends a request, perhaps with the limits of a key."""
    return replace(principal_of_user(user, CredentialKind.KEY), **limits)


def make_as(user: User, name: str, *, base: str, **changes: Any) -> str:
    """Have a user create a model from another one that the site has; return its name."""
    # The base is taken by the site itself: whether the user may is another test.
    by_site = Principal(user_id=0, username="", is_admin=True, kind=CredentialKind.SESSION)
    found = library.resolve(by_site, base, Verb.READ)
    wanted = CreateModel(name=name, principal=seen(user), base=found, **changes)
    return create_model(wanted).short

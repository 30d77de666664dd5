"""A team as its page shows it: who is in it, its programs, invites and models, what one may change.

Everything is asked of the services that apply access. Knows no HTTP and no markup.
"""

from dataclasses import dataclass
from typing import Final

from models_app import authority, directory, invites, key_overview, selectors
from models_app.directory import MemberRecord, TeamRecord
from models_app.invites import InviteRecord
from models_app.key_overview import KeyCard
from models_app.permissions import Principal, TeamRole, Verb

MEMBERS_A_PAGE: Final = 100
_MOST_SERVICES: Final = 500
_MOST_INVITES: Final = 50
_MOST_MODELS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCard:
    """A service account with its keys, as far as the asker looks after them."""

    account: MemberRecord
    keys: tuple[KeyCard, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamOverview:
    """A team. `following`: the name behind which the next page of members begins; empty: none."""

    team: TeamRecord
    members: tuple[MemberRecord, ...]
    following: str
    services: tuple[ServiceCard, ...]
    invites: tuple[InviteRecord, ...]
    models: tuple[str, ...]
    is_admin: bool
    may_own: bool  # what owners may
    may_maintain: bool
    sees_invites: bool


def read(name: str, *, by: Principal, after: str = "") -> TeamOverview:
    """Return a team. Raises TeamNotFound."""
    team = directory.find_team(name, by=by)
    is_admin = authority.is_admin(by)
    may_own = is_admin or by.reaches_in(team.name, TeamRole.OWNER)
    members = directory.list_members(
        team.name, limit=MEMBERS_A_PAGE + 1, after=after, only_people=True, by=by
    )
    shown = members[:MEMBERS_A_PAGE]
    sees_invites = may_own or by.is_auditor
    return TeamOverview(
        team=team,
        members=tuple(shown),
        following=shown[-1].username if len(members) > len(shown) else "",
        services=_services(team, by),
        invites=_open_invites(team, by) if sees_invites else (),
        models=selectors.team_model_names(by, team.team_id, Verb.READ, limit=_MOST_MODELS),
        is_admin=is_admin,
        may_own=may_own,
        may_maintain=by.reaches_in(team.name, TeamRole.MAINTAINER),
        sees_invites=sees_invites,
    )


def _services(team: TeamRecord, by: Principal) -> tuple[ServiceCard, ...]:
    accounts = directory.list_members(team.name, only_services=True, limit=_MOST_SERVICES, by=by)
    cards = key_overview.key_cards(by) if accounts else []
    return tuple(
        ServiceCard(
            account=account,
            keys=tuple(
                card for card in cards if card.key.owner == account.username and card.is_good
            ),
        )
        for account in accounts
    )


def _open_invites(team: TeamRecord, by: Principal) -> tuple[InviteRecord, ...]:
    found = invites.list_invites(team_name=team.name, only_open=True, limit=_MOST_INVITES, by=by)
    return tuple(found)

"""What is said about users, teams and invites: bodies and replies of their routes.

Knows no HTTP and no row of the database. Times are RFC 3339.
"""

from datetime import datetime
from typing import Literal, TypeVar

import msgspec

from models_app.directory import MemberRecord, TeamRecord, UserRecord
from models_app.invites import InviteRecord
from models_app.permissions import SiteRole, TeamRole
from ollamasite.errors import BadRequest
from ollamasite.moments import print_moment

R = TypeVar("R", SiteRole, TeamRole)

RoleName = Literal["viewer", "member", "maintainer", "owner"]
SiteRoleName = Literal["", "operator", "auditor"]

# ------------------------------------------------------------------ users


class NewUserBody(msgspec.Struct):
    """The body of `POST /api/users`."""

    name: str = ""
    is_admin: bool = False
    site_role: str = ""


class ChangeUserBody(msgspec.Struct):
    """The body of `PATCH /api/users/<name>`; what is missing stays. `home_team` "": none."""

    is_admin: bool | None = None
    site_role: str | None = None
    home_team: str | None = None


class PlaceReply(msgspec.Struct, kw_only=True):
    """That somebody is in a team."""

    team: str
    role: RoleName


class UserReply(msgspec.Struct, kw_only=True):
    """One account. `keys`: how many good ones; `service_of`: the team that it belongs to."""

    name: str
    is_admin: bool
    site_role: SiteRoleName
    is_active: bool
    awaits_approval: bool
    service_of: str
    home_team: str
    teams: list[PlaceReply]
    keys: int
    created_at: str
    signed_in_at: str | None


class UsersReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/users`. `next`: the `after` of the next page."""

    users: list[UserReply]
    next: str | None


class PasswordLinkReply(msgspec.Struct, kw_only=True):
    """A page on which a new password is chosen, once. Shown now and never again."""

    name: str
    url: str
    expires_in_seconds: int


def user_reply(record: UserRecord) -> UserReply:
    """Return what is told about an account."""
    return UserReply(
        name=record.username,
        is_admin=record.is_admin,
        site_role=record.site_role.value,
        is_active=record.is_active,
        awaits_approval=record.awaits_approval,
        service_of=record.service_of,
        home_team=record.home_team,
        teams=[PlaceReply(team=place.team, role=place.role.value) for place in record.teams],
        keys=record.keys,
        created_at=print_moment(record.created_at),
        signed_in_at=_moment(record.signed_in_at),
    )


# ------------------------------------------------------------------ oneself


class OwnKeyReply(msgspec.Struct, kw_only=True):
    """The key that a request came with. Empty lists: no such limit."""

    name: str
    prefix: str
    scopes: list[str]
    models: list[str]
    networks: list[str]
    team: str
    expires_at: str | None


class MeReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/me`. `team`: to which this request would count."""

    name: str
    is_admin: bool
    site_role: SiteRoleName
    service_of: str
    home_team: str
    team: str
    teams: list[PlaceReply]
    credential: Literal["key", "session", "signature"]
    key: OwnKeyReply | None


class ChangeMeBody(msgspec.Struct):
    """The body of `PATCH /api/me`: the team that one's use counts to; "" for none."""

    home_team: str | None = None


# ------------------------------------------------------------------ teams


class NewTeamBody(msgspec.Struct):
    """The body of `POST /api/teams`. `owner`: the first one, a user's name."""

    name: str = ""
    description: str = ""
    owner: str = ""


class ChangeTeamBody(msgspec.Struct):
    """The body of `PATCH /api/teams/<name>`; what is missing stays."""

    description: str | None = None
    allowed_models: list[str] | None = None


class TeamReply(msgspec.Struct, kw_only=True):
    """One team. `allowed_models`: patterns, none: no list; `role`: one's own there."""

    name: str
    description: str
    allowed_models: list[str]
    members: int
    models: int
    role: RoleName | None
    created_at: str


class TeamsReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/teams`. `next`: the `after` of the next page."""

    teams: list[TeamReply]
    next: str | None


class RoleBody(msgspec.Struct):
    """The body of `PUT /api/teams/<name>/members/<user>`."""

    role: str = "member"


class MemberReply(msgspec.Struct, kw_only=True):
    """Somebody in a team. `keys`: how many good ones, of service accounts alone."""

    name: str
    role: RoleName
    is_service: bool
    is_active: bool
    is_home: bool
    keys: int
    since: str


class MembersReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/teams/<name>/members`. `next`: the `after` of the next page."""

    members: list[MemberReply]
    next: str | None


class NewServiceAccountBody(msgspec.Struct):
    """The body of `POST /api/teams/<name>/service-accounts`."""

    name: str = ""
    role: str = "member"


def team_reply(record: TeamRecord) -> TeamReply:
    """Return what is told about a team."""
    return TeamReply(
        name=record.name,
        description=record.description,
        allowed_models=list(record.allowed_models),
        members=record.members,
        models=record.models,
        role=record.role.value if record.role else None,
        created_at=print_moment(record.created_at),
    )


def member_reply(record: MemberRecord) -> MemberReply:
    """Return what is told about a member."""
    return MemberReply(
        name=record.username,
        role=record.role.value,
        is_service=record.is_service,
        is_active=record.is_active,
        is_home=record.is_home,
        keys=record.keys,
        since=print_moment(record.since),
    )


# ------------------------------------------------------------------ invites


class NewInviteBody(msgspec.Struct):
    """The body of `POST /api/invites`. No `team`: to the site alone; `days`: how long it is good.

    `note`: for whom it is.
    """

    team: str = ""
    role: str = "member"
    note: str = ""
    days: float | None = None


class InviteReply(msgspec.Struct, kw_only=True):
    """One invite, without its secret."""

    id: int
    team: str
    role: RoleName
    note: str
    state: Literal["open", "used", "revoked", "expired"]
    created_by: str
    created_at: str
    expires_at: str
    used_by: str
    used_at: str | None


class InvitesReply(msgspec.Struct, kw_only=True):
    """Answer of `GET /api/invites`, the newest first. `next`: the `before` of the next page."""

    invites: list[InviteReply]
    next: int | None


class NewInviteReply(msgspec.Struct, kw_only=True):
    """An invite with the address that is shown now and never again."""

    invite: InviteReply
    url: str


def invite_reply(record: InviteRecord) -> InviteReply:
    """Return what is told about an invite."""
    return InviteReply(
        id=record.invite_id,
        team=record.team,
        role=record.role.value,
        note=record.note,
        state=record.state,
        created_by=record.created_by,
        created_at=print_moment(record.created_at),
        expires_at=print_moment(record.expires_at),
        used_by=record.used_by,
        used_at=_moment(record.used_at),
    )


# ------------------------------------------------------------------ words


def team_role(text: str) -> TeamRole:
    """Return the role in a team that a word names. Raises BadRequest."""
    return _chosen(TeamRole, text, "role")


def site_role(text: str) -> SiteRole:
    """Return the role for the site that a word names; the empty one is none. Raises BadRequest."""
    return _chosen(SiteRole, text, "site_role")


def _chosen(kind: type[R], text: str, field: str) -> R:
    found = next((role for role in kind if role.value == text), None)
    if found is None:
        words = ", ".join(role.value for role in kind if role.value)
        raise BadRequest(f'"{field}" must be one of {words}', param=field)
    return found


def _moment(moment: datetime | None) -> str | None:
    return print_moment(moment) if moment else None

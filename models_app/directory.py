"""Who is here: users and teams as they are listed and looked at, with access applied.

Hands out frozen records, never rows; a page of a list costs as many queries as a list of one.
Changes nothing and knows no HTTP.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from models_app import authority
from models_app.errors import TeamNotFound, UserNotFound
from models_app.models import ApiKey, LanguageModel, Membership, Team, User
from models_app.permissions import Principal, SiteRole, TeamRole
from models_app.site_names import findable

# What lists of users can be narrowed to.
USER_STATES: Final = {
    "": Q(),
    "active": Q(is_active=True),
    "inactive": Q(is_active=False, awaits_approval=False),
    "waiting": Q(awaits_approval=True),
    "admin": Q(is_superuser=True),
    "service": Q(service_of__isnull=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamPlaceRecord:
    """That somebody is in a team."""

    team: str
    role: TeamRole


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """An account. `service_of` and `home_team` are names of teams, or empty."""

    user_id: int
    username: str
    is_admin: bool
    site_role: SiteRole
    is_active: bool
    awaits_approval: bool
    service_of: str
    home_team: str
    teams: tuple[TeamPlaceRecord, ...]
    keys: int  # good ones
    created_at: datetime
    signed_in_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamRecord:
    """A team. `role`: the asker's, None for whoever only looks after people."""

    team_id: int
    name: str
    description: str
    allowed_models: tuple[str, ...]  # patterns; empty: no list
    members: int
    models: int
    role: TeamRole | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """Somebody in a team. `keys`: good ones, where it is a service account, else 0."""

    username: str
    role: TeamRole
    is_service: bool
    is_active: bool
    is_home: bool
    keys: int
    since: datetime


# ------------------------------------------------------------------ users


def list_users(
    *, search: str = "", state: str = "", limit: int, after: str = "", by: Principal | None
) -> list[UserRecord]:
    """Return users by name, those behind `after`. For administrators and auditors.

    `state`: a key of USER_STATES. Raises Forbidden.
    """
    authority.require_auditor(by)
    rows = _users().filter(USER_STATES[state], username__gt=after)
    if search:
        rows = rows.filter(username__icontains=search)
    return [_user_record(row) for row in rows.order_by("username")[:limit]]


def find_user(name: str, *, by: Principal | None) -> UserRecord:
    """Return an account: to administrators and auditors any, to others their own.

    Raises UserNotFound.
    """
    row = _users().filter(username__iexact=findable(name)).first()
    if row is None or not _may_look_at(row, by):
        raise UserNotFound(name)
    return _user_record(row)


def _may_look_at(row: User, by: Principal | None) -> bool:
    return by is None or by.is_auditor or by.user_id == row.pk


def _users() -> QuerySet[Any]:
    return (
        User.objects.select_related("service_of", "home_team")
        .prefetch_related("memberships__team")
        .annotate(good_keys=_good_keys_of(OuterRef("pk")))
    )


def _user_record(row: Any) -> UserRecord:
    places = sorted(row.memberships.all(), key=lambda place: place.team.name.lower())
    return UserRecord(
        user_id=row.pk,
        username=row.username,
        is_admin=row.is_superuser,
        site_role=SiteRole(row.site_role),
        is_active=row.is_active,
        awaits_approval=row.awaits_approval,
        service_of=row.service_of.name if row.service_of else "",
        home_team=row.home_team.name if row.home_team else "",
        teams=tuple(
            TeamPlaceRecord(team=place.team.name, role=TeamRole(place.role)) for place in places
        ),
        keys=row.good_keys,
        created_at=row.date_joined,
        signed_in_at=row.last_login,
    )


# ------------------------------------------------------------------ teams


def list_teams(
    *, search: str = "", limit: int, after: str = "", by: Principal | None
) -> list[TeamRecord]:
    """Return teams by name, those behind `after`: one's own; administrators and auditors all."""
    rows = _teams().filter(name__gt=after)
    if by is not None and not by.is_auditor:
        rows = rows.filter(pk__in=[place.team_id for place in by.teams])
    if search:
        rows = rows.filter(name__icontains=search)
    return [_team_record(row, by) for row in rows.order_by("name")[:limit]]


def find_team(name: str, *, by: Principal | None) -> TeamRecord:
    """Return a team. Raises TeamNotFound, also for whoever may not know of it."""
    row = _teams().filter(name__iexact=findable(name)).first()
    if row is None or not authority.may_see_team(by, name):
        raise TeamNotFound(name)
    return _team_record(row, by)


def list_members(
    team_name: str,
    *,
    only_services: bool = False,
    only_people: bool = False,
    limit: int,
    after: str = "",
    by: Principal | None,
) -> list[MemberRecord]:
    """Return who is in a team, by name, those behind `after`. Raises TeamNotFound."""
    team = find_team(team_name, by=by)
    rows = Membership.objects.filter(team_id=team.team_id, user__username__gt=after)
    if only_services:
        rows = rows.filter(user__service_of__isnull=False)
    if only_people:
        rows = rows.filter(user__service_of__isnull=True)
    rows = rows.select_related("user").annotate(good_keys=_good_keys_of(OuterRef("user_id")))
    return [_member_record(row) for row in rows.order_by("user__username")[:limit]]


def find_service(team_name: str, username: str, *, by: Principal | None) -> MemberRecord:
    """Return a team's service account. Raises TeamNotFound, UserNotFound."""
    team = find_team(team_name, by=by)
    rows = Membership.objects.filter(team_id=team.team_id, user__service_of_id=team.team_id)
    rows = rows.select_related("user").annotate(good_keys=_good_keys_of(OuterRef("user_id")))
    row = rows.filter(user__username__iexact=findable(username)).first()
    if row is None:
        raise UserNotFound(username)
    return _member_record(row)


def _teams() -> QuerySet[Any]:
    return Team.objects.annotate(
        member_count=_count_of(Membership.objects.filter(team=OuterRef("pk")), "team"),
        model_count=_count_of(LanguageModel.objects.filter(team=OuterRef("pk")), "team"),
    )


def _team_record(row: Any, by: Principal | None) -> TeamRecord:
    return TeamRecord(
        team_id=row.pk,
        name=row.name,
        description=row.description,
        allowed_models=tuple(row.allowed_models.split()),
        members=row.member_count,
        models=row.model_count,
        role=by.role_in(row.name) if by else None,
        created_at=row.created_at,
    )


def _member_record(row: Any) -> MemberRecord:
    is_service = row.user.service_of_id is not None
    return MemberRecord(
        username=row.user.username,
        role=TeamRole(row.role),
        is_service=is_service,
        is_active=row.user.is_active,
        is_home=row.user.home_team_id == row.team_id,
        # How many keys a colleague has is nobody's business.
        keys=row.good_keys if is_service else 0,
        since=row.created_at,
    )


# ------------------------------------------------------------------ counts


def _good_keys_of(owner: OuterRef) -> Coalesce:
    still = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return _count_of(ApiKey.objects.filter(still, owner=owner, revoked_at=None), "owner")


def _count_of(rows: QuerySet[Any, Any], field: str) -> Coalesce:
    """Return how many rows there are, as a part of another query; joins would multiply them."""
    counted = rows.order_by().values(field).annotate(count=Count("pk")).values("count")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)

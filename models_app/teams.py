"""Teams: who makes them, who is in them and as what, and their service accounts. All is audited.

Rights come from the asker's place in the team; administrators of the site may what owners may.
Lists are in `models_app.directory`. Knows no HTTP and no model beyond counting a team's.
"""

from typing import Final

from django.core.exceptions import ValidationError
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Lower
from django.utils import timezone

from models_app import audit, authority
from models_app.accounts import create_user, require_room_for_service_account
from models_app.errors import MemberNotFound, TeamNotFound, UserNotFound
from models_app.job_cancel import cancel_jobs_of
from models_app.key_lines import end_keys, end_made_keys, hold_owner
from models_app.models import (
    ApiKey,
    Invite,
    LanguageModel,
    Membership,
    Namespace,
    Team,
    User,
)
from models_app.name_patterns import check_patterns
from models_app.permissions import Principal, TeamRole
from models_app.principals import as_now
from models_app.site_names import findable, retire_names, take_name
from ollamasite.errors import Conflict

SERVICE_ROLES: Final = (TeamRole.MEMBER, TeamRole.MAINTAINER)
_MAX_DESCRIPTION: Final = 200
_MAX_PATTERNS_TEXT: Final = 1000


@audit.act()
def create_team(name: str, *, description: str = "", owner: str = "", by: Principal | None) -> Team:
    """Create a team, with its first owner where one is named. By administrators.

    Raises ValidationError for the name, UserNotFound.
    """
    authority.require_admin(by)
    authority.require_unlimited(by)
    take_name(name, of="team")
    team = Team.objects.create(name=name, description=_one_line(description))
    audit.record("team.create", team.name, by=by)
    if owner:
        set_member(team.name, owner, TeamRole.OWNER, by=by)
    return team


@audit.act()
def change_team(
    name: str,
    *,
    description: str | None = None,
    allowed_models: str | None = None,
    by: Principal | None,
) -> None:
    """Change what is said of a team, by its owners, or what its members may use, by admins.

    `allowed_models`: patterns with blanks between; empty: no list. None leaves what is there.
    Raises TeamNotFound, ValidationError.
    """
    team = held_team(name, by, TeamRole.OWNER)
    changes: dict[str, str] = {}
    if description is not None:
        changes["description"] = _one_line(description)
    if allowed_models is not None:
        authority.require_admin(by)
        changes["allowed_models"] = _patterns(allowed_models)
    Team.objects.filter(pk=team.pk).update(**changes)
    audit.record("team.change", team.name, by=by, **changes)


@audit.act()
def delete_team(name: str, *, with_models: bool = False, by: Principal | None) -> None:
    """Delete a team with its service accounts, keys and invites. By owners and administrators.

    Its people stay. Raises TeamNotFound, and Conflict where there are models, the team's or a
    service account's, and they are not to go too.
    """
    team = held_team(name, by, TeamRole.OWNER)
    models = _models_of(team)
    count = models.count()
    if count and not with_models:
        raise Conflict(f"{team.name} has {count} models: delete them first, or with the team")
    models.delete()
    services = team.service_accounts.select_for_update(no_key=True).order_by("pk")
    names = [team.name, *(service.username for service in services)]
    for each in names:
        Namespace.objects.filter(name__iexact=each).delete()
    retire_names(names)
    _leave_home(User.objects.filter(home_team=team), team)
    team.delete()
    audit.record("team.delete", team.name, by=by, models=count)


# ------------------------------------------------------------------ members


@audit.act()
def set_member(team_name: str, username: str, role: TeamRole, *, by: Principal | None) -> None:
    """Take somebody into a team, by administrators, or change their role there, by owners too.

    Owners bring people in by `models_app.invites`: who is in a team is read, limited and narrowed
    by it, and has to want that. Whoever joins their first team is at home there. Raises
    TeamNotFound, UserNotFound, MemberNotFound, and Conflict where the team would have no owner any
    longer and for what no service account can be.
    """
    authority.require_unlimited(by)
    team = held_team(team_name, by, TeamRole.OWNER)
    user, before = _member_to_be(team, username, role, by)
    if role is not TeamRole.OWNER:
        _require_other_owner(team, before)
    join(team, user, role)
    if before and TeamRole(before.role).reaches(TeamRole.MAINTAINER):
        _end_maintenance(team, user, role, by)
    was = str(before.role) if before else ""
    audit.record("team.member", f"{team.name}/{user.username}", by=by, role=str(role), was=was)


@audit.act()
def remove_member(team_name: str, username: str, *, by: Principal | None) -> None:
    """Put somebody out of a team, with their keys, invites and jobs for it. Everybody may leave.

    The keys that they have made for its service accounts end too. By owners and administrators
    otherwise. Raises TeamNotFound, UserNotFound, and Conflict for the last owner and for service
    accounts, which are deactivated instead.
    """
    is_leaving = by is not None and by.username.lower() == username.lower()
    is_own = is_leaving and by is not None and by.is_for_account
    team = held_team(team_name, by, TeamRole.VIEWER if is_own else TeamRole.OWNER)
    rows = Membership.objects.select_related("user").filter(team=team)
    place = rows.filter(user__username__iexact=findable(username)).first()
    if place is None:
        raise UserNotFound(username)
    if place.user.service_of_id is not None:
        raise Conflict(f"{place.user.username} is a service account: deactivate it instead")
    _require_other_owner(team, place)
    hold_owner(place.user_id)  # before their keys, as everybody does
    place.delete()
    end_keys(ApiKey.objects.filter(owner=place.user, team=team), by=by)
    unused = Invite.objects.filter(created_by=place.user, team=team, used_at=None, revoked_at=None)
    unused.update(revoked_at=timezone.now())
    _end_maintenance(team, place.user, None, by)
    _leave_home(User.objects.filter(pk=place.user_id, home_team=team), team)
    audit.record("team.leave", f"{team.name}/{place.user.username}", by=by, was=str(place.role))


def join(team: Team, user: User, role: TeamRole) -> None:
    """Write somebody's place in a team. Whether that may be has been decided; audits nothing."""
    Membership.objects.update_or_create(team=team, user=user, defaults={"role": role})
    User.objects.filter(pk=user.pk, home_team=None).update(home_team=team)


# ------------------------------------------------------------------ service accounts


@audit.act()
def create_service_account(
    team_name: str, name: str, role: TeamRole = TeamRole.MEMBER, *, by: Principal | None
) -> User:
    """Create an account for a team's programs: without a password, with keys alone.

    By owners and administrators. It shares the names of users. `models_app.people` deactivates it.
    Raises TeamNotFound, ValidationError, and Conflict for another role and for one too many.
    """
    authority.require_unlimited(by)
    team = held_team(team_name, by, TeamRole.OWNER)
    _require_service_role(name, role)
    require_room_for_service_account(team)
    user = create_user(name, None, by=by)
    user.service_of = team
    user.save(update_fields=["service_of"])
    join(team, user, role)
    audit.record("team.service-account", f"{team.name}/{name}", by=by, role=str(role))
    return user


# ------------------------------------------------------------------ parts


def held_team(name: str, by: Principal | None, role: TeamRole) -> Team:
    """Lock a team, so that one at a time changes who is in it. Wants a transaction.

    Raises TeamNotFound, also for whoever is not in it, Forbidden below the role, and AccessEnded.
    """
    rows = Team.objects.select_for_update(no_key=True)
    team = rows.filter(name__iexact=findable(name)).first()
    if team is None:
        raise TeamNotFound(name)
    # Somebody may have put them out while this waited.
    authority.require_team_role(as_now(by) if by else None, name, role)
    return team


def _member_to_be(
    team: Team, username: str, role: TeamRole, by: Principal | None
) -> tuple[User, Membership | None]:
    """Return who shall be in the team, and what they are there.

    Raises UserNotFound, MemberNotFound, Conflict.
    """
    user = User.objects.filter(username__iexact=findable(username), is_active=True).first()
    place = Membership.objects.filter(team=team, user=user).first() if user else None
    if place is None and not authority.is_admin(by):
        raise MemberNotFound(username, team.name)
    if user is None or user.service_of_id not in {None, team.pk}:
        raise UserNotFound(username)
    if user.service_of_id is not None:
        _require_service_role(user.username, role)
    return user, place


def _end_maintenance(team: Team, user: User, role: TeamRole | None, by: Principal | None) -> None:
    """End what somebody has made or begun as a maintainer, where they are none any longer.

    `role`: what they are now; None: out of the team.
    """
    if role is None or not role.reaches(TeamRole.MAINTAINER):
        end_made_keys(user, team, by=by)
        cancel_jobs_of(user.pk, namespace=team.name)


def _require_service_role(name: str, role: TeamRole) -> None:
    if role not in SERVICE_ROLES:
        raise Conflict(f"{name} is a service account: it can be member or maintainer")


def _require_other_owner(team: Team, place: Membership | None) -> None:
    """Raise Conflict where the team has this owner and no other; its row is locked."""
    if place is None or place.role != TeamRole.OWNER:
        return
    owners = Membership.objects.filter(team=team, role=TeamRole.OWNER, user__is_active=True)
    if not owners.exclude(pk=place.pk).exists():
        raise Conflict(f"{team.name} has no other owner: make somebody else one first")


def _leave_home(users: QuerySet[User], team: Team) -> None:
    """Give people whose home the team was another of their teams, where they have one."""
    others = Membership.objects.filter(user=OuterRef("pk")).exclude(team=team).order_by("pk")
    users.update(home_team=Subquery(others.values("team_id")[:1]))


def _models_of(team: Team) -> QuerySet[LanguageModel]:
    """Return the models that go with a team: its own and those of its service accounts."""
    mirrors = Q(is_mirror=True, owner__service_of=team)
    names = team.service_accounts.values_list(Lower("username"), flat=True)
    spaces = Q(is_mirror=False, lower_namespace__in=list(names))
    rows = LanguageModel.objects.alias(lower_namespace=Lower("namespace"))
    return rows.filter(Q(team=team) | mirrors | spaces)


def _one_line(text: str) -> str:
    line = " ".join(text.replace("\0", " ").split())
    if len(line) > _MAX_DESCRIPTION:
        raise ValidationError(f"A description has {_MAX_DESCRIPTION} characters at most.")
    return line


def _patterns(text: str) -> str:
    patterns = " ".join(check_patterns(text.split()))
    if len(patterns) > _MAX_PATTERNS_TEXT:
        raise ValidationError(f"The patterns may have {_MAX_PATTERNS_TEXT} characters together.")
    return patterns

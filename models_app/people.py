"""What is done to accounts: roles, in and out, sessions, passwords, the end. All of it is audited.

Who may is asked here; accounts are made by `models_app.accounts`, listed by `models_app.directory`.
Knows no HTTP and no page. Raises ValidationError for what was typed wrongly.
"""

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from models_app import audit, authority, site_locks
from models_app.accounts import create_user, require_room_for_service_account
from models_app.errors import UserNotFound
from models_app.job_cancel import cancel_jobs_of
from models_app.key_lines import end_made_keys
from models_app.models import (
    ApiKey,
    Invite,
    LanguageModel,
    Membership,
    ModelGrant,
    Namespace,
    Team,
    User,
    Visibility,
)
from models_app.password_links import password_links
from models_app.permissions import Principal, SiteRole, TeamRole
from models_app.principals import as_now
from models_app.site_names import findable, retire_names
from ollamasite.errors import Conflict, Forbidden


@audit.act()
def add_user(
    name: str,
    *,
    is_admin: bool = False,
    site_role: SiteRole = SiteRole.NONE,
    by: Principal | None,
) -> User:
    """Create an account without a password, for which `password_link` makes one. By admins."""
    authority.require_admin(by)
    authority.require_unlimited(by)
    user = create_user(name, None, is_admin=is_admin, by=by)
    _require_still_admin(by)
    if site_role is not SiteRole.NONE:
        set_role(name, site_role=site_role, by=by)
    return user


@audit.act()
def add_user_with_link(
    name: str, *, is_admin: bool, site_role: SiteRole, by: Principal | None
) -> str:
    """Create an account, and return the path of the page where its owner chooses a password."""
    add_user(name, is_admin=is_admin, site_role=site_role, by=by)
    return password_link(name, by=by)


@audit.act()
def change_user(
    name: str,
    *,
    is_admin: bool | None,
    site_role: SiteRole | None,
    home_team: str | None,
    by: Principal | None,
) -> None:
    """Change all that is asked of an account, or nothing; None leaves what is there."""
    if is_admin is not None or site_role is not None:
        set_role(name, is_admin=is_admin, site_role=site_role, by=by)
    if home_team is not None:
        set_home_team(name, home_team, by=by)


@audit.act()
def set_role(
    name: str,
    *,
    is_admin: bool | None = None,
    site_role: SiteRole | None = None,
    by: Principal | None,
) -> None:
    """Change what somebody may do for the whole site; None leaves what is there. By admins.

    What they have brought here for everybody as an operator is the site's when they are none any
    longer. Raises UserNotFound, and Conflict for the last administrator and for service accounts.
    """
    authority.require_admin(by)
    authority.require_unlimited(by)
    user = _held(name, is_about_admins=is_admin is False)
    _require_still_admin(by)
    could_operate = _may_operate(user)
    if user.service_of_id is not None:
        raise Conflict(f"{user.username} is a service account: it has no role for the whole site")
    if is_admin is False:
        _require_other_admin(user)
    if is_admin is not None:
        user.is_superuser = user.is_staff = is_admin
    if site_role is not None:
        user.site_role = site_role
    user.save(update_fields=["is_superuser", "is_staff", "site_role"])
    if could_operate and not _may_operate(user):
        _leave_to_site(user)
    audit.record(
        "user.role",
        user.username,
        by=by,
        is_admin=user.is_superuser,
        site_role=str(user.site_role),
    )


@audit.act()
def deactivate(name: str, *, by: Principal | None) -> None:
    """End an account's use at once: keys, sessions, open streams, jobs, invites it has made.

    By admins; of a service account also by owners of its team. Keys, those that they have made for
    service accounts too, and registered client keys are ended for good: whoever is let in again
    makes new ones. Raises UserNotFound, Conflict.
    """
    _hold_teams_of(name)
    user = _held(name, is_about_admins=True)
    _require_rule_over(user, by)
    _require_other_admin(user)
    user.is_active = user.awaits_approval = False
    user.save(update_fields=["is_active", "awaits_approval"])
    _end_sessions(user)
    ApiKey.objects.filter(owner=user, revoked_at=None).update(revoked_at=timezone.now())
    end_made_keys(user, by=by)
    user.client_keys.all().delete()
    _revoke_invites(user)
    cancel_jobs_of(user.pk)
    audit.record("user.deactivate", user.username, by=by)


@audit.act()
def activate(name: str, *, by: Principal | None) -> None:
    """Let somebody in again who was deactivated. By those who may deactivate them.

    Raises UserNotFound, Conflict.
    """
    _hold_teams_of(name)
    user = _held(name)
    _require_rule_over(user, by)
    authority.require_unlimited(by)
    if user.awaits_approval:
        raise Conflict(f"{user.username} waits for approval")
    if user.service_of is not None and not user.is_active:
        require_room_for_service_account(user.service_of)
    user.is_active = True
    user.save(update_fields=["is_active"])
    audit.record("user.activate", user.username, by=by)


@audit.act()
def approve(name: str, *, by: Principal | None) -> None:
    """Let somebody in who has signed up. By admins. To refuse them, `delete_user`."""
    authority.require_admin(by)
    authority.require_unlimited(by)
    user = _held(name)
    if not user.awaits_approval:
        raise Conflict(f"{user.username} does not wait for approval")
    user.is_active, user.awaits_approval = True, False
    user.save(update_fields=["is_active", "awaits_approval"])
    audit.record("user.approve", user.username, by=by)


@audit.act()
def end_sessions(name: str, *, by: Principal | None) -> None:
    """End all of somebody's sessions in browsers; keys stay. By admins and by themselves."""
    user = _held(name)
    _require_admin_or_self(user, by)
    _end_sessions(user)
    audit.record("user.end-sessions", user.username, by=by)


@audit.act()
def delete_user(name: str, *, with_models: bool = False, by: Principal | None) -> None:
    """Delete an account with all that is its alone. By admins and by themselves.

    Somebody who waits for approval is refused by this. What has been recorded of them stays; the
    space of their models is free after the next collection; their name is given to nobody else.
    Raises UserNotFound, and Conflict for the last administrator, for the last owner of a team and
    where there are models and they are not to go too.
    """
    _hold_teams_of(name)
    user = _held(name, is_about_admins=True)
    _require_admin_or_self(user, by)
    _require_other_admin(user)
    _require_other_owners(user)
    models = owned_models(user)
    count = models.count()
    if count and not with_models:
        raise Conflict(f"{user.username} has {count} models: delete them first, or with the user")
    _revoke_invites(user)
    end_made_keys(user, by=by)
    models.delete()
    Namespace.objects.filter(name__iexact=user.username).delete()
    action = "user.refuse" if user.awaits_approval else "user.delete"
    if not user.awaits_approval:  # nothing here has ever named others
        retire_names([user.username])
    user.delete()
    audit.record(action, user.username, by=by, models=count)


def owned_models(user: User) -> QuerySet[LanguageModel]:
    """Return the models that go with an account: those in its namespace, and its mirrors."""
    in_namespace = Q(is_mirror=False, namespace__iexact=user.username)
    return LanguageModel.objects.filter(in_namespace | Q(is_mirror=True, owner=user))


# ------------------------------------------------------------------ passwords


@audit.act()
def password_link(name: str, *, by: Principal | None) -> str:
    """Return the path of a page where somebody chooses a new password, once. By admins.

    It is good for settings.PASSWORD_RESET_TIMEOUT seconds, until the next sign-in, and until the
    account's sessions are ended. Raises UserNotFound, and Conflict for accounts that nobody signs
    in to.
    """
    authority.require_admin(by)
    authority.require_unlimited(by)
    user = _held(name)
    _require_still_admin(by)
    if not user.is_active or user.service_of_id is not None:
        raise Conflict(f"nobody can sign in as {user.username}")
    encoded = urlsafe_base64_encode(force_bytes(user.pk))
    token = password_links.make_token(user)
    audit.record("user.password-link", user.username, by=by)
    return reverse("new-password", args=[encoded, token])


@audit.act()
def set_password(user: User, password: str, *, by: Principal | None) -> None:
    """Give an account a password that has been looked at and is its owner's wish.

    Its sessions end, except one whose hash the caller brings up to date.
    """
    user.set_password(password)
    user.save(update_fields=["password"])
    audit.record("user.password", user.username, by=by)


# ------------------------------------------------------------------ home team


@audit.act()
def set_home_team(name: str, team_name: str | None, *, by: Principal | None) -> None:
    """Choose the team that somebody's use counts to where a key names none; None: no team.

    By admins and by themselves. Raises UserNotFound, and Conflict where they are not in the team
    and for service accounts, which count to their team.
    """
    user = _held(name)
    _require_admin_or_self(user, by)
    if user.service_of is not None and user.service_of.name.lower() != (team_name or "").lower():
        raise Conflict(f"{user.username} is a service account: it counts to its team")
    team = None
    if team_name:
        own = Team.objects.filter(memberships__user=user)
        team = own.filter(name__iexact=findable(team_name)).first()
        if team is None:
            raise Conflict(f"{user.username} is not in a team '{team_name}'")
    user.home_team = team
    user.save(update_fields=["home_team"])
    audit.record("user.home-team", user.username, by=by, team=team.name if team else "")


# ------------------------------------------------------------------ parts


def _held(name: str, *, is_about_admins: bool = False) -> User:
    """Lock an account.

    `is_about_admins`: there may be one administrator less; that is decided by one at a time, so
    that the last one stays.
    """
    if is_about_admins:
        site_locks.hold(site_locks.ADMINS)
    rows = User.objects.select_for_update(no_key=True, of=("self",))
    user = rows.filter(username__iexact=findable(name)).first()
    if user is None:
        raise UserNotFound(name)
    return user


def _hold_teams_of(name: str) -> None:
    """Lock the teams that somebody is in. Teams are locked before users, by everybody."""
    places = Membership.objects.filter(user__username__iexact=findable(name))
    rows = Team.objects.select_for_update(no_key=True).filter(pk__in=places.values("team"))
    list(rows.order_by("pk").values_list("pk"))


def _require_other_owners(user: User) -> None:
    """Raise Conflict for the last owner of a team; their teams are locked."""
    owners = Membership.objects.filter(role=TeamRole.OWNER, user__is_active=True)
    others = owners.exclude(user=user).values("team")
    left = owners.filter(user=user).exclude(team__in=others).values_list("team__name", flat=True)
    if left:
        raise Conflict(
            f"{user.username} is the last owner of {', '.join(left)}: make somebody else one "
            "first, or delete the team"
        )


def _require_still_admin(by: Principal | None) -> None:
    """Raise Forbidden for who was an administrator only before the wait for a lock."""
    authority.require_admin(as_now(by) if by else None)


def _may_operate(user: User) -> bool:
    return user.is_superuser or user.site_role == SiteRole.OPERATOR


def _leave_to_site(user: User) -> None:
    """Let nobody change under other registries' names what others use and an operator brought."""
    used = Q(visibility=Visibility.EVERYONE) | Q(
        Exists(ModelGrant.objects.filter(model=OuterRef("pk")))
    )
    LanguageModel.objects.filter(used, is_mirror=True, owner=user).update(owner=None)


def _require_admin_or_self(user: User, by: Principal | None) -> None:
    if by is not None and by.user_id == user.pk:
        if not by.is_for_account:
            raise Forbidden
        return
    if not authority.is_admin(as_now(by) if by else None):
        raise UserNotFound(user.username)


def _require_rule_over(user: User, by: Principal | None) -> None:
    """Raise for whoever is neither an administrator nor an owner of the service account's team."""
    now = as_now(by) if by else None
    if now is None or authority.is_admin(now):
        return
    team = user.service_of
    role = now.role_in(team.name) if team else None
    if role is None:
        raise UserNotFound(user.username)
    if not role.reaches(TeamRole.OWNER):
        raise Forbidden


def _require_other_admin(user: User) -> None:
    if not (user.is_superuser and user.is_active):
        return
    others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    if not others.exists():
        raise Conflict(f"{user.username} is the last administrator: make somebody else one first")


def _end_sessions(user: User) -> None:
    User.objects.filter(pk=user.pk).update(session_generation=F("session_generation") + 1)


def _revoke_invites(user: User) -> None:
    unused = Invite.objects.filter(created_by=user, used_at=None, revoked_at=None)
    unused.update(revoked_at=timezone.now())

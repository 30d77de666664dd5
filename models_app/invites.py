"""Invites: links by which one person makes an account or joins a team, once. All is audited.

A link's secret is told once and stored as a peppered hash. An invite is worth what its maker may
do when it is used: whoever has left or lost the right cannot let anybody in. Knows no HTTP; what
an invite's page looks like is in the templates.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from models_app import attempts, audit, authority
from models_app.errors import InviteNotFound, TeamNotFound
from models_app.key_secrets import hash_secret
from models_app.models import Invite, Membership, Team, User
from models_app.permissions import CredentialKind, Principal, TeamRole
from models_app.principals import principal_of_user
from models_app.sign_up import new_account
from models_app.teams import held_team, join
from ollamasite.client_address import current_address
from ollamasite.errors import Conflict, Forbidden

_SECRET_BYTES: Final = 32
_MAX_SECRET: Final = 100
_MAX_NOTE: Final = 200
# More than that is an endless wish; dates end somewhere.
_LONGEST: Final = timedelta(days=3650)


InviteState = Literal["open", "used", "revoked", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteRecord:
    """An invite, without its secret. An empty `team`: to the site alone."""

    invite_id: int
    team: str
    role: TeamRole
    note: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_by: str
    revoked_at: datetime | None

    @property
    def state(self) -> InviteState:
        """Whether somebody may still use it, or why not."""
        if self.used_at is not None:
            return "used"
        if self.revoked_at is not None:
            return "revoked"
        return "open" if self.expires_at > timezone.now() else "expired"


@dataclass(frozen=True, slots=True)
class NewInvite:
    """An invite that was just made, with the path of its page, which is shown once."""

    record: InviteRecord
    path: str


@audit.act()
def create_invite(
    *,
    team_name: str = "",
    role: TeamRole = TeamRole.MEMBER,
    note: str = "",
    kept_s: float | None = None,
    by: Principal | None,
) -> NewInvite:
    """Make an invite: to the site by administrators, to a team by its owners too.

    `kept_s`: how long it is good; None: as the site says. Raises TeamNotFound, Forbidden,
    ValidationError.
    """
    authority.require_unlimited(by)
    team = held_team(team_name, by, TeamRole.OWNER) if team_name else None
    if team is None:
        authority.require_admin(by)
    text = " ".join(note.replace("\0", " ").split())
    if len(text) > _MAX_NOTE:
        raise ValidationError(f"A note has {_MAX_NOTE} characters at most.")
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    row = Invite.objects.create(
        token_hash=hash_secret(secret),
        team=team,
        role=role,
        note=text,
        created_by_id=by.user_id if by else None,
        expires_at=timezone.now() + _lifetime(kept_s),
    )
    audit.record("invite.create", _name(row), by=by, role=str(role), note=text)
    return NewInvite(_record(row), reverse("open-invite", args=[secret]))


@audit.act()
def revoke_invite(invite_id: int, *, by: Principal | None) -> InviteRecord:
    """End an invite that nobody has used, and return what it was. By admins and team owners.

    Raises InviteNotFound, also for others'.
    """
    rows = _visible(by).select_for_update(of=("self",))
    row = rows.filter(pk=invite_id, used_at=None, revoked_at=None).first()
    if row is None:
        raise InviteNotFound
    if row.team is None:
        authority.require_admin(by)
    else:  # auditors see it and may not
        authority.require_team_role(by, row.team.name, TeamRole.OWNER)
    Invite.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
    audit.record("invite.revoke", _name(row), by=by)
    return _record(row)


def list_invites(
    *,
    team_name: str = "",
    only_open: bool = False,
    limit: int,
    before: int = 0,
    by: Principal | None,
) -> list[InviteRecord]:
    """Return the invites that somebody may revoke or, as an auditor, look at; the newest first.

    `before`: only those with a smaller id. Raises TeamNotFound.
    """
    rows = _visible(by)
    if team_name:
        if not authority.may_see_team(by, team_name):
            raise TeamNotFound(team_name)
        rows = rows.filter(team__name__iexact=team_name)
    if only_open:
        rows = rows.filter(_is_good())
    if before:
        rows = rows.filter(pk__lt=before)
    return [_record(row) for row in rows.order_by("-pk")[:limit]]


# ------------------------------------------------------------------ using one


def find_by_secret(secret: str) -> InviteRecord | None:
    """Return the invite of a link; None where it is not good (any longer).

    Who opens many such links is guessing. Raises TooManyAttempts.
    """
    found = None
    if 0 < len(secret) <= _MAX_SECRET:
        found = _good(Invite.objects.filter(token_hash=hash_secret(secret)))
    if found is None:
        attempts.note(attempts.Attempt.WRONG_INVITE, current_address())
    return found


def find_good(invite_id: int) -> InviteRecord | None:
    """Return an invite whose secret has been shown before; None where it is not good any longer."""
    return _good(Invite.objects.filter(pk=invite_id))


@audit.act()
def accept(invite_id: int, *, by: Principal) -> str:
    """Let somebody who has an account join the invite's team; return the team's name.

    Who has a higher role there keeps it. Raises InviteNotFound, and Conflict where there is
    nothing to join.
    """
    invite = _held_good(invite_id)
    if invite.team is None:
        raise Conflict("this invite is for an account, and you have one already")
    user = User.objects.filter(pk=by.user_id, is_active=True).first()
    if user is None or user.service_of_id is not None:
        raise Forbidden
    place = Membership.objects.filter(team=invite.team, user=user).first()
    if place is not None and TeamRole(place.role).reaches(TeamRole(invite.role)):
        raise Conflict(f"you are {place.role} of {invite.team.name} already")
    _use(invite, user, by)
    return invite.team.name


@audit.act()
def accept_as_new(invite_id: int, username: str, password: str) -> User:
    """Make an account by an invite, in its team where it is for one.

    Raises InviteNotFound, and ValidationError by field for what was typed.
    """
    invite = _held_good(invite_id)
    user = new_account(username, password)
    _use(invite, user, principal_of_user(user, CredentialKind.SESSION))
    return user


def _use(invite: Invite, user: User, by: Principal) -> None:
    """Take the invite, which nobody else may have done meanwhile, and let its user in."""
    now = timezone.now()
    rows = Invite.objects.filter(_is_good(), pk=invite.pk)
    if not rows.update(used_at=now, used_by=user):
        raise InviteNotFound
    role = TeamRole(invite.role)
    if invite.team is not None:
        join(invite.team, user, role)
    audit.record("invite.accept", _name(invite), by=by, role=str(role) if invite.team else "")


# ------------------------------------------------------------------ parts


def _held_good(invite_id: int) -> Invite:
    """Lock a good invite and its team. Raises InviteNotFound."""
    found = Invite.objects.filter(pk=invite_id).values_list("team_id", flat=True).first()
    if found is not None:  # teams are locked before invites, by everybody
        Team.objects.select_for_update(no_key=True).filter(pk=found).first()
    rows = Invite.objects.select_for_update(of=("self",)).select_related("team", "created_by")
    row = rows.filter(_is_good(), pk=invite_id).first()
    if row is None or not _may_still(row):
        raise InviteNotFound
    return row


def _good(rows: QuerySet[Invite]) -> InviteRecord | None:
    row = rows.filter(_is_good()).select_related("team", "created_by", "used_by").first()
    return _record(row) if row and _may_still(row) else None


def _is_good() -> Q:
    return Q(used_at=None, revoked_at=None, expires_at__gt=timezone.now())


def _may_still(row: Invite) -> bool:
    """Whether whoever made an invite could make it today. None: the site's operator has."""
    maker = row.created_by
    if maker is None:
        return True
    if maker.is_superuser or not maker.is_active:
        return maker.is_active
    places = Membership.objects.filter(user=maker, team=row.team, role=TeamRole.OWNER)
    return row.team is not None and places.exists()


def _visible(by: Principal | None) -> QuerySet[Invite]:
    rows = Invite.objects.select_related("team", "created_by", "used_by")
    if by is None or by.is_auditor:
        return rows
    owned = [place.team_id for place in by.teams if place.role.reaches(TeamRole.OWNER)]
    return rows.filter(team__in=owned)


def _lifetime(kept_s: float | None) -> timedelta:
    wanted_s = settings.INVITES_KEPT_S if kept_s is None else kept_s
    if wanted_s <= 0:
        raise ValidationError("An invite has to be good for some time.")
    return timedelta(seconds=min(wanted_s, _LONGEST.total_seconds()))


def _name(row: Invite) -> str:
    return f"{row.pk} to {row.team.name if row.team else 'the site'}"


def _record(row: Invite) -> InviteRecord:
    return InviteRecord(
        invite_id=row.pk,
        team=row.team.name if row.team else "",
        role=TeamRole(row.role),
        note=row.note,
        created_by=row.created_by.username if row.created_by else "",
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        used_by=row.used_by.username if row.used_by else "",
        revoked_at=row.revoked_at,
    )

"""From a user's rows to the one who asks: roles, teams, and what a key leaves of them.

Knows no credential's text and no HTTP.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from models_app.errors import AccessEnded
from models_app.models import ApiKey, LimitRule, Membership, User
from models_app.permissions import CredentialKind, Principal, Scope, SiteRole, TeamPlace, TeamRole
from models_app.prepared_query import PreparedQuery

_OF_PLACE: Final = ("team_id", "team__name", "role", "team__allowed_models")
_OF_OWNER: Final = ("pk", "username", "is_superuser", "site_role", "home_team_id", "is_active")
_OF_KEY: Final = (
    *("pk", "name", "prefix", "secret_hash", "scopes", "model_patterns", "networks"),
    *("team_id", "expires_at", "revoked_at", "last_used_at", "has_limits"),
)
# A place in a team: its id, the team's name, the role, the team's patterns of shared models.
_Place = tuple[int, str, str, str]


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who presents a key that holds, and what else is to be known of the key.

    `networks`: CIDR blocks from which it may be used; none: from everywhere.
    """

    principal: Principal
    prefix: str
    secret_hash: str = field(repr=False)
    networks: tuple[str, ...]
    expires_at: datetime | None
    last_used_at: datetime | None


def principal_of_user(
    user: User,
    kind: CredentialKind,
    *,
    client_key_id: int | None = None,
    session_key: str = "",
) -> Principal:
    """Return a user who has proved to be it by something else than a key. One query.

    `session_key`: of the session, where it is by one.
    """
    rows = Membership.objects.filter(user_id=user.pk).values_list(*_OF_PLACE)
    teams, allowed = _teams_of(rows.order_by())
    return Principal(
        user_id=user.pk,
        username=user.username,
        is_admin=user.is_superuser,
        kind=kind,
        client_key_id=client_key_id,
        session=(session_key, user.get_session_auth_hash()) if session_key else None,
        site_role=SiteRole(user.site_role),
        teams=teams,
        team=_place(teams, user.home_team_id),
        allowed_models=allowed,
    )


def as_now(by: Principal) -> Principal:
    """Return somebody with the roles and places that they have by now, for who holds a lock.

    What their credential leaves of them stays. Raises AccessEnded where the account is closed.
    """
    user = User.objects.filter(pk=by.user_id, is_active=True).first()
    if user is None:
        raise AccessEnded
    now = principal_of_user(user, by.kind)
    return replace(by, is_admin=now.is_admin, site_role=now.site_role, teams=now.teams)


def holder_of_prefix(prefix: str) -> KeyHolder | None:
    """Return who presents the key of a prefix; None where it does not hold. One query.

    Each request of a key that was not used in the last half second comes by here.
    """
    return _holder(_BY_PREFIX.ask(prefix))


def holder_of_key(key_id: int) -> KeyHolder | None:
    """Return who presents a key; None where it does not hold. One query."""
    return _holder(_BY_ID.ask(key_id))


def _holder(rows: Sequence[Sequence[Any]]) -> KeyHolder | None:
    # Keys hold as `ApiKeyQuerySet.usable` says.
    if not rows:
        return None
    key, owner = rows[0][: len(_OF_KEY)], rows[0][len(_OF_KEY) : -len(_OF_PLACE)]
    pk, name, prefix, secret_hash, scopes, patterns, networks, team_id, *times, has_limits = key
    user_id, username, is_superuser, site_role, home_team_id, is_active = owner
    expires_at, revoked_at, last_used_at = times
    places = [tuple(row[-len(_OF_PLACE) :]) for row in rows]
    teams, allowed = _teams_of(place for place in places if place[0] is not None)
    has_ended = revoked_at is not None or (expires_at and expires_at <= timezone.now())
    if has_ended or not is_active or (team_id and _place(teams, team_id) is None):
        return None
    principal = Principal(
        user_id=user_id,
        username=username,
        is_admin=is_superuser,
        kind=CredentialKind.KEY,
        key_id=pk,
        key_name=f"{name} ({prefix})",
        is_bounded=bool(networks or expires_at or has_limits or team_id),
        scopes=frozenset(Scope(scope) for scope in scopes),
        site_role=SiteRole(site_role),
        teams=teams,
        team=_place(teams, team_id or home_team_id),
        model_patterns=tuple(patterns),
        allowed_models=allowed,
    )
    return KeyHolder(principal, prefix, secret_hash, tuple(networks), expires_at, last_used_at)


# A row for each of the owner's places, or one without a place.
_HOLDERS: Final = (
    ApiKey.objects.order_by()
    .annotate(has_limits=Exists(LimitRule.objects.filter(key=OuterRef("pk")).order_by()))
    .values_list(
        *_OF_KEY,
        *(f"owner__{name}" for name in _OF_OWNER),
        *(f"owner__memberships__{name}" for name in _OF_PLACE),
    )
)
_BY_PREFIX: Final = PreparedQuery(_HOLDERS, "prefix")
_BY_ID: Final = PreparedQuery(_HOLDERS, "pk")


def _teams_of(rows: Iterable[_Place]) -> tuple[tuple[TeamPlace, ...], tuple[str, ...] | None]:
    """Return a user's places, and the patterns of shared models that they may use."""
    found = sorted(rows)
    places = tuple(TeamPlace(pk, name, TeamRole(role)) for pk, name, role, _ in found)
    # All lists of one's teams together; a team without one adds nothing, or joining it would be a
    # way around the others. For who has none, as after leaving, there is the site's.
    patterns = {pattern for *_, allowed in found for pattern in allowed.split()}
    return places, tuple(sorted(patterns or settings.ALLOWED_MODELS)) or None


def _place(teams: tuple[TeamPlace, ...], team_id: int | None) -> TeamPlace | None:
    return next((place for place in teams if place.team_id == team_id), None)

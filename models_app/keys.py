"""API keys: made, looked at, renamed, rotated, revoked. All that changes one is audited.

A key belongs to a user, or to a team's service account, whose keys the team's maintainers look
after. Administrators see and revoke every key and make none for others. A key alone may look at,
rotate and revoke itself. No key ever gives more than the credential that has made it. Knows no HTTP
and checks no credential.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone

from models_app import audit, limit_rules
from models_app.errors import InvalidKey, KeyNotFound, KeyTooWide
from models_app.job_cancel import cancel_jobs_by
from models_app.key_lines import end_keys, hold_owner, line_of, title_of
from models_app.key_secrets import hash_secret, is_prefix, new_secret
from models_app.limit_rules import NewLimit
from models_app.models import ApiKey, Membership, Team, User
from models_app.name_patterns import are_within, check_patterns
from models_app.permissions import Principal, Scope, TeamRole
from models_app.principals import as_now
from models_app.site_names import findable
from ollamasite.client_address import Network
from ollamasite.errors import Forbidden

DEFAULT_OVERLAP: Final = timedelta(hours=24)
MAX_OVERLAP: Final = timedelta(days=30)
MAX_KEYS: Final = 500
_MAX_NAME: Final = 100
_MAX_NETWORKS: Final = 50
_MAX_LISTED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRules:
    """What a key may be used for. Empty fields set no limit.

    `models`: patterns of names (models_app.name_patterns); `networks`: CIDR blocks; `team`: the
    name of the owner's team that its use counts to.
    """

    scopes: tuple[Scope, ...] = ()
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    expires_at: datetime | None = None
    team: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A key as it may be shown: never its secret.

    `state` is active, rotated (good until `expires_at`, and replaced by `successor`), expired,
    revoked, or ended: its owner's account is closed, or has left the key's team.
    """

    prefix: str
    name: str
    owner: str
    rules: KeyRules
    state: str
    created_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    last_used_address: str | None = None
    successor: str = ""  # its prefix
    service_of: str = ""  # the owner's team, where that is a service account


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that has just been made. Its secret cannot be read again later."""

    record: KeyRecord
    secret: str = field(repr=False)


_ANYTHING: Final = KeyRules()


@audit.act()
def create_key(
    owner: User, name: str, rules: KeyRules = _ANYTHING, *, by: Principal | None = None
) -> tuple[ApiKey, str]:
    """Create a key and return it with its secret, which cannot be read again later.

    `by` None: the site itself or its operator. Raises InvalidKey, KeyTooWide, Forbidden.
    """
    held = hold_owner(owner.pk)
    if held is None or not held.is_active:
        raise Forbidden(f"{owner.username} has no account that is open")
    if by is not None:
        _require_may_make(owner, as_now(by))
    _require_room(held)
    checked = _checked(rules)
    if by is not None:
        _require_not_wider(checked, by)
    if checked.expires_at is not None and checked.expires_at <= timezone.now() and by is not None:
        raise InvalidKey("a key must expire in the future")
    prefix, secret = new_secret()
    key = ApiKey.objects.create(
        owner=owner,
        name=_name(name),
        prefix=prefix,
        secret_hash=hash_secret(secret),
        scopes=[str(scope) for scope in checked.scopes],
        model_patterns=list(checked.models),
        networks=list(checked.networks),
        team=_team_of(owner, checked.team),
        expires_at=checked.expires_at,
        made_by_id=_maker_id(by),
    )
    audit.record("key.create", title_of(key), by=by, **_told(key))
    return key, secret


@audit.act()
def make_key(
    by: Principal,
    name: str,
    rules: KeyRules,
    *,
    owner_name: str = "",
    limits: Iterable[NewLimit] = (),
) -> NewKey:
    """Create a key for the caller, or for a service account of a team that they maintain.

    `limits`: of its use, besides those that its owner has. Raises as `create_key`, and BadRequest.
    """
    owner = User.objects.select_related("service_of").filter(pk=by.user_id, is_active=True).first()
    if owner_name and owner_name.lower() != by.username.lower():
        owner = _service_account(owner_name, by)
    if owner is None:
        raise Forbidden
    key, secret = create_key(owner, name, rules, by=by)
    limit_rules.limit_new_key(by, key, limits)
    return NewKey(_record(key, is_usable=True), secret)


def list_keys(
    by: Principal, *, owner_name: str = "", with_services: bool = False
) -> list[KeyRecord]:
    """Return the caller's keys, or those of another owner whom they look after, by name.

    `with_services`: those of the service accounts that they look after besides. Keys that have
    ended are there too, behind the others. Of somebody else: none.
    """
    rows = ApiKey.objects.select_related("owner__service_of", "team", "successor")
    owned = rows.filter(owner_id=by.user_id)
    if owner_name:
        owned = rows.filter(owner__username__iexact=findable(owner_name))
    elif with_services:
        owned = rows.filter(Q(owner_id=by.user_id) | Q(owner__service_of__in=_maintained(by)))
    found = [key for key in owned.order_by("name", "pk")[:_MAX_LISTED] if _may_see(by, key)]
    among = ApiKey.objects.usable().filter(pk__in=[key.pk for key in found])
    usable = set(among.values_list("pk", flat=True))
    records = [_record(key, is_usable=key.pk in usable) for key in found]
    return sorted(records, key=lambda record: record.state not in {"active", "rotated"})


def list_service_owners(by: Principal) -> list[tuple[str, str]]:
    """Return the service accounts for which the caller may make keys, each with its team's name."""
    services = User.objects.filter(service_of__in=_maintained(by), is_active=True)
    return list(services.order_by("username").values_list("username", "service_of__name"))


def find_key(by: Principal, prefix: str) -> KeyRecord:
    """Return a key that the caller may look at. Raises KeyNotFound."""
    key = _find(by, prefix)
    return _record(key, is_usable=_is_usable(key))


def presented_key(by: Principal) -> KeyRecord | None:
    """Return the key that the caller has presented; None: it was something else."""
    rows = ApiKey.objects.select_related("owner__service_of", "team", "successor")
    key = rows.filter(pk=by.key_id).first() if by.key_id is not None else None
    return _record(key, is_usable=_is_usable(key)) if key else None


def may_change(by: Principal, key: KeyRecord) -> bool:
    """Whether the caller may rename and rotate a key that they see, and not revoke it alone."""
    is_own = key.owner.lower() == by.username.lower()
    return by.is_for_account and (is_own or by.reaches_in(key.service_of, TeamRole.MAINTAINER))


@audit.act()
def rename_key(by: Principal, prefix: str, name: str) -> KeyRecord:
    """Call a key something else. Raises KeyNotFound, Forbidden, InvalidKey."""
    key = _find(by, prefix, is_change=True)
    if not _looks_after(by, key):
        raise Forbidden
    before, key.name = key.name, _name(name)
    key.save(update_fields=["name"])
    audit.record("key.rename", title_of(key), by=by, before=before)
    return _record(key, is_usable=_is_usable(key))


@audit.act()
def rotate_key(by: Principal, prefix: str, *, overlap: timedelta = DEFAULT_OVERLAP) -> NewKey:
    """Make a key that takes another's place, with its name and its limits, and another secret.

    The old one is good for `overlap` more; zero ends it at once. Raises KeyNotFound, Forbidden,
    KeyTooWide, InvalidKey.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise InvalidKey(f"the overlap must be between 0 and {MAX_OVERLAP.days} days")
    hold_owner(_find(by, prefix).owner_id)
    old = _find(by, prefix, is_change=True)
    is_itself = by.key_id == old.pk
    if not (is_itself or _looks_after(as_now(by), old)):
        raise Forbidden
    if not is_itself:
        _require_not_wider(_rules(old), by)
    if old.successor_id is not None:
        raise InvalidKey(f"the key '{prefix}' has been rotated already")
    if not _is_usable(old):
        raise InvalidKey(f"the key '{prefix}' has ended: make another one")
    if overlap:  # else one ends for the one that is made
        _require_room(old.owner)
    # Whoever has made a key knows it, and could have it rotate itself.
    key, secret = _copy(old, made_by_id=old.made_by_id if is_itself else _maker_id(by))
    now = timezone.now()
    old.successor = key
    old.expires_at = min(old.expires_at or now + overlap, now + overlap)
    old.revoked_at = None if overlap else now
    old.save(update_fields=["successor", "expires_at", "revoked_at"])
    if not overlap:
        cancel_jobs_by([old.pk])
    until = old.expires_at.isoformat()
    audit.record("key.rotate", title_of(old), by=by, successor=key.prefix, good_until=until)
    return NewKey(_record(key, is_usable=True), secret)


def revoke(by: Principal, prefix: str, *, keeps_successors: bool = False) -> None:
    """End a key that the caller may look at, now, and those that have taken its place.

    Whoever has got hold of a key may have rotated it. A limited key ends itself alone. Raises
    KeyNotFound, Forbidden.
    """
    key = _find(by, prefix)
    is_admin = by.may(Scope.ADMIN) and by.is_for_account
    if _looks_after(by, key) or is_admin:
        revoke_key(key, keeps_successors=keeps_successors, by=by)
    elif by.key_id == key.pk:
        revoke_key(key, keeps_successors=True, by=by)
    else:
        raise Forbidden


@audit.act()
def revoke_key(key: ApiKey, *, keeps_successors: bool = False, by: Principal | None = None) -> None:
    """End a key now, and those that have taken its place; a second call changes nothing.

    Asks nobody's rights.
    """
    hold_owner(key.owner_id)
    line = [key.pk] if keeps_successors else line_of(key)
    end_keys(ApiKey.objects.filter(pk__in=line[line.index(key.pk) :]), by=by)


# ------------------------------------------------------------------ who may


def _find(by: Principal, prefix: str, *, is_change: bool = False) -> ApiKey:
    """Return a key that the caller may look at. Raises KeyNotFound."""
    rows = ApiKey.objects.select_related("owner__service_of", "team", "successor")
    if is_change:
        rows = rows.select_for_update(of=("self",))
    key = rows.filter(prefix=prefix).first() if is_prefix(prefix) else None
    if key is None or not _may_see(by, key):
        raise KeyNotFound(prefix)
    return key


def _may_see(by: Principal, key: ApiKey) -> bool:
    if by.key_id == key.pk:
        return True
    return by.is_for_account and (by.may(Scope.ADMIN) or _looks_after(by, key))


def _looks_after(by: Principal, key: ApiKey) -> bool:
    """Whether it is the caller's, or a service account's of a team that they maintain."""
    return by.is_for_account and _may_make_for(key.owner, by)


def _may_make_for(owner: User, by: Principal) -> bool:
    if owner.pk == by.user_id:
        return True
    team = owner.service_of
    return team is not None and by.reaches_in(team.name, TeamRole.MAINTAINER)


def _maintained(by: Principal) -> list[int]:
    """Return the ids of the teams whose service accounts the caller looks after."""
    places = by.teams if by.is_for_account else ()
    return [place.team_id for place in places if place.role.reaches(TeamRole.MAINTAINER)]


def _require_may_make(owner: User, by: Principal) -> None:
    if not (by.is_for_account and _may_make_for(owner, by)):
        raise Forbidden


def _service_account(name: str, by: Principal) -> User:
    """Return a service account that the caller looks after. Raises InvalidKey."""
    services = User.objects.select_related("service_of").filter(is_active=True)
    named = services.filter(username__iexact=findable(name), service_of__isnull=False)
    owner = named.first()
    if owner is None or not _may_make_for(owner, by):
        raise InvalidKey(f"'{name}' is no service account of a team that you maintain")
    return owner


def _require_room(owner: User) -> None:
    """Raise InvalidKey for whoever has as many good keys as one may; their row is held."""
    if ApiKey.objects.usable().filter(owner=owner).count() >= MAX_KEYS:
        raise InvalidKey(f"a user has at most {MAX_KEYS} keys: revoke one first")


def _maker_id(by: Principal | None) -> int | None:
    """Return who is told a new key's secret: behind a service account's key, its own maker."""
    if by is None or by.key_id is None:
        return by.user_id if by else None
    services = ApiKey.objects.filter(pk=by.key_id, owner__service_of__isnull=False)
    makers = list(services.values_list("made_by_id", flat=True))
    return makers[0] if makers else by.user_id


def _require_not_wider(rules: KeyRules, by: Principal) -> None:
    """Raise KeyTooWide where a key would reach further than its maker's own credential."""
    if by.scopes and not (rules.scopes and set(rules.scopes) <= by.scopes):
        raise KeyTooWide(f"scopes must be among: {', '.join(sorted(by.scopes))}")
    if by.key_id is None:
        return
    if limit_rules.has_limits(by.key_id):
        raise KeyTooWide("it has limits of its own, which another key would have once more")
    own = ApiKey.objects.select_related("team").get(pk=by.key_id)
    if not are_within(rules.models, own.model_patterns):
        raise KeyTooWide(f"models must be within: {', '.join(own.model_patterns)}")
    if not _networks_within(rules.networks, own.networks):
        raise KeyTooWide(f"networks must be within: {', '.join(own.networks)}")
    latest = own.expires_at
    if latest is not None and (rules.expires_at is None or rules.expires_at > latest):
        raise KeyTooWide(f"it must expire by {latest.isoformat()}")
    if own.team is not None and rules.team.lower() != own.team.name.lower():
        raise KeyTooWide(f"its team must be: {own.team.name}")


def _networks_within(inner: Iterable[str], outer: Iterable[str]) -> bool:
    wide = [ipaddress.ip_network(text) for text in outer]
    narrow = [ipaddress.ip_network(text) for text in inner]
    if not wide:
        return True
    return bool(narrow) and all(any(_is_within(one, other) for other in wide) for one in narrow)


def _is_within(inner: Network, outer: Network) -> bool:
    match inner, outer:
        case ipaddress.IPv4Network(), ipaddress.IPv4Network():
            return inner.subnet_of(outer)
        case ipaddress.IPv6Network(), ipaddress.IPv6Network():
            return inner.subnet_of(outer)
    return False


# ------------------------------------------------------------------ what a key is


def _copy(old: ApiKey, *, made_by_id: int | None) -> tuple[ApiKey, str]:
    """Return a new key for what another one is for, with its limits, and its secret."""
    prefix, secret = new_secret()
    key = ApiKey.objects.create(
        owner=old.owner,
        name=old.name,
        prefix=prefix,
        secret_hash=hash_secret(secret),
        scopes=old.scopes,
        model_patterns=old.model_patterns,
        networks=old.networks,
        team=old.team,
        expires_at=old.expires_at,
        made_by_id=made_by_id,
    )
    limit_rules.copy_key_rules(old.pk, key.pk)
    return key, secret


def _checked(rules: KeyRules) -> KeyRules:
    """Return the rules as they are stored. Raises InvalidKey with a sentence."""
    try:
        models = check_patterns(rules.models)
    except ValidationError as error:
        raise InvalidKey(" ".join(error.messages)) from error
    return KeyRules(
        scopes=tuple(scope for scope in Scope if scope in rules.scopes),
        models=models,
        networks=check_networks(rules.networks),
        expires_at=rules.expires_at,
        team=rules.team.strip(),
    )


def check_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Return CIDR blocks as they are stored, each once. Raises InvalidKey with a sentence."""
    found: dict[str, None] = {}
    for text in filter(None, (text.strip() for text in texts)):
        try:
            found[str(_network(text))] = None
        except ValueError as error:
            shown = text[:_MAX_NAME]
            raise InvalidKey(
                f"'{shown}' is no network: write 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
            ) from error
    if len(found) > _MAX_NETWORKS:
        raise InvalidKey(f"a key has at most {_MAX_NETWORKS} networks")
    return tuple(found)


def _network(text: str) -> Network:
    network = ipaddress.ip_network(text, strict=False)
    if "%" in text:  # the zone of `fe80::1%eth0` may be any text, and is never compared
        raise ValueError
    return network


def _name(text: str) -> str:
    name = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not 0 < len(name) <= _MAX_NAME:
        raise InvalidKey(f"a key needs a name of at most {_MAX_NAME} characters")
    return name


def _team_of(owner: User, name: str) -> Team | None:
    """Return the owner's team of that name; None for no name. Raises InvalidKey."""
    if not name:
        return None
    places = Membership.objects.select_related("team").filter(user=owner)
    found = places.filter(team__name__iexact=findable(name)).first()
    if found is None:
        raise InvalidKey(f"{owner.username} is in no team '{name[:_MAX_NAME]}'")
    return found.team


def _rules(key: ApiKey) -> KeyRules:
    return KeyRules(
        scopes=tuple(Scope(scope) for scope in key.scopes),
        models=tuple(key.model_patterns),
        networks=tuple(key.networks),
        expires_at=key.expires_at,
        team=key.team.name if key.team else "",
    )


def _is_usable(key: ApiKey) -> bool:
    return ApiKey.objects.usable().filter(pk=key.pk).exists()


def _record(key: ApiKey, *, is_usable: bool) -> KeyRecord:
    return KeyRecord(
        prefix=key.prefix,
        name=key.name,
        owner=key.owner.username,
        rules=_rules(key),
        state=_state(key, is_usable=is_usable),
        created_at=key.created_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        last_used_address=key.last_used_address,
        successor=key.successor.prefix if key.successor else "",
        service_of=key.owner.service_of.name if key.owner.service_of else "",
    )


def _state(key: ApiKey, *, is_usable: bool) -> str:
    if is_usable:
        return "active" if key.successor_id is None else "rotated"
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return "expired"
    return "ended"


def _told(key: ApiKey) -> dict[str, audit.JsonValue]:
    """Return what the audit keeps of a new key."""
    return {
        "scopes": key.scopes,
        "models": key.model_patterns,
        "networks": key.networks,
        "team": key.team.name if key.team else "",
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
    }

"""Accounts and keys: the writes. Knows nothing of HTTP or of how a credential is presented."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from models_app.models import ApiKey, User
from models_app.names import LIBRARY
from models_app.permissions import CredentialKind, Principal, Scope

_KEY_PREFIX_BYTES: Final = 6
_KEY_SECRET_BYTES: Final = 24
_KEY: Final = re.compile(r"osk-([0-9a-f]{12})-([0-9a-f]{48})")
# A user's name is also the user's namespace, so it must be one (contract 4.7).
_USERNAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_RESERVED: Final = frozenset({LIBRARY, "api", "v1", "v2", "admin-site"})


@dataclass(frozen=True, slots=True)
class FirstAdmin:
    """The first administrator, with the secrets that are shown once."""

    username: str
    password: str
    api_key: str


def create_user(username: str, password: str, *, is_admin: bool = False) -> User:
    """Create an account. Raises ValidationError with sentences for the person who typed it."""
    if not _USERNAME.fullmatch(username) or username.lower() in _RESERVED:
        raise ValidationError(
            f"{username!r} cannot be a user name: use letters, digits, '_' and '-', at most 80, "
            "starting with a letter, digit or '_'; some words are reserved."
        )
    if User.objects.filter(username__iexact=username).exists():
        raise ValidationError(f"There is already a user {username!r}.")
    return User.objects.create_user(
        username, password=password, is_staff=is_admin, is_superuser=is_admin
    )


def principal_granted(user_id: int, *granted: str) -> Principal | None:
    """Return a user as one who may do only what a token of this site names, in its scopes' words.

    None where the user is gone or inactive.
    """
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        return None
    return Principal(
        user_id=user.pk,
        username=user.username,
        is_admin=user.is_superuser,
        kind=CredentialKind.REGISTRY_TOKEN,
        granted=frozenset(granted),
    )


def create_key(
    owner: User,
    name: str,
    *,
    scopes: tuple[Scope, ...] = (),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Create a key and return it with its secret, which cannot be read again later."""
    prefix = secrets.token_hex(_KEY_PREFIX_BYTES)
    secret = f"osk-{prefix}-{secrets.token_hex(_KEY_SECRET_BYTES)}"
    key = ApiKey.objects.create(
        owner=owner,
        name=name,
        prefix=prefix,
        secret_hash=hash_secret(secret),
        scopes=[str(scope) for scope in scopes],
        expires_at=expires_at,
    )
    return key, secret


def key_prefix(secret: str) -> str | None:
    """Return the public part of a key, or None where the text is no key of ours."""
    match = _KEY.fullmatch(secret)
    return match[1] if match else None


def hash_secret(secret: str) -> str:
    """Return the HMAC-SHA256 of a key under the site's pepper, in hex."""
    return hmac.new(settings.KEY_PEPPER.encode(), secret.encode(), hashlib.sha256).hexdigest()


def revoke_key(key: ApiKey) -> None:
    """End a key now. A second call changes nothing."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


@transaction.atomic
def create_first_admin() -> FirstAdmin | None:
    """Create `admin` with a key where the site has no user at all, else return None."""
    if User.objects.exists():
        return None
    password = secrets.token_urlsafe(12)
    user = create_user("admin", password, is_admin=True)
    _, api_key = create_key(user, "first key")
    return FirstAdmin(username=user.username, password=password, api_key=api_key)

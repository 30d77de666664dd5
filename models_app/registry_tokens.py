"""Registry tokens: what they are for, how they are made, and who presents one.

A token is signed data, not a row: who it is of, by which credential it was fetched, and what it is
for (contract/registry.md 2.4). It holds for an hour, and at every use only while that credential
would: a revoked key, a closed account or a new password end it. Whether somebody may touch a
repository is decided where it is touched. Knows nothing of HTTP.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.core import signing
from django.utils import timezone

from models_app.errors import InvalidToken
from models_app.models import ApiKey, ClientKey, User
from models_app.permissions import CredentialKind, Principal, Scope
from ollamasite.errors import BadRequest

TOKEN_LIFE: Final = timedelta(hours=1)
CATALOG: Final = "registry:catalog:*"
_SALT: Final = "models_app.registry_tokens"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,254}")
_NEEDED: Final = {"pull": Scope.READ, "push": Scope.WRITE, "delete": Scope.WRITE}
_MAX_ASKED: Final = 64


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token. `granted` is what it is for: `repository:<namespace>/<model>:<action>`."""

    text: str
    granted: tuple[str, ...]
    issued_at: datetime


def issue_token(principal: Principal, asked: Iterable[str]) -> IssuedToken:
    """Make a token for those of the asked scopes that the principal's credential reaches.

    `asked` are scopes as a challenge names them, several in one text with blanks between. Raises
    InvalidToken where the credential is a token itself, BadRequest for too many scopes.
    """
    if principal.kind is CredentialKind.REGISTRY_TOKEN:
        raise InvalidToken
    granted = tuple(_granted(principal, asked))
    issued_at = timezone.now().astimezone(UTC)
    held = {"u": principal.user_id, "g": granted, **_proof_of(principal)}
    return IssuedToken(_signer().sign_object(held), granted, issued_at)


def principal_of_token(text: str) -> Principal:
    """Return who presents a token. Raises InvalidToken."""
    try:
        held = _signer().unsign_object(text, max_age=TOKEN_LIFE)
    except (signing.BadSignature, ValueError) as error:
        raise InvalidToken from error
    user, scopes = _holder(held)
    return Principal(
        user_id=user.pk,
        username=user.username,
        is_admin=user.is_superuser,
        kind=CredentialKind.REGISTRY_TOKEN,
        key_id=held.get("k"),
        scopes=scopes,
        granted=frozenset(held["g"]),
        client_key_id=held.get("c"),
    )


def _signer() -> signing.TimestampSigner:
    # Its default separator is none of the characters that a Bearer token may have (RFC 6750, 2.1).
    return signing.TimestampSigner(salt=_SALT, sep=".")


def _proof_of(principal: Principal) -> dict[str, Any]:
    """Return what a token's life hangs on besides its owner's account."""
    if principal.key_id is not None:
        return {"k": principal.key_id}
    if principal.client_key_id is not None:
        return {"c": principal.client_key_id}
    return {"s": User.objects.get(pk=principal.user_id).get_session_auth_hash()}


def _holder(held: dict[str, Any]) -> tuple[User, frozenset[Scope]]:
    """Return whose token it is and what its credential may be used for. Raises InvalidToken."""
    owner = User.objects.filter(pk=held["u"], is_active=True).first()
    if owner is None:
        raise InvalidToken
    scopes: Iterable[str] = ()
    if "k" in held:
        key = ApiKey.objects.usable().filter(pk=held["k"], owner=owner).first()
        is_good = key is not None
        scopes = key.scopes if key else ()
    elif "c" in held:
        is_good = ClientKey.objects.filter(pk=held["c"], owner=owner).exists()
    else:
        is_good = held["s"] == owner.get_session_auth_hash()
    if not is_good:
        raise InvalidToken
    return owner, frozenset(Scope(scope) for scope in scopes)


def _granted(principal: Principal, asked: Iterable[str]) -> Iterable[str]:
    """Yield each thing that is asked and allowed, once; what makes no sense is granted to nobody.

    Raises BadRequest.
    """
    wanted = [scope for text in asked for scope in text.split()]
    if len(wanted) > _MAX_ASKED:
        raise BadRequest(f"a token is for at most {_MAX_ASKED} scopes")
    granted: dict[str, None] = {}
    for scope in wanted:
        if scope == CATALOG and principal.may(Scope.READ):
            granted[scope] = None
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository" and _NAME.fullmatch(name):
            for action in _allowed(principal, actions):
                granted[f"{kind}:{name}:{action}"] = None
    return granted


def _allowed(principal: Principal, actions: str) -> list[str]:
    asked = set(_NEEDED) if actions == "*" else set(actions.split(","))
    return [action for action, scope in _NEEDED.items() if action in asked and principal.may(scope)]

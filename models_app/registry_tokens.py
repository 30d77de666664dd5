"""Registry tokens: what they are for, how they are made, and who presents one.

A token is signed data, not a row: who it is of, by which credential it was fetched, and what it is
for (contract/registry.md 2.4). It holds for an hour, and at every use only while that credential
would (`models_app.proofs`). Whether somebody may touch a repository is decided where it is touched.
Knows nothing of HTTP.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from django.core import signing
from django.utils import timezone

from models_app.errors import InvalidToken
from models_app.permissions import CredentialKind, Principal, Scope
from models_app.proofs import holder_of, proof_of
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
    held = {"g": granted, **proof_of(principal)}
    return IssuedToken(_signer().sign_object(held), granted, issued_at)


def principal_of_token(text: str, address: str | None = None) -> Principal:
    """Return who presents a token from an address. Raises InvalidToken.

    What a key's own limits leave, is left of its tokens.
    """
    try:
        held = _signer().unsign_object(text, max_age=TOKEN_LIFE)
    except (signing.BadSignature, ValueError) as error:
        raise InvalidToken from error
    principal = holder_of(held, address)
    if principal is None:
        raise InvalidToken
    granted = frozenset(held["g"])
    return replace(principal, kind=CredentialKind.REGISTRY_TOKEN, granted=granted)


def _signer() -> signing.TimestampSigner:
    # Its default separator is none of the characters that a Bearer token may have (RFC 6750, 2.1).
    return signing.TimestampSigner(salt=_SALT, sep=".")


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

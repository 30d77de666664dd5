"""Any credential → one Principal. The only place where a credential is checked.

What a key gives is the business of `models_app.keys`; keys that were looked up a moment ago are
known without a query (`models_app.principal_cache`).

Bearer key, `x-api-key`, Basic with the key as password, and the session cookie all end in
`authenticate`; HTTP requests and WebSocket scopes are only two ways to fill `Credentials`. Below
/v2 a registry token is a Bearer credential too. Signatures with a registered ed25519 key are for
HTTP requests alone: what is signed is the request.
"""

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware, RejectRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from models_app import (
    attempts,
    audit,
    browser_sessions,
    key_uses,
    principal_cache,
    sign_ins,
    signatures,
)
from models_app.attempts import Attempt
from models_app.errors import InvalidToken
from models_app.key_secrets import key_prefix
from models_app.models import User
from models_app.node_tokens import is_node_token, principal_of_node
from models_app.permissions import CredentialKind, Principal
from models_app.principals import KeyHolder, principal_of_user
from models_app.registry_tokens import principal_of_token
from models_app.signatures import Signature, parse_signature
from ollamasite import client_address
from ollamasite.challenges import TOKEN_PATH, asked_of_request, is_own_address
from ollamasite.client_address import is_from_networks
from ollamasite.error_responses import Dialect, dialect_of
from ollamasite.errors import Unauthenticated

# How often it is worth a row that somebody has a key and is where it is not for.
_FOREIGN_STEP_S: Final = 600.0
_MOST_FOREIGN: Final = 10_000
_UNSURE: Final = (
    "the address in this signed request may be another machine's: whoever runs the site can name "
    "it in OLLAMASITE_ALLOWED_HOSTS"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller presented. `session_user` is set only where the cookie may be trusted.

    `is_bearer`: the key came as Bearer, so it may be a registry token. `address`: from where.
    """

    key: str | None = None
    session_user: User | None = None
    session_key: str = ""
    address: str | None = None
    signature: Signature | None = None
    is_bearer: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is none, right or wrong, in the headers."""
        return self.key is None and self.signature is None


def credentials_of_headers(headers: Mapping[str, str], address: str | None = None) -> Credentials:
    """Read the key or signature out of `Authorization` or `X-Api-Key` (names in lower case)."""
    if authorization := headers.get("authorization", "").strip():
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            return Credentials(key=_basic_password(value), address=address)
        if scheme.lower() == "bearer":
            return Credentials(key=value.strip(), is_bearer=True, address=address)
        if signature := parse_signature(authorization):
            return Credentials(signature=signature, address=address)
        return Credentials(key=authorization, address=address)
    key = headers.get("x-api-key")
    return Credentials(key=key.strip() if key is not None else None, address=address)


def authenticate(credentials: Credentials) -> Principal:
    """Return who presents a key or a session. Raises Unauthenticated.

    A key that is there but wrong is refused even beside a good session. Signatures and registry
    tokens are nobody's here.
    """
    if credentials.key is not None:
        return _principal_of_key(credentials.key, credentials.address)
    user = credentials.session_user
    if user is None or not user.is_active:
        raise Unauthenticated
    return principal_of_user(user, CredentialKind.SESSION, session_key=credentials.session_key)


def known_principal(request: HttpRequest) -> Principal | None:
    """Return who presents a key that has been looked up a moment ago. No query, no waiting.

    None for every other request, good or bad: ask `principal_of_request`.
    """
    credentials = _credentials_of(request)
    if not credentials.key:
        return None
    known = principal_cache.find(credentials.key)
    if known is None or not is_from_networks(credentials.address, known.networks):
        return None
    return _used(known, credentials.address)


def principal_of_request(request: HttpRequest, *, is_change: bool) -> Principal:
    """Authenticate an HTTP request. Raises Unauthenticated.

    `is_change`: the request changes something, so that a signature is good for it only once.
    """
    credentials = _credentials_of(request)
    if credentials.signature is not None:
        return _principal_of_signature(credentials.signature, request, is_change=is_change)
    if credentials.is_empty and request.user.is_authenticated and _is_cookie_trusted(request):
        session_key = request.session.session_key or ""
        credentials = Credentials(session_user=request.user, session_key=session_key)
        sign_ins.renew(request.session)
        browser_sessions.note(request, request.user.pk)
    if credentials.is_bearer and dialect_of(request.path_info) is Dialect.REGISTRY:
        return _principal_of_bearer(credentials)
    return authenticate(credentials)


def principal_of_scope(scope: Mapping[str, Any]) -> Principal:
    """Authenticate a WebSocket whose Origin has been checked. Raises Unauthenticated."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    credentials = credentials_of_headers(headers, client_address.address_of_scope(scope))
    user = scope.get("user")
    if credentials.is_empty and isinstance(user, User):
        session = scope.get("session")
        session_key = (session.session_key if session is not None else None) or ""
        credentials = Credentials(session_user=user, session_key=session_key)
    return authenticate(credentials)


def _credentials_of(request: HttpRequest) -> Credentials:
    names = {"authorization": "HTTP_AUTHORIZATION", "x-api-key": "HTTP_X_API_KEY"}
    headers = {name: request.META[key] for name, key in names.items() if key in request.META}
    return credentials_of_headers(headers, client_address.address_of_request(request))


def _principal_of_bearer(credentials: Credentials) -> Principal:
    """Return who presents a key or a registry token. Raises InvalidToken."""
    text = credentials.key or ""
    if not key_prefix(text):
        return principal_of_token(text, credentials.address)
    try:
        return authenticate(credentials)
    except Unauthenticated as error:
        raise InvalidToken from error


def _principal_of_signature(
    signature: Signature, request: HttpRequest, *, is_change: bool
) -> Principal:
    """Return whose key has signed the request. Raises Unauthenticated."""
    asked = asked_of_request(request)
    if "?" in asked.path:  # one text could stand for several requests
        raise Unauthenticated
    is_for_token = asked.path == TOKEN_PATH
    text = signatures.request_text(asked.method, asked.path, asked.query)
    if is_for_token:
        if not is_own_address(asked.host, request.META.get("SERVER_NAME", "")):
            raise Unauthenticated(_UNSURE)
        text = signatures.token_text(asked.url)
    key = signatures.client_key_of(signature, text, asked.query)
    if is_change or is_for_token:
        signatures.use_once(signature, text)
    return principal_of_user(key.owner, CredentialKind.SIGNATURE, client_key_id=key.pk)


def _basic_password(encoded: str) -> str:
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return text.partition(":")[2]


def _principal_of_key(secret: str, address: str | None) -> Principal:
    if is_node_token(secret):
        return principal_of_node(secret) or _refuse_key(address)
    known = principal_cache.find(secret) or principal_cache.look_up(secret)
    if known is None:
        _refuse_key(address)
    if not is_from_networks(address, known.networks):
        _note_foreign(known, address)
        _refuse_key(address)
    return _used(known, address)


def _used(known: KeyHolder, address: str | None) -> Principal:
    if known.principal.key_id is not None:
        key_uses.note(known.principal.key_id, address, known.last_used_at)
    return known.principal


def _refuse_key(address: str | None) -> NoReturn:
    """Raise the same for every key that does not hold, or TooManyAttempts for too many."""
    attempts.note(Attempt.WRONG_KEY, address)
    raise Unauthenticated


_foreign_s: Final[dict[str, float]] = {}  # by prefix


def _note_foreign(known: KeyHolder, address: str | None) -> None:
    """Record, once in a while, that a key is presented from where it is not for: has it leaked?"""
    now_s = time.monotonic()
    if now_s - _foreign_s.get(known.prefix, float("-inf")) < _FOREIGN_STEP_S:
        return
    if len(_foreign_s) >= _MOST_FOREIGN:
        _foreign_s.clear()
    _foreign_s[known.prefix] = now_s
    audit.record("key.refuse", known.principal.key_name, by=None, tried_from=address or "")


def _no_view(_request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class _CsrfCheck(CsrfViewMiddleware):
    """CSRF check on demand, for routes that are exempt because keys need none."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        del request
        return reason

    def passes(self, request: HttpRequest) -> bool:
        """Whether the request carries the token that belongs to its cookie."""
        if not request.headers.get("X-CSRFToken"):
            return False
        self.process_request(request)
        try:
            # `process_view` would let a GET pass without looking at its token.
            self._check_token(request)  # type: ignore[attr-defined] # not in the stubs
        except RejectRequest:
            return False
        return self.process_view(request, _no_view, (), {}) is None


def _is_cookie_trusted(request: HttpRequest) -> bool:
    # Pages have Django's own CSRF middleware. On API routes a cookie alone proves nothing about
    # who wrote the request, so the token is asked for, also for GET.
    if dialect_of(request.path_info) is Dialect.PAGE:
        return True
    return _CsrfCheck(_no_view).passes(request)


class PrincipalAuthentication(BaseAuthentication):
    """Hands DRF the principal that the gate has put on the request."""

    def authenticate(self, request: Request) -> tuple[Principal, None]:
        """Return the principal as DRF's user."""
        principal: Principal = request._request.principal  # type: ignore[attr-defined]  # noqa: SLF001
        return principal, None

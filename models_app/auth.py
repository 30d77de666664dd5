"""Any credential → one Principal. The only place where a credential is checked.

Bearer key, `x-api-key`, Basic with the key as password, and the session cookie all end in
`authenticate`; HTTP requests and WebSocket scopes are only two ways to fill `Credentials`. Below
/v2 a registry token is a Bearer credential too. Signatures with a registered ed25519 key are for
HTTP requests alone: what is signed is the request.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware, RejectRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from models_app import signatures
from models_app.accounts import hash_secret, key_prefix
from models_app.errors import InvalidToken
from models_app.models import ApiKey, User
from models_app.permissions import CredentialKind, Principal, Scope
from models_app.registry_tokens import principal_of_token
from models_app.signatures import Signature, parse_signature
from ollamasite.challenges import TOKEN_PATH, asked_of_request, is_own_address
from ollamasite.error_responses import Dialect, dialect_of
from ollamasite.errors import Unauthenticated

# Writing on every request would cost more than the request: a minute is exact enough.
_LAST_USED_STEP: Final = timedelta(minutes=1)
_UNSURE: Final = (
    "the address in this signed request may be another machine's: whoever runs the site can name "
    "it in OLLAMASITE_ALLOWED_HOSTS"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller presented. `session_user` is set only where the cookie may be trusted.

    `is_bearer`: the key came as Bearer, so it may be a registry token.
    """

    key: str | None = None
    session_user: User | None = None
    signature: Signature | None = None
    is_bearer: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is none, right or wrong, in the headers."""
        return self.key is None and self.signature is None


def credentials_of_headers(headers: Mapping[str, str]) -> Credentials:
    """Read the key or signature out of `Authorization` or `X-Api-Key` (names in lower case)."""
    if authorization := headers.get("authorization", "").strip():
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            return Credentials(key=_basic_password(value))
        if scheme.lower() == "bearer":
            return Credentials(key=value.strip(), is_bearer=True)
        if signature := parse_signature(authorization):
            return Credentials(signature=signature)
        return Credentials(key=authorization)
    key = headers.get("x-api-key")
    return Credentials(key=key.strip() if key is not None else None)


def authenticate(credentials: Credentials) -> Principal:
    """Return who presents a key or a session. Raises Unauthenticated.

    A key that is there but wrong is refused even beside a good session. Signatures and registry
    tokens are nobody's here.
    """
    if credentials.key is not None:
        return _principal_of_key(credentials.key)
    user = credentials.session_user
    if user is None or not user.is_active:
        raise Unauthenticated
    return Principal(
        user_id=user.pk,
        username=user.username,
        is_admin=user.is_superuser,
        kind=CredentialKind.SESSION,
    )


def principal_of_request(request: HttpRequest, *, is_change: bool) -> Principal:
    """Authenticate an HTTP request. Raises Unauthenticated.

    `is_change`: the request changes something, so that a signature is good for it only once.
    """
    headers = {name.lower(): value for name, value in request.headers.items()}
    credentials = credentials_of_headers(headers)
    if credentials.signature is not None:
        return _principal_of_signature(credentials.signature, request, is_change=is_change)
    if credentials.is_empty and request.user.is_authenticated and _is_cookie_trusted(request):
        credentials = Credentials(session_user=request.user)
    if credentials.is_bearer and dialect_of(request.path_info) is Dialect.REGISTRY:
        return _principal_of_bearer(credentials)
    return authenticate(credentials)


def principal_of_scope(scope: Mapping[str, Any]) -> Principal:
    """Authenticate a WebSocket whose Origin has been checked. Raises Unauthenticated."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    credentials = credentials_of_headers(headers)
    user = scope.get("user")
    if credentials.is_empty and isinstance(user, User):
        credentials = Credentials(session_user=user)
    return authenticate(credentials)


def _principal_of_bearer(credentials: Credentials) -> Principal:
    """Return who presents a key or a registry token. Raises InvalidToken."""
    text = credentials.key or ""
    if not key_prefix(text):
        return principal_of_token(text)
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
    return Principal(
        user_id=key.owner.pk,
        username=key.owner.username,
        is_admin=key.owner.is_superuser,
        kind=CredentialKind.SIGNATURE,
        client_key_id=key.pk,
    )


def _basic_password(encoded: str) -> str:
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return text.partition(":")[2]


def _principal_of_key(secret: str) -> Principal:
    prefix = key_prefix(secret)
    key = ApiKey.objects.usable().select_related("owner").filter(prefix=prefix or "").first()
    # The hash is computed and compared also where there is no such key.
    is_right = hmac.compare_digest(hash_secret(secret), key.secret_hash if key else "")
    if key is None or not is_right:
        raise Unauthenticated
    _note_use(key)
    return Principal(
        user_id=key.owner.pk,
        username=key.owner.username,
        is_admin=key.owner.is_superuser,
        kind=CredentialKind.KEY,
        key_id=key.pk,
        scopes=frozenset(Scope(scope) for scope in key.scopes),
    )


def _note_use(key: ApiKey) -> None:
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > _LAST_USED_STEP:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


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

"""Signing in with a password: who may try, what is recorded, how long it lasts.

Two guards stand before the password is looked at. Tries are counted by address, right and wrong
ones, before anything else (`models_app.attempts`). And whoever was wrong too often about one name
from one address waits (django-axes, see the settings AXES_*): not that name from elsewhere, so
that no stranger keeps somebody out. A name that does not exist is treated like one that does.
Knows no form and no page.
"""

import ipaddress
import math
import time
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import authenticate, update_session_auth_hash
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponse

from models_app import attempts, audit, browser_sessions, people
from models_app.attempts import Attempt
from models_app.errors import TooManyAttempts
from models_app.models import User
from models_app.permissions import CredentialKind, Principal
from models_app.principals import principal_of_user
from ollamasite.client_address import address_of_request
from ollamasite.error_responses import to_response
from ollamasite.errors import Forbidden

# How often a session that is used is written anew, as a part of how long it lasts.
_RENEWED_AFTER: Final = 0.05
_RENEWED_AT: Final = "renewed_at"
_MAX_COUNTED_NAME: Final = 255


def require_try(request: HttpRequest) -> None:
    """Count a try to sign in, whatever comes of it. Raises TooManyAttempts."""
    attempts.note(Attempt.SIGN_IN, address_of_request(request))


def require_password(request: HttpRequest, principal: Principal, password: str) -> None:
    """Have somebody who is signed in prove it again. Raises Forbidden, TooManyAttempts."""
    require_try(request)
    user = authenticate(request, username=principal.username, password=password)
    if user is None or user.pk != principal.user_id:
        raise Forbidden("the password is wrong")


def end_other_sessions(request: HttpRequest, by: Principal) -> None:
    """End all of the caller's sessions but this request's, which goes on by another key."""
    people.end_sessions(by.username, by=by)
    before = request.session.session_key or ""
    update_session_auth_hash(request, User.objects.get(pk=by.user_id))
    browser_sessions.go_on_as(before, request.session.session_key or "")


def renew(session: SessionBase) -> None:
    """Have a session that is used last its whole time from now on, written once in a while."""
    now_s = int(time.time())
    if now_s - session.get(_RENEWED_AT, 0) > settings.SESSION_COOKIE_AGE * _RENEWED_AFTER:
        session[_RENEWED_AT] = now_s


# ------------------------------------------------------------------ what django-axes asks


def counted_address(request: HttpRequest) -> str | None:
    """Return the address that wrong passwords are counted by (AXES_CLIENT_IP_CALLABLE)."""
    network = attempts.network_of(address_of_request(request) or "")
    if network is None:
        return None
    return str(ipaddress.ip_network(network).network_address)


def counted_name(request: HttpRequest, credentials: dict[str, Any] | None) -> str:
    """Return the name that wrong passwords are counted by (AXES_USERNAME_CALLABLE)."""
    del request
    # As long as the column is: nobody has a longer one.
    return str((credentials or {}).get("username") or "").lower()[:_MAX_COUNTED_NAME]


def locked_out(
    request: HttpRequest, original: HttpResponse | None, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """Answer for somebody who was wrong too often (AXES_LOCKOUT_CALLABLE)."""
    del original, credentials
    wait_s = math.ceil(settings.AXES_COOLOFF_TIME.total_seconds())
    return to_response(TooManyAttempts(wait_s=wait_s), request)


# ------------------------------------------------------------------ the audit


def record_sign_ins() -> None:
    """Have every sign-in, right or wrong, and every sign-out recorded from now on."""
    user_logged_in.connect(_signed_in, dispatch_uid="audit")
    user_logged_out.connect(_signed_out, dispatch_uid="audit")
    user_login_failed.connect(_refused, dispatch_uid="audit")
    browser_sessions.record_sessions()


def _signed_in(user: User, **_: Any) -> None:
    audit.record("signin.ok", user.username, by=principal_of_user(user, CredentialKind.SESSION))


def _signed_out(user: User | None, **_: Any) -> None:
    if user is not None:
        audit.record("signout", user.username, by=principal_of_user(user, CredentialKind.SESSION))


def _refused(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    # A name that is nobody's is not kept: people type their passwords into the wrong field.
    typed = str(credentials.get("username") or "")
    user = User.objects.filter(username__iexact=typed).first() if typed else None
    is_locked = getattr(request, "axes_locked_out", False)
    action = "signin.locked" if is_locked else "signin.failed"
    audit.record(action, user.username if user else "", by=None, is_known=user is not None)

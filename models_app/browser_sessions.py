"""Somebody's sessions in browsers: since when, from where, with what; and their end.

Django's own rows say nothing of that. A row of ours is written when somebody signs in, and brought
up to date while they use the session, at most once in `_STEP_S` by each process. Which sessions are
good is still Django's to say; what is over is removed, here alone. Knows no page.
"""

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from models_app import audit
from models_app.errors import SessionNotFound
from models_app.models import BrowserSession, User
from models_app.permissions import Principal
from ollamasite.client_address import address_of_request

_STEP_S: Final = 300.0
_MOST_NOTED: Final = 50_000
_MOST_LISTED: Final = 100
_MAX_AGENT: Final = 200
_REMOVE_EVERY_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A session that is good. `agent` is what the browser says that it is."""

    session_id: int
    began_at: datetime
    seen_at: datetime
    address: str | None
    agent: str
    is_this: bool


class _Noted:
    """Which sessions this process has noted a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted_s: dict[str, float] = {}

    def is_due(self, session_key: str) -> bool:
        """Whether it is time to note a session; whoever is told so does it."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._noted_s.get(session_key, float("-inf")) < _STEP_S:
                return False
            if len(self._noted_s) >= _MOST_NOTED:
                self._noted_s.clear()
            self._noted_s[session_key] = now_s
            return True


_noted: Final = _Noted()


def record_sessions() -> None:
    """Have every session noted that begins from now on."""
    user_logged_in.connect(_began, dispatch_uid="browser sessions")


def note(request: HttpRequest, user_id: int) -> None:
    """Note that a session is used now, by whoever has signed in with it."""
    session_key = request.session.session_key
    if not session_key or not _noted.is_due(session_key):
        return
    seen = {"seen_at": timezone.now(), "address": address_of_request(request)}
    if BrowserSession.objects.filter(session_key=session_key).update(**seen):
        return
    agent = " ".join(request.headers.get("user-agent", "").replace("\0", " ").split())
    try:
        with transaction.atomic():
            BrowserSession.objects.create(
                user_id=user_id, session_key=session_key, agent=agent[:_MAX_AGENT], **seen
            )
    except IntegrityError:
        return  # another process was quicker, or the account is gone


def list_sessions(by: Principal) -> list[SessionRecord]:
    """Return the caller's good sessions, the one that was used last first. Three queries."""
    user = User.objects.filter(pk=by.user_id).first()
    rows = list(BrowserSession.objects.filter(user_id=by.user_id).order_by("-seen_at"))
    keys = [row.session_key for row in rows]
    good = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    known = {row.session_key for row in good if user is not None and _is_of(row, user)}
    own_key = by.session[0] if by.session else ""
    return [
        SessionRecord(
            session_id=row.pk,
            began_at=row.began_at,
            seen_at=row.seen_at,
            address=row.address,
            agent=row.agent,
            is_this=row.session_key == own_key,
        )
        for row in rows
        if row.session_key in known
    ][:_MOST_LISTED]


def go_on_as(before: str, session_key: str) -> None:
    """Have what is known of a session hold for the one that has taken its place."""
    BrowserSession.objects.filter(session_key=before).update(session_key=session_key)


@audit.act()
def end_session(session_id: int, *, by: Principal) -> None:
    """End one of the caller's sessions. Raises SessionNotFound."""
    row = BrowserSession.objects.filter(pk=session_id, user_id=by.user_id).first()
    if row is None:
        raise SessionNotFound
    Session.objects.filter(session_key=row.session_key).delete()
    row.delete()
    audit.record("user.end-session", by.username, by=by, address=row.address or "")


def remove_over() -> None:
    """Remove what is known of sessions that are over: rows of ours, and Django's own."""
    Session.objects.filter(expire_date__lte=timezone.now()).delete()
    _over().delete()


def remove_over_in_time() -> None:
    """Do so once in `_REMOVE_EVERY_S`; a worker asks every few seconds. Raises django.db.Error."""
    if time.monotonic() >= _Times.remove_at:
        _Times.remove_at = time.monotonic() + _REMOVE_EVERY_S
        remove_over()


class _Times:
    """When it is done next, by the monotonic clock."""

    remove_at = 0.0


def _over() -> QuerySet[BrowserSession]:
    good = Session.objects.filter(expire_date__gt=timezone.now())
    return BrowserSession.objects.exclude(session_key__in=good.values("session_key"))


def _is_of(row: Session, user: User) -> bool:
    """Whether a session was not ended by another password or with all others."""
    known = row.get_decoded().get(HASH_SESSION_KEY, "")
    return constant_time_compare(known, user.get_session_auth_hash())


def _began(request: HttpRequest, user: User, **_: Any) -> None:
    # What is left of those that are over, here, where it is nobody's wait.
    _over().filter(user=user).delete()
    note(request, user.pk)

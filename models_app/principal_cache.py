"""Keys that have just been looked up, so that a busy key costs no query.

A key's rows are believed for `KEPT_S` seconds after they were asked for: what ends a key, in
whatever process and however it is written, is seen everywhere that soon, and in the process that
writes it through the ORM at once. Nothing is kept of a key that does not hold, so guesses fill no
memory. Entries go by the peppered hash of the whole key, or by its id. Knows no HTTP.
"""

import hmac
import threading
import time
from typing import Any, Final

from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from models_app.key_secrets import hash_secret, key_prefix
from models_app.models import ApiKey, Membership, Team, User
from models_app.principals import KeyHolder, holder_of_key, holder_of_prefix

KEPT_S: Final = 0.5
_MOST: Final = 50_000


class _Known:
    """What has been looked up within the last `KEPT_S` seconds, the oldest first."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, KeyHolder]] = {}
        self._lock = threading.Lock()

    def get(self, digest: str) -> KeyHolder | None:
        asked_s, known = self._entries.get(digest, (0.0, None))
        if known is None or time.monotonic() - asked_s > KEPT_S:
            return None
        return known

    def put(self, digest: str, known: KeyHolder, asked_s: float) -> None:
        """`asked_s`: when the database was asked, which is before it has answered."""
        with self._lock:
            self._entries.pop(digest, None)
            oldest_s = time.monotonic() - KEPT_S
            while self._entries:
                oldest = next(iter(self._entries))
                if self._entries[oldest][0] > oldest_s and len(self._entries) < _MOST:
                    break
                del self._entries[oldest]
            self._entries[digest] = (asked_s, known)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


_known: Final = _Known()


def find(secret: str) -> KeyHolder | None:
    """Return who presents a key that was looked up a moment ago; None: `look_up`. No query."""
    known = _known.get(hash_secret(secret))
    if known is None or (known.expires_at is not None and known.expires_at <= timezone.now()):
        return None
    return known


def look_up(secret: str) -> KeyHolder | None:
    """Return who presents a key that holds, from the database; None where none does. One query."""
    asked_s = time.monotonic()
    holder = holder_of_prefix(key_prefix(secret) or "")
    digest = hash_secret(secret)
    # The hash is computed and compared also where there is no such key.
    is_right = hmac.compare_digest(digest, holder.secret_hash if holder else "")
    if holder is None or not is_right:
        return None
    _known.put(digest, holder, asked_s)
    return holder


def find_by_id(key_id: int) -> KeyHolder | None:
    """Return who has a key that holds, for papers that were given to it; None where it does not.

    One query, none for one that was looked up like this a moment ago.
    """
    name = f"id {key_id}"  # none is a hash
    known = _known.get(name)
    if known is None:
        asked_s = time.monotonic()
        known = holder_of_key(key_id)
        if known is not None:
            _known.put(name, known, asked_s)
    has_expired = known and known.expires_at is not None and known.expires_at <= timezone.now()
    return None if has_expired else known


def forget_all() -> None:
    """Have every key looked up anew. Worth a call behind a write that no signal tells of."""
    _known.clear()


def forget_on_changes() -> None:
    """Have this process forget at once what it changes itself. Called once, at start."""
    for table in (ApiKey, Membership, Team, User):
        for signal in (post_save, post_delete):
            signal.connect(_forget, sender=table, dispatch_uid="models_app.principal_cache")


def _forget(**_: Any) -> None:
    forget_all()

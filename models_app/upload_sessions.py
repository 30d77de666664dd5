"""Uploads to repositories that are under way: whose they are and when they were last used.

How much has come is the size of a file, of which this module knows nothing; nor of HTTP.
"""

import secrets
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from models_app.models import LanguageModel, UploadSession
from models_app.names import DEFAULT_HOST


def begin(model_id: int, user_id: int) -> str | None:
    """Note a new upload and return its id; None where the repository is gone."""
    session_id = secrets.token_hex(16)
    try:
        with transaction.atomic():
            # Locked: SQLite and PostgreSQL would notice a missing repository only at the end.
            if not LanguageModel.objects.select_for_update().filter(pk=model_id).exists():
                return None
            UploadSession.objects.create(session_id=session_id, model_id=model_id, user_id=user_id)
    except IntegrityError:
        return None
    return session_id


def use(session_id: str, model_id: int, user_id: int) -> bool:
    """Note that an upload is used now; false where the user has none like it in the repository."""
    if not session_id.isalnum():
        return False  # PostgreSQL does not even look for a text with a NUL in it
    own = UploadSession.objects.filter(session_id=session_id, model_id=model_id, user_id=user_id)
    return bool(own.update(used_at=timezone.now()))


def of_user(user_id: int) -> list[tuple[str, datetime]]:
    """Return a user's uploads and when each was last used, the longest unused first."""
    own = UploadSession.objects.filter(user_id=user_id).order_by("used_at", "pk")
    return list(own.values_list("session_id", "used_at"))


def of_namespace(namespace: str) -> list[str]:
    """Return the ids of the uploads to all repositories of a namespace."""
    found = UploadSession.objects.filter(
        model__host__iexact=DEFAULT_HOST,
        model__namespace__iexact=namespace,
        model__is_mirror=False,
    )
    return list(found.values_list("session_id", flat=True))


def forget(session_id: str) -> bool:
    """Remove an upload's row; return whether it was there."""
    return bool(UploadSession.objects.filter(session_id=session_id).delete()[0])

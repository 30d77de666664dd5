"""Passwords that wait in a job's arguments: readable for this site alone. Knows no job."""

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet
from django.conf import settings


def seal(text: str) -> str:
    """Return a text that only this site can read; empty for an empty one."""
    return _cipher().encrypt(text.encode()).decode() if text else ""


def open_sealed(text: str) -> str:
    """Return what was sealed; empty for an empty one.

    Raises cryptography.fernet.InvalidToken for what was never sealed, or under another SECRET_KEY.
    """
    return _cipher().decrypt(text.encode()).decode() if text else ""


def _cipher() -> Fernet:
    # SECRET_KEY signs sessions as well: a key of our own is derived from it.
    key = hmac.new(settings.SECRET_KEY.encode(), b"ollamasite job arguments", hashlib.sha256)
    return Fernet(base64.urlsafe_b64encode(key.digest()))

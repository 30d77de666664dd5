"""The texts of API keys: how one is made, how it looks, what of it is stored.

Knows no row and no right.
"""

import hashlib
import hmac
import re
import secrets
from typing import Final

from django.conf import settings

_PREFIX_BYTES: Final = 6
_SECRET_BYTES: Final = 24
_PREFIX: Final = re.compile(r"[0-9a-f]{12}")
_KEY: Final = re.compile(r"osk-([0-9a-f]{12})-([0-9a-f]{48})")


def new_secret() -> tuple[str, str]:
    """Return the public prefix of a new key and its whole text."""
    prefix = secrets.token_hex(_PREFIX_BYTES)
    return prefix, f"osk-{prefix}-{secrets.token_hex(_SECRET_BYTES)}"


def key_prefix(secret: str) -> str | None:
    """Return the public part of a key, or None where the text is no key of ours."""
    match = _KEY.fullmatch(secret)
    return match[1] if match else None


def is_prefix(text: str) -> bool:
    """Whether a text may be the public part of a key."""
    return _PREFIX.fullmatch(text) is not None


def hash_secret(secret: str) -> str:
    """Return the HMAC-SHA256 of a key under the site's pepper, 64 hex."""
    return hmac.digest(settings.KEY_PEPPER.encode(), secret.encode(), hashlib.sha256).hex()

"""URLs of files that carry their own leave: a real Ollama asks for parts without a credential.

It takes the URL from the `Location` of a first, authorised answer (contract/registry.md 0.1, 0.2).
The signature is for reading one file of one repository, by the user who was given it, until it
expires. Whether that user may still read it is looked at each time; a key that is revoked meanwhile
does not end the URLs that were given for it, which is why they do not live long. Knows no HTTP.
"""

import re
import time
from typing import Final

from django.utils.crypto import constant_time_compare, salted_hmac

from registry.digest import Digest

LIFETIME_S: Final = 6 * 3600
_SALT: Final = "registry.signed_urls"
_FORM: Final = re.compile(r"([0-9]{1,12})-([0-9]{1,12})-([0-9a-f]{64})")


def sign(user_id: int, repository: str, digest: Digest) -> str:
    """Return the signature by which a user may read a file for LIFETIME_S seconds."""
    expires_s = int(time.time()) + LIFETIME_S
    return f"{user_id}-{expires_s}-{_mac(user_id, expires_s, repository, digest)}"


def user_of(signature: str, repository: str, digest: Digest) -> int | None:
    """Return for which user a signature opens a file; None for one that is not good for it."""
    found = _FORM.fullmatch(signature)
    if found is None:
        return None
    user_id, expires_s = int(found[1]), int(found[2])
    is_ours = constant_time_compare(found[3], _mac(user_id, expires_s, repository, digest))
    return user_id if is_ours and time.time() < expires_s else None


def _mac(user_id: int, expires_s: int, repository: str, digest: Digest) -> str:
    text = f"{user_id}\n{expires_s}\n{repository.lower()}\n{digest}"
    return salted_hmac(_SALT, text, algorithm="sha256").hexdigest()

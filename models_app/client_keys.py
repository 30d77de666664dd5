"""Registered ed25519 public keys, by which a user's `ollama` CLI or other site is known.

Format: one line of `~/.ollama/id_ed25519.pub`, that is an OpenSSH public key (RFC 4253, 6.6; RFC
8709, 4). Knows nothing of signatures and of HTTP.
"""

import base64
import hashlib
import re
from typing import Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError

from models_app import audit
from models_app.models import ClientKey, User
from models_app.permissions import Principal

ALGORITHM: Final = "ssh-ed25519"
# Two strings, each after its length in four bytes: the algorithm and the key itself.
_HEAD: Final = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
# Base64 of that and the 32 bytes of the key, 51 in all: it needs no padding.
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/]{68}")
_MAX_TEXT: Final = 4000
_MAX_NAME: Final = 100
_MAX_KEYS: Final = 50
_NO_KEY: Final = (
    "This is no ed25519 public key: paste the one line of ~/.ollama/id_ed25519.pub, which begins "
    "with ssh-ed25519."
)
_PRIVATE: Final = (
    "This is a private key, which must never leave its machine: paste the line of the file whose "
    "name ends with .pub."
)
_KNOWN: Final = "This key is registered already. Each key stands for one user."


def read_public_key(encoded: str) -> bytes | None:
    """Return the 32 bytes of the key in a base64 OpenSSH public key; None where it is no such."""
    if not _ENCODED.fullmatch(encoded):
        return None
    blob = base64.b64decode(encoded)
    return blob[len(_HEAD) :] if blob.startswith(_HEAD) else None


def fingerprint_of(key: bytes) -> str:
    """Return the SHA-256 of an OpenSSH public key with these 32 bytes, in hex."""
    return hashlib.sha256(_HEAD + key).hexdigest()


def add_client_key(
    owner: User, text: str, name: str = "", *, by: Principal | None = None
) -> ClientKey:
    """Register a key: a whole `ssh-ed25519 AAAA… comment` line, or its middle word.

    Without a name it gets the comment's. Raises ValidationError with a sentence; of a key that is
    registered it does not tell whose it is.
    """
    if "PRIVATE KEY" in text:
        raise ValidationError(_PRIVATE)
    encoded, comment = _split(text)
    key = read_public_key(encoded)
    if key is None:
        raise ValidationError(_NO_KEY)
    if owner.client_keys.count() >= _MAX_KEYS:
        raise ValidationError(f"A user has at most {_MAX_KEYS} keys: remove one first.")
    try:
        with audit.act():
            added = ClientKey.objects.create(
                owner=owner,
                name=_printable(name) or _printable(comment) or "ollama",
                public_key=base64.b64encode(_HEAD + key).decode(),
                fingerprint=fingerprint_of(key),
            )
            audit.record("client-key.add", _subject(added), by=by)
            return added
    except IntegrityError as error:
        raise ValidationError(_KNOWN) from error


def client_keys_of(owner_id: int) -> list[ClientKey]:
    """Return a user's keys by name."""
    return list(ClientKey.objects.filter(owner_id=owner_id).order_by("name", "pk"))


@audit.act()
def remove_client_key(owner_id: int, key_id: int, *, by: Principal | None = None) -> bool:
    """Remove a key of the user's. Return whether there was one."""
    rows = ClientKey.objects.select_for_update(of=("self",)).select_related("owner")
    key = rows.filter(pk=key_id, owner_id=owner_id).first()
    if key is None:
        return False
    subject = _subject(key)
    key.delete()
    audit.record("client-key.remove", subject, by=by)
    return True


def _subject(key: ClientKey) -> str:
    return f"{key.owner.username}: {key.name} ({key.fingerprint[:12]})"


def _split(text: str) -> tuple[str, str]:
    """Return the key's word and its comment; an empty word where the text is something else."""
    lines = text[:_MAX_TEXT].strip().splitlines()
    words = lines[0].split(maxsplit=2) if len(lines) == 1 else []
    if words[:1] == [ALGORITHM]:
        _, encoded, comment = [*words, "", ""][:3]
        return encoded, comment
    return (words[0], "") if len(words) == 1 else ("", "")


def _printable(text: str) -> str:
    kept = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(kept.split())[:_MAX_NAME].strip()

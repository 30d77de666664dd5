"""The site's own ed25519 key, by which other registries can know it.

An OpenSSH private key in the data directory, made once. What is signed and how it is sent:
contract/registry.md 1.6. Knows no registry.
"""

import base64
import hashlib
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)
from django.conf import settings

from ollamasite import data_dir

_NAME: Final = "id_ed25519"
# Of the body of a token request, which has none.
_NO_BODY: Final = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


def public_key_line() -> str:
    """Return the line that is registered elsewhere: `ssh-ed25519 <base64>`."""
    return _public_line(_load())


def sign_get(url: str) -> str:
    """Return the Authorization header of a GET of this very URL: `<key>:<signature>`."""
    key = _load()
    signature = base64.b64encode(key.sign(f"GET,{url},{_NO_BODY}".encode())).decode()
    return f"{_public_line(key).split()[1]}:{signature}"


def _load() -> Ed25519PrivateKey:
    text = data_dir.secret_once(Path(settings.DATA_DIR), _NAME, _make)
    key = load_ssh_private_key(text.encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{_NAME} is not an ed25519 key")
    return key


def _make() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def _public_line(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

"""Requests signed with a registered ed25519 key, as the `ollama` CLI signs them.

`Authorization: <base64 OpenSSH public key>:<base64 signature>` without a scheme's word. Signed is
`METHOD,PATH?QUERY` (contract/ollama.md 10), for a registry token the whole URL and a constant
(contract/registry.md 1.6); `ts` in the query is the time. Bodies are not signed, so what changes
something is accepted once. Knows no route and no request object.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import IntegrityError, transaction
from django.utils import timezone

from models_app.client_keys import fingerprint_of, read_public_key
from models_app.models import ClientKey, UsedSignature
from ollamasite.errors import Unauthenticated

WINDOW: Final = timedelta(minutes=5)
# Writing on every request would cost more than the request: a minute is exact enough.
_LAST_USED_STEP: Final = timedelta(minutes=1)
# Lengths of both halves in base64 (51 and 64 bytes).
_HEADER: Final = re.compile(r"([A-Za-z0-9+/]{68}):([A-Za-z0-9+/]{86}==)")
_TIME: Final = re.compile(r"[0-9]{1,12}")
_MAX_FIELDS: Final = 100
# What Ollama signs in the place of a body's hash where there is no body: base64 of the hex digits.
_NO_BODY: Final = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
_USED: Final = "this signed request has been used: sign in again, at least a second later"


@dataclass(frozen=True, slots=True)
class Signature:
    """What somebody presents: 32 bytes of public key, 64 bytes of signature. Not checked yet."""

    public_key: bytes
    signature: bytes


def parse_signature(authorization: str) -> Signature | None:
    """Read the header's value; None where it is something else."""
    match = _HEADER.fullmatch(authorization)
    key = read_public_key(match[1]) if match else None
    if match is None or key is None:
        return None
    return Signature(key, base64.b64decode(match[2]))


def request_text(method: str, path: str, query: str) -> str:
    """Return what is signed for a request. `path` is decoded, `query` is as it was sent."""
    return f"{method},{path}?{query}"


def token_text(url: str) -> str:
    """Return what is signed for a registry token, fetched from a whole URL with GET."""
    return f"GET,{url},{_NO_BODY}"


def client_key_of(signature: Signature, text: str, query: str) -> ClientKey:
    """Return the registered key that has signed a text within the window, with its owner.

    Raises Unauthenticated, in the same words whatever is wrong.
    """
    if not _is_timely(query, timezone.now()) or not _is_signed(signature, text):
        raise Unauthenticated
    found = ClientKey.objects.select_related("owner").filter(
        fingerprint=fingerprint_of(signature.public_key), owner__is_active=True
    )
    key = found.first()
    if key is None:
        raise Unauthenticated
    _note_use(key)
    return key


def use_once(signature: Signature, text: str) -> None:
    """Have a signed text accepted no second time. Raises Unauthenticated where it has been.

    The text is remembered and not the signature: of that, a forger could write several.
    """
    now = timezone.now()
    digest = hashlib.sha256(signature.public_key + text.encode()).hexdigest()
    # A signature is good from one window before its time to one after.
    UsedSignature.objects.filter(used_at__lt=now - 3 * WINDOW).delete()
    try:
        with transaction.atomic():
            UsedSignature.objects.create(digest=digest, used_at=now)
    except IntegrityError as error:
        raise Unauthenticated(_USED) from error


def _is_timely(query: str, now: datetime) -> bool:
    """Whether the query's one `ts`, in seconds since 1970, is near enough to now."""
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return False
    times = [value for name, value in fields if name == "ts"]
    if len(times) != 1 or not _TIME.fullmatch(times[0]):
        return False
    return abs(int(times[0]) - now.timestamp()) <= WINDOW.total_seconds()


def _is_signed(signature: Signature, text: str) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(signature.public_key)
        key.verify(signature.signature, text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def _note_use(key: ClientKey) -> None:
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > _LAST_USED_STEP:
        ClientKey.objects.filter(pk=key.pk).update(last_used_at=now)

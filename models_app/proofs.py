"""What a paper that this site gives out hangs on: the credential that it was given to.

Registry tokens and signed URLs are such papers: signed data, not rows. A proof is what they keep of
the credential; whoever gives a paper out signs it. At every use the paper is good only while the
credential is: a revoked key, an ended session, a removed client key and a closed account end it at
once, a session's also a new password, and a key's networks hold for it too. Knows no paper and no
HTTP.
"""

import base64
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken
from django.contrib.sessions.models import Session
from django.utils import timezone
from django.utils.crypto import salted_hmac

from models_app import principal_cache
from models_app.models import ClientKey, User
from models_app.permissions import CredentialKind, Principal
from models_app.principals import principal_of_user
from ollamasite.client_address import is_from_networks
from ollamasite.errors import Unauthenticated

_SALT: Final = "models_app.proofs"

Proof = dict[str, Any]


def proof_of(principal: Principal) -> Proof:
    """Return what is kept of a credential, fit for JSON. Raises Unauthenticated for none."""
    proof: Proof = {"u": principal.user_id}
    if principal.key_id is not None:
        return proof | {"k": principal.key_id}
    if principal.client_key_id is not None:
        return proof | {"c": principal.client_key_id}
    if principal.session is None:
        raise Unauthenticated
    session_key, known = principal.session
    # Whoever reads the paper could sign in with a session's key.
    return proof | {"s": _sealer().encrypt(session_key.encode()).decode(), "h": known}


def holder_of(proof: Proof, address: str | None) -> Principal | None:
    """Return who holds a paper and comes from an address; None where the credential is over.

    No query for a key that was looked up a moment ago.
    """
    if "k" in proof:
        return _holder_of_key(proof["k"], proof["u"], address)
    owner = User.objects.filter(pk=proof["u"], is_active=True).first()
    if owner is None:
        return None
    kind = CredentialKind.REGISTRY_TOKEN
    if "c" in proof:
        is_there = ClientKey.objects.filter(pk=proof["c"], owner=owner).exists()
        return principal_of_user(owner, kind, client_key_id=proof["c"]) if is_there else None
    session_key = _session_of(proof["s"])
    is_good = session_key and proof["h"] == owner.get_session_auth_hash()
    return principal_of_user(owner, kind, session_key=session_key) if is_good else None


def _holder_of_key(key_id: int, owner_id: int, address: str | None) -> Principal | None:
    holder = principal_cache.find_by_id(key_id)
    if holder is None or holder.principal.user_id != owner_id:
        return None
    return holder.principal if is_from_networks(address, holder.networks) else None


def _session_of(sealed: str) -> str:
    """Return the key of a session that is not over; empty for none."""
    try:
        session_key = _sealer().decrypt(sealed).decode()
    except InvalidToken:
        return ""
    there = Session.objects.filter(session_key=session_key, expire_date__gt=timezone.now())
    return session_key if there.exists() else ""


def _sealer() -> Fernet:
    key = salted_hmac(_SALT, "session", algorithm="sha256").digest()
    return Fernet(base64.urlsafe_b64encode(key))

"""URLs of files that carry their own leave: a real Ollama asks for parts without a credential.

It takes the URL from the `Location` of a first, authorised answer (contract/registry.md 0.1, 0.2).
The signature is for reading one file of one repository, until it expires, and only as long as the
credential is good that it was given to, and from where that may be used (`models_app.proofs`).
Whether its user may still read the file is looked at where it is read. Knows no HTTP.
"""

from dataclasses import replace
from typing import Final

from django.core import signing

from models_app.permissions import CredentialKind, Principal
from models_app.proofs import holder_of, proof_of
from registry.digest import Digest

LIFETIME_S: Final = 6 * 3600
_SALT: Final = "registry.signed_urls"


def sign(principal: Principal, repository: str, digest: Digest) -> str:
    """Return the signature by which somebody may read a file for LIFETIME_S seconds."""
    return _signer(repository, digest).sign_object(proof_of(principal))


def reader_of(
    signature: str, repository: str, digest: Digest, address: str | None
) -> Principal | None:
    """Return who reads a file from an address with a signature, and may do nothing else.

    None for a signature that is not good for it, or not any longer.
    """
    try:
        proof = _signer(repository, digest).unsign_object(signature, max_age=LIFETIME_S)
    except (signing.BadSignature, ValueError):
        return None
    holder = holder_of(proof, address)
    if holder is None:
        return None
    granted = frozenset({f"repository:{repository}:pull"})
    return replace(holder, kind=CredentialKind.REGISTRY_TOKEN, granted=granted)


def _signer(repository: str, digest: Digest) -> signing.TimestampSigner:
    # What is signed for one file is nonsense for another.
    return signing.TimestampSigner(salt=f"{_SALT}\n{repository.lower()}\n{digest}", sep=".")

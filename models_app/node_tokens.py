"""Machines that may join the site: their tokens, and who presents one.

A token is good for one node's name, shown once, stored as a peppered hash. Knows no HTTP and no
socket.
"""

import secrets
from typing import Final

from models_app.key_secrets import hash_secret
from models_app.models import Node
from models_app.permissions import CredentialKind, Principal

_PREFIX: Final = "osn-"
_SECRET_BYTES: Final = 24


def new_token() -> tuple[str, str]:
    """Return a new token and what is stored of it."""
    token = f"{_PREFIX}{secrets.token_hex(_SECRET_BYTES)}"
    return token, hash_secret(token)


def is_node_token(text: str) -> bool:
    """Whether a text looks like a join token."""
    return text.startswith(_PREFIX)


def principal_of_node(token: str) -> Principal | None:
    """Return the node that presents a token; None where there is no such. One query."""
    # Found by its HMAC: how long the look-up takes tells nothing of the token.
    node = Node.objects.filter(token_digest=hash_secret(token)).only("name").first()
    if node is None:
        return None
    return Principal(user_id=0, username=node.name, is_admin=False, kind=CredentialKind.NODE)

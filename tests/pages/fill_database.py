"""Run as a module: fills the database of the settings it is started with.

For a server in a process of its own. Prints the digest of the starter model.
"""

import sys

import django

django.setup()

from models_app.accounts import create_user  # noqa: E402 - apps must be loaded
from tests.pages.catalogue import LONG_NAME, PASSWORD, STARTER, add_model  # noqa: E402 - same


def main() -> None:
    """Create alice, who has a model of her own, bob, and the library."""
    alice = create_user("alice", PASSWORD, is_admin=True)
    create_user("bob", PASSWORD)
    add_model("nomic-embed-text:v1.5", capabilities=("embedding",), context_length=2048)
    add_model(LONG_NAME, owner_id=alice.pk, size_bytes=42_520_000_000, context_length=131_072)
    sys.stdout.write(add_model(STARTER))


if __name__ == "__main__":
    main()

"""Run as a module: makes the data directory of the settings it has as a first start would leave it.

Prints `tests.prepared_sites.Facts` as JSON.
"""

import os
import sys
from pathlib import Path

import django

from ollamasite import data_dir

if __name__ == "__main__":
    os.umask(0o077)
    data_dir.prepare(Path(os.environ["OLLAMASITE_DATA_DIR"]))
    django.setup()

import msgspec
from django.core.management import call_command
from django.test import Client

from models_app.accounts import create_first_admin, create_user
from models_app.keys import create_key
from models_app.models import User
from registry.starter import create_starter_model
from tests.pages.catalogue import PASSWORD, fill
from tests.prepared_sites import Facts, Kind


def main() -> None:
    """Make what is asked for."""
    kind = Kind(sys.argv[1])
    call_command("migrate", interactive=False, verbosity=0)
    facts = _catalogue() if kind is Kind.CATALOGUE else _first_start(kind)
    sys.stdout.write(f"{msgspec.json.encode(facts).decode()}\n")


def _first_start(kind: Kind) -> Facts:
    admin = create_first_admin()
    assert admin is not None
    if kind is not Kind.BARE:
        assert create_starter_model()
    if kind is Kind.PEOPLE:
        create_user("alice", PASSWORD, is_admin=True)
        create_user("bob", PASSWORD)
        create_user("carla", PASSWORD)
    return Facts(api_key=admin.api_key)


def _catalogue() -> Facts:
    digest = fill()
    bob = User.objects.get(username="bob")
    client = Client()
    client.force_login(bob)
    session = client.cookies["ollamasite_session"].value
    return Facts(api_key=create_key(bob, "of the test")[1], session=session, digest=digest)


if __name__ == "__main__":
    main()

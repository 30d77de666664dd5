"""Locks on what no row stands for, such as all names together. Knows nothing that they are for."""

from typing import Final

from models_app.models import SiteLock

# Names of users and of teams; who administers the site.
NAMES: Final = "names"
ADMINS: Final = "admins"


def hold(name: str) -> None:
    """Have everybody else wait who holds the same, until the caller's transaction is over.

    On SQLite, transactions that write wait for each other anyway.
    """
    SiteLock.objects.get_or_create(name=name)
    SiteLock.objects.select_for_update().get(name=name)

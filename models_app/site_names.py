"""The names of users and teams. Each is a namespace too, so no two are alike in any spelling.

Raises ValidationError with sentences for the person who typed. Knows nothing of HTTP and of what
else a user or a team has.
"""

import re
from collections.abc import Iterable
from typing import Final

from django.core.exceptions import ValidationError

from models_app import site_locks
from models_app.key_secrets import hash_secret
from models_app.models import FormerName, Team, User
from models_app.names import LIBRARY

# A namespace as names of models have it (contract 4.7).
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_RESERVED: Final = frozenset({LIBRARY, "api", "v1", "v2", "admin-site"})


def check_name(name: str, *, of: str) -> None:
    """Raise ValidationError for what can be no name; `of` says of what, such as `user`."""
    if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise ValidationError(
            f"{name!r} cannot be a {of} name: use letters, digits, '_' and '-', at most 80, "
            "starting with a letter, digit or '_'; some words are reserved."
        )


def findable(name: str) -> str:
    """Return a name as it may be asked for: PostgreSQL does not take a NUL, and no name has one."""
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}")


def take_name(name: str, *, of: str) -> None:
    """Let nobody else take any name until the caller's transaction, which makes it, is over.

    Users and teams are different tables, so no constraint holds over both: whoever makes one of
    either holds the same lock first. Raises ValidationError where the name is none, is taken, or
    was that of somebody who is gone.
    """
    check_name(name, of=of)
    site_locks.hold(site_locks.NAMES)
    if User.objects.filter(username__iexact=name).exists():
        raise ValidationError(f"There is already a user {name!r}.")
    if Team.objects.filter(name__iexact=name).exists():
        raise ValidationError(f"There is already a team {name!r}.")
    # Asked last: a user who is being deleted meanwhile is either there or has left the name here.
    if FormerName.objects.filter(name_hash=_hash(name)).exists():
        raise ValidationError(
            f"{name!r} was a user or a team that is gone: keys, aliases and lists may still mean "
            "theirs, so nobody gets the name again."
        )


def retire_names(names: Iterable[str]) -> None:
    """Give the names of users and teams that are being deleted to nobody else."""
    hashes = sorted({_hash(name) for name in names})
    rows = [FormerName(name_hash=name_hash) for name_hash in hashes]
    FormerName.objects.bulk_create(rows, ignore_conflicts=True)


def _hash(name: str) -> str:
    return hash_secret(f"name {name.lower()}")

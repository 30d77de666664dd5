"""Locks on rows that are about to be deleted. Knows no table."""

from typing import Any

from django.db.models import QuerySet


def locked(rows: QuerySet[Any]) -> list[int]:
    """Lock rows that fulfil a condition, and return the keys of those that do so still.

    Those that somebody else holds are left out. Wants a transaction.
    """
    keys = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
    # PostgreSQL has looked before it locked: somebody may have named one and let go of it since.
    return list(rows.filter(pk__in=keys).values_list("pk", flat=True))

"""Whether the database has every migration that this version of the site needs.

Knows migrations by name and no table.
"""

import logging
from typing import Final

from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

logger = logging.getLogger(__name__)

_NAMED: Final = 3


def pending() -> list[str]:
    """Return the migrations that are still to be made, in their order. Raises DatabaseError."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def refuse_unmigrated() -> None:
    """Raise CommandError where the database is older than this version.

    A database that does not answer is no reason: it may come back, and /readyz tells.
    """
    try:
        missing = pending()
    except DatabaseError as error:
        logger.warning("the database does not answer yet: %s", " ".join(str(error).split()))
        return
    finally:
        connection.close()
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        raise CommandError(
            "The database is older than this version of ollamasite: it lacks "
            f"{', '.join(missing[:_NAMED])}{more}. Run `ollamasite migrate` first; the previous "
            "version goes on working meanwhile."
        )

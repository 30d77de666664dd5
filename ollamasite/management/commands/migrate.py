"""`ollamasite migrate [--lock-timeout S]`: Django's own, which does not wait for a table for long.

Whoever waits for a table's lock stops everybody behind, and so all requests of the version that
runs meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.errors import LockNotAvailable

_PATIENCE_S: Final = 10.0


class Command(DjangoMigrate):
    """Bring the database up to date, beside the version that runs."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-timeout",
            type=float,
            default=_PATIENCE_S,
            metavar="SECONDS",
            help="how long to wait where somebody else holds a table; PostgreSQL alone (10)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate; end with a sentence where somebody else holds what is to be changed."""
        connection = connections[options["database"]]
        patience_s = options["lock_timeout"]
        try:
            with _patience(connection, patience_s):
                super().handle(*args, **options)
        except OperationalError as error:
            if not _is_held(error):
                raise
            raise CommandError(
                "Somebody else holds what a migration changes, and has not let go of it in time: a "
                "long transaction, a backup, another migration. That migration has changed "
                "nothing, and those before it stay; the site goes on. Run `ollamasite migrate` "
                f"again. ({' '.join(str(error).split())})"
            ) from error


@contextmanager
def _patience(connection: BaseDatabaseWrapper, patience_s: float) -> Iterator[None]:
    """Have a connection give up a wait for a lock; SQLite does so by its own settings."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{patience_s * 1000:.0f}"])
    try:
        yield
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")


def _is_held(error: OperationalError) -> bool:
    return isinstance(error.__cause__, LockNotAvailable) or "is locked" in str(error)

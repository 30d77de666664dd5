"""The database: whether it answers, what it lacks, and whether its clock is ours."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connection

from ollamasite import schema
from ollamasite.backups import databases
from ollamasite.checkup.findings import Finding, error, warning
from ollamasite.sizes import print_size

SKEW_S: Final = 2.0
_LARGE_LOG_BYTES: Final = 1024**3
_LEAST_POSTGRESQL: Final = (14,)
_LEAST_CONNECTIONS: Final = 50


def look() -> Iterator[Finding]:
    """Tell what is wrong with the database."""
    try:
        connection.ensure_connection()
        yield from _migrations()
        yield from _sqlite() if connection.vendor == databases.SQLITE else _postgresql()
    except DatabaseError as problem:
        yield error(
            "database.unreachable",
            f"The database does not answer: {' '.join(str(problem).split())}",
            "Start it, and see that OLLAMASITE_DATABASE_URL names it.",
        )
    finally:
        connection.close()


def _migrations() -> Iterator[Finding]:
    if missing := schema.pending():
        yield error(
            "database.not-migrated",
            f"Migrations that the database lacks: {len(missing)}, from {missing[0]} on.",
            "Run `ollamasite migrate` (`serve` does it at its start).",
        )
    if newer := databases.unknown_migrations(databases.migrations()):
        yield error(
            "database.newer",
            f"The database was migrated by a newer version of ollamasite: {newer[0]} is unknown "
            "here.",
            "Run the newer version everywhere.",
        )


def _sqlite() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        yield error(
            "database.no-wal",
            f"The database's journal is {mode!r} and not a write-ahead log: readers and writers "
            "wait for each other.",
            "See that its directory is on a local disk which the site's user can write to.",
        )
    log = Path(f"{settings.DATABASES['default']['NAME']}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > _LARGE_LOG_BYTES:
        yield warning(
            "database.large-log",
            f"{log} has grown to {print_size(size)}: some process reads without an end, and "
            "everything gets slower.",
            "Restart the site.",
        )


def _postgresql() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        before = time.time()
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float8,"
            " current_setting('max_connections')::int, current_setting('server_encoding'),"
            " pg_is_in_recovery()"
        )
        clock, connections, encoding, is_standby = cursor.fetchone()
        now = (before + time.time()) / 2
    yield from skew("the database's", clock, now, (time.time() - before) / 2)
    version = connection.get_database_version()
    if version < _LEAST_POSTGRESQL:
        yield error(
            "database.old",
            f"PostgreSQL {version[0]} is older than {_LEAST_POSTGRESQL[0]}.",
            "Upgrade it.",
        )
    if is_standby:
        yield error(
            "database.standby",
            "This PostgreSQL is a standby, to which nobody can write.",
            "Name the primary in OLLAMASITE_DATABASE_URL.",
        )
    if encoding != "UTF8":
        yield error(
            "database.encoding",
            f"The database's encoding is {encoding}: names in other scripts cannot be stored.",
            "Make it anew with ENCODING 'UTF8'.",
        )
    if connections < _LEAST_CONNECTIONS:
        yield warning(
            "database.few-connections",
            f"PostgreSQL allows {connections} connections; each web process may want 40.",
            "Raise max_connections.",
        )


def skew(whose: str, clock_s: float, now_s: float, doubt_s: float) -> Iterator[Finding]:
    """Tell of a clock that is not ours. `doubt_s`: how exactly the two could be compared."""
    off_s = clock_s - now_s
    if abs(off_s) > SKEW_S + doubt_s:
        yield error(
            "clock.skew",
            f"This machine's clock and {whose} differ by {abs(off_s):.1f} s: keys and limits "
            "begin and end at the wrong time, and jobs are taken for lost.",
            "Run an NTP client (chrony, systemd-timesyncd) on both machines.",
        )

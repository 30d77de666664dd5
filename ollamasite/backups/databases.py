"""A copy of the database as of one moment, and its way back; SQLite and PostgreSQL.

SQLite by its online backup, which lets others write meanwhile; PostgreSQL by `pg_dump` and
`pg_restore`, whose custom format is a snapshot. Both go while the site runs. Knows no table.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from psycopg import pq
from psycopg.conninfo import make_conninfo

from ollamasite.backups.contents import BackupError

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"
# Where Debian keeps the programs of each version.
_DEBIAN: Final = "/usr/lib/postgresql"


def kind() -> str:
    """Return Django's name of the kind of this site's database."""
    return connection.vendor


def migrations() -> dict[str, list[str]]:
    """Return the migrations that the database has, by app. Raises BackupError."""
    found: dict[str, list[str]] = {}
    try:
        applied = MigrationRecorder(connection).applied_migrations()
    except DatabaseError as error:
        raise BackupError(f"The database does not answer: {error}") from error
    for app, name in sorted(applied):
        found.setdefault(app, []).append(name)
    return found


def unknown_migrations(applied: Mapping[str, list[str]]) -> list[str]:
    """Return those of a database's migrations that this version of the site does not have."""
    loader = MigrationLoader(None)
    known = set(loader.disk_migrations)
    known |= {key for one in loader.disk_migrations.values() for key in one.replaces}
    return [f"{app}.{name}" for app in applied for name in applied[app] if (app, name) not in known]


def _sqlite_file() -> Path:
    return Path(str(settings.DATABASES["default"]["NAME"]))


def is_empty() -> bool:
    """Whether the database has no table. Raises BackupError."""
    if kind() == SQLITE:
        return not _sqlite_file().exists()
    try:
        return not connection.introspection.table_names()
    except DatabaseError as error:
        raise BackupError(f"The database does not answer: {error}") from error


def dump(path: Path) -> None:
    """Write the database as it is now to a file. Raises BackupError, OSError."""
    if kind() == SQLITE:
        _copy_sqlite(path)
    else:
        _run_postgresql("pg_dump", "--format=custom", "--no-owner", "--file", str(path))
    path.chmod(0o600)


def load(path: Path) -> None:
    """Make an empty database what a file tells, which is then gone. Raises BackupError, OSError."""
    if kind() == SQLITE:
        connection.close()
        place = _sqlite_file()
        place.parent.mkdir(parents=True, exist_ok=True)
        # In two steps: the first may be a copy to another disk, and half of it is no database.
        draft = place.with_name(f"{place.name}.new")
        shutil.move(path, draft)
        draft.replace(place)
        return
    connection.close()
    options = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
    _run_postgresql("pg_restore", *options, str(path))
    path.unlink()


def _copy_sqlite(path: Path) -> None:
    connection.ensure_connection()
    try:
        with contextlib.closing(sqlite3.connect(path)) as copy:
            # All pages in one step: a copy in several would begin anew with each write.
            connection.connection.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    except (sqlite3.Error, DatabaseError) as error:
        raise BackupError(f"The database could not be copied: {error}.") from error
    if found != "ok":
        raise BackupError(f"The database itself is damaged: {found}.")


def _run_postgresql(program: str, *options: str) -> None:
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    wanted = connection.get_connection_params().items()
    parameters = {name: value for name, value in wanted if name in known and value is not None}
    with tempfile.NamedTemporaryFile("w") as passwords:  # 0600; a command line is for all to read
        if password := str(parameters.pop("password", "")):
            escaped = password.replace("\\", "\\\\").replace(":", "\\:")
            passwords.write(f"*:*:*:*:{escaped}\n")
            passwords.flush()
            parameters["passfile"] = passwords.name
        place = make_conninfo(**parameters)
        command = [_program(program), "--no-password", f"--dbname={place}", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-500:] or f"exit code {done.returncode}"
        raise BackupError(f"{program} has failed: {said}")


def _program(name: str) -> str:
    versions = sorted(Path(_DEBIAN).glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    found = shutil.which(name, path=os.pathsep.join(map(str, versions))) or shutil.which(name)
    if found is None:
        raise BackupError(
            f"{name} is not on this machine: install PostgreSQL's client programs "
            "(Debian: postgresql-client), not older than the server."
        )
    return found

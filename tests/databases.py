"""Which database a site has that a test starts as processes of its own.

SQLite in the site's data directory, or where the run has PostgreSQL (`tests.postgres`), one of
that server's. Knows nothing of what is in it.
"""

import contextlib
import hashlib
import os
import pwd
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

# The address of the run's PostgreSQL server; workers of the same run find it by this.
SERVER_URL = "TESTS_POSTGRES_URL"


def database_settings(data_dir: Path, *, copied_from: Path | None = None) -> dict[str, str]:
    """Return the environment that gives a data directory's site its database, made if need be.

    `copied_from`: the data directory of a site that does not run, whose database it begins with.
    Where that is SQLite it lies in the directory, and is copied with it.
    """
    server_url = os.environ.get(SERVER_URL)
    if server_url is None:
        return {}
    name = _name(data_dir)
    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if copied_from is not None:
        create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(_name(copied_from)))
    with (
        psycopg.connect(_at(server_url, "postgres"), autocommit=True) as connection,
        contextlib.suppress(psycopg.errors.DuplicateDatabase),
    ):
        connection.execute(create)
    return {"OLLAMASITE_DATABASE_URL": _at(server_url, name)}


def _name(data_dir: Path) -> str:
    return f"site_{hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:16]}"


def _at(server_url: str, name: str) -> str:
    return f"postgres:///{name}?{urlsplit(server_url).query}"  # the query has the socket's folder


def postgres_program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, of its newest version here."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise pytest.UsageError(f"{name} is missing: install PostgreSQL's server")
    return found


def postgres_user() -> str | None:
    """Return as whom a server is to run: it does not as root. None: as oneself."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"

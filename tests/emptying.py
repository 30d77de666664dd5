"""Emptying the tests' database behind a test: only tables that have rows, and no command for it.

In place of what `TransactionTestCase` does, which runs Django's command `flush`: that finds out the
names of all tables each time, and deletes from each. Knows no table.
"""

from functools import cache
from typing import Any

from django.core.management.color import no_style
from django.db import connections


def empty_databases(_: Any) -> None:
    """Delete every row of the database; `TransactionTestCase._fixture_teardown`."""
    connection = connections["default"]
    tables = _tables()
    if connection.vendor == "sqlite":
        names = [connection.ops.quote_name(name) for name in tables]
        _empty_sqlite(connection, names)
    else:
        statements = connection.ops.sql_flush(no_style(), list(tables))
        connection.ops.execute_sql_flush(statements)


def has_broken_connection(_: Any) -> bool:
    """Whether a test has left a connection in a state in which the next should not have it."""
    return any(
        connection.in_atomic_block or connection.needs_rollback or not connection.get_autocommit()
        for connection in connections.all(initialized_only=True)
        if connection.connection is not None
    )


@cache
def _tables() -> tuple[str, ...]:
    names = connections["default"].introspection.django_table_names(
        only_existing=True, include_views=False
    )
    return tuple(names)


def _empty_sqlite(connection: Any, names: list[str]) -> None:
    exists = ", ".join(f"EXISTS (SELECT 1 FROM {name})" for name in names)  # noqa: S608 - Django's
    with connection.cursor() as cursor:
        # Rows that others point at go first or last: it is all the same.
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.execute(f"SELECT {exists}")
        for name, has_rows in zip(names, cursor.fetchone(), strict=True):
            if has_rows:
                cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - Django's own tables
        cursor.execute("PRAGMA foreign_keys = ON")

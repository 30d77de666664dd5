"""Every migration can be taken back, and brought forward again."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

APP = "models_app"


def tables() -> set[str]:
    return {name for name in connection.introspection.table_names() if name.startswith(f"{APP}_")}


@pytest.mark.django_db(transaction=True)
def test_database_goes_back_to_nothing_and_forward_again() -> None:
    there = tables()
    try:
        call_command("migrate", APP, "zero", stdout=StringIO(), verbosity=0)
        left = tables()
    finally:
        call_command("migrate", stdout=StringIO(), verbosity=0)

    assert left == set()
    assert tables() == there != set()
    executor = MigrationExecutor(connection)
    assert executor.migration_plan(MigrationLoader(connection).graph.leaf_nodes()) == []

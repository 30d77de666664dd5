"""Migrations run while the previous version still serves: they add, and take nothing away.

The order of an upgrade is in docs/ops.md, "Restart and upgrade". A step that must take something
away belongs in a release after the one that stopped using it, and is named in CONTRACTS.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

APPS: Final = ("models_app", "registry", "inference", "ollamasite")
# From here on a running site exists that is upgraded.
FIRST: Final = 10
# Migration → why nothing that runs needs what it takes away.
CONTRACTS: Final[dict[str, str]] = {}

ADDING: Final = (
    migrations.CreateModel,
    migrations.AddIndex,
    migrations.RemoveIndex,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    migrations.RunPython,
)
# Words of a field that the database knows nothing of.
_WORDS_ONLY: Final = (
    "choices",
    "help_text",
    "verbose_name",
    "validators",
    "default",
    "error_messages",
)


def is_safe(operation: Operation, before: Any = None, created: Collection[str] = ()) -> bool:
    """Whether a process of the previous version goes on working after an operation.

    `before`: the altered field as it was; `created`: tables that the same migration makes.
    """
    match operation:
        case migrations.AddField(field=field, model_name=table):
            return table.lower() in created or can_be_left_out(field)
        case migrations.AlterField(field=field):
            return before is not None and is_wider(before, field)
        case migrations.AddConstraint(model_name=table):
            return table.lower() in created  # elsewhere, rows of the previous version may break it
        case migrations.SeparateDatabaseAndState(database_operations=operations):
            return all(is_safe(one) for one in operations)
        case _:
            return isinstance(operation, ADDING)


def can_be_left_out(field: Any) -> bool:
    """Whether rows can be written by a process that does not know the field."""
    return bool(field.null or field.has_db_default() or field.many_to_many)


def is_wider(before: Any, after: Any) -> bool:
    """Whether a column takes all that it took, and is of the same kind."""
    told = [_told(field) for field in (before, after)]
    (kind, old), (new_kind, new) = told
    null, length = new.pop("null", False), new.pop("max_length", None)
    is_nullable = null or not old.pop("null", False)
    is_long_enough = (length or 0) >= (old.pop("max_length", None) or 0)
    return kind == new_kind and old == new and is_nullable and is_long_enough


def _told(field: Any) -> tuple[str, dict[str, Any]]:
    _, kind, _, words = field.deconstruct()
    return kind, {name: value for name, value in words.items() if name not in _WORDS_ONLY}


def unsafe_operations() -> Iterator[str]:
    """Yield what a running site meets and may not: operations of every migration from FIRST on."""
    loader = MigrationLoader(None)
    for key, migration in sorted(loader.disk_migrations.items()):
        app, name = key
        if app not in APPS or int(name[:4]) < FIRST or f"{app}.{name}" in CONTRACTS:
            continue
        state = loader.project_state(key, at_end=False)
        created = {
            operation.name.lower()
            for operation in migration.operations
            if isinstance(operation, migrations.CreateModel)
        }
        for operation in migration.operations:
            before = None
            if isinstance(operation, migrations.AlterField):
                table = state.models[app, operation.model_name.lower()]
                before = table.fields[operation.name]
            if not is_safe(operation, before, created):
                yield f"{app}.{name}: {operation.describe()}"
            operation.state_forwards(app, state)


def test_migrations_take_nothing_away_from_the_previous_version() -> None:
    assert list(unsafe_operations()) == []


@pytest.mark.parametrize(
    "operation",
    [
        migrations.RemoveField("user", "name"),
        migrations.DeleteModel("user"),
        migrations.RenameField("user", "name", "title"),
        migrations.RenameModel("user", "person"),
        migrations.AddField("user", "name", models.CharField(max_length=5)),
        migrations.AddField("user", "name", models.CharField(max_length=5, default="")),
        migrations.AlterField("user", "name", models.CharField(max_length=5)),
        migrations.RunSQL("DROP TABLE models_app_user"),
        migrations.AddConstraint("user", models.UniqueConstraint(fields=["name"], name="one_name")),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_what_takes_away_is_found(operation: Operation) -> None:
    assert not is_safe(operation)


@pytest.mark.parametrize(
    "operation",
    [
        migrations.CreateModel("thing", [("id", models.BigAutoField(primary_key=True))]),
        migrations.AddField("user", "name", models.CharField(max_length=5, null=True)),
        migrations.AddField("user", "name", models.CharField(max_length=5, db_default="")),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_what_adds_is_let_through(operation: Operation) -> None:
    assert is_safe(operation)


def test_column_may_grow_and_not_shrink() -> None:
    short, long = models.CharField(max_length=5), models.CharField(max_length=9)

    assert is_wider(short, long)
    assert is_wider(short, models.CharField(max_length=5, null=True, choices=[("a", "A")]))
    assert not is_wider(long, short)
    assert not is_wider(models.CharField(max_length=5, null=True), short)
    assert not is_wider(short, models.IntegerField())

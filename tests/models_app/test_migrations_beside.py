"""The previous version's code on the newest tables, as during an upgrade.

That code is the models as they were before a migration (Django's own historical ones), so each
statement has the columns that the previous version knows, and no other.
"""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from django.apps.registry import Apps
from django.db import DatabaseError, connection, models, transaction
from django.db.migrations.loader import MigrationLoader

from tests.models_app.test_migration_rules import APPS, FIRST

pytestmark = pytest.mark.django_db

_loader: Final = MigrationLoader(None)
LATER: Final = sorted(
    key for key in _loader.disk_migrations if key[0] in APPS and int(key[1][:4]) >= FIRST
)
# Fields that may be empty, and that a constraint wants all the same.
WANTED: Final = {("ModelGrant", "user")}
_numbers = itertools.count(1)
MADE: Final[dict[type[Any], Callable[[], Any]]] = {
    models.CharField: lambda: str(next(_numbers)),
    models.TextField: lambda: str(next(_numbers)),
    models.IntegerField: lambda: next(_numbers),
    models.FloatField: lambda: float(next(_numbers)),
    models.DateTimeField: lambda: datetime.now(UTC),
    models.DateField: lambda: datetime.now(UTC).date(),
    models.BooleanField: lambda: False,
    models.JSONField: dict,
    models.BinaryField: lambda: b"1",
}


def code_before(migration: tuple[str, str]) -> Apps:
    """Return the models of the version that did not have a migration yet."""
    found = _loader.project_state(migration, at_end=False).apps
    assert isinstance(found, Apps)
    return found


def value(field: "models.Field[Any, Any]") -> Any:
    """Return something that a field takes, another one each time."""
    if field.choices:
        return field.flatchoices[0][0]
    if isinstance(field, models.ForeignKey):
        assert isinstance(field.related_model, type)
        return make_row(field.related_model)
    made = (make() for kind, make in MADE.items() if isinstance(field, kind))
    found = next(made, None)
    assert found is not None, f"{field.model.__name__}.{field.name}: {type(field).__name__}"
    return found


def make_row(model: type[models.Model]) -> models.Model:
    """Write a row, with values where the model has none of its own."""
    fields = (field for field in model._meta.concrete_fields if is_wanted(model, field))
    return model._base_manager.create(**{field.name: value(field) for field in fields})


def is_wanted(model: type[models.Model], field: "models.Field[Any, Any]") -> bool:
    has_own = field.null or field.has_default() or isinstance(field, models.AutoField)
    return not has_own or (model.__name__, field.name) in WANTED


def use(model: type[models.Model]) -> None:
    """Do with a table what code does with one."""
    row = make_row(model)
    found = model._base_manager.get(pk=row.pk)
    for field in model._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(row, field.attname) or not field.blank
    found.save()
    assert model._base_manager.filter(pk=row.pk).update(**same(found)) == 1
    connection.check_constraints()
    found.delete()
    connection.check_constraints()
    assert not model._base_manager.filter(pk=row.pk).exists()


def same(row: models.Model) -> dict[str, Any]:
    return {
        field.attname: getattr(row, field.attname)
        for field in row._meta.concrete_fields
        if not field.primary_key
    }


def tables(apps: Apps) -> Iterator[type[models.Model]]:
    yield from (model for model in apps.get_models() if model._meta.app_label in APPS)


@pytest.mark.parametrize("migration", LATER, ids=".".join)
def test_previous_version_goes_on_with_every_table(migration: tuple[str, str]) -> None:
    failed = []
    for model in tables(code_before(migration)):
        try:
            with transaction.atomic():
                use(model)
        except Exception as error:  # noqa: BLE001 - each table is told of
            failed.append(f"{model.__name__}: {error!r}")

    assert failed == []


def test_column_that_the_previous_version_misses_is_found() -> None:
    *_, last = LATER
    job = code_before(last).get_model("models_app", "Job")
    use(job)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE models_app_job RENAME COLUMN share_key TO shared")
    with pytest.raises(DatabaseError), transaction.atomic():
        use(job)

"""Kinds of columns that Django does not have."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class CleanJSONField(models.JSONField):
    """JSON in which NUL is U+FFFD: what others write has it, and PostgreSQL refuses it."""

    def get_db_prep_value(
        self,
        value: Any,
        connection: BaseDatabaseWrapper,
        prepared: bool = False,  # noqa: FBT001, FBT002 - as Django has it
    ) -> Any:
        """Return the value as the database takes it."""
        return super().get_db_prep_value(_without_nul(value), connection, prepared)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        """Return it as migrations name it: the column is an ordinary one."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value

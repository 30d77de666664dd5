"""Sums by the day, and of the whole site by the month: filled from the hours, in SQL."""

from typing import Any, Final

from django.db import migrations, models

_SUMS: Final = ("requests", "failed", "tokens_in", "tokens_out", "tokens_cached", "compute_us")
_APART: Final = ("user_id", "team_id", "key_id", "model_name", "dialect")
# A name is not what sums are kept apart by: people and keys are called anew.
_NAMES: Final = {"user_id": "user_name", "team_id": "team_name", "key_id": "key_name"}
_AXES: Final[dict[str, tuple[str, ...]]] = {
    "site": (),
    "user": ("user_id",),
    "team": ("team_id",),
    "key": ("user_id", "key_id"),
    "model": ("model_name",),
    "dialect": ("dialect",),
}
# The beginning of a time, by the database; all of them are UTC.
_BEGINNINGS: Final = {
    "sqlite": {
        "day": "strftime('%Y-%m-%d 00:00:00', {})",
        "month": "strftime('%Y-%m-01 00:00:00', {})",
    },
    "postgresql": {
        "day": "date_trunc('day', {}, 'UTC')",
        "month": "date_trunc('month', {}, 'UTC')",
    },
}


def fill(connection: Any) -> None:
    """Add up the hours, in a database where these sums are empty."""
    beginnings = _BEGINNINGS[connection.vendor]
    statements = [_filled("day", {"day": beginnings["day"].format("hour")}, _APART, "hour")]
    for axis, kept in _AXES.items():
        for span in ("day", "month"):
            begins = beginnings[span].format("day")
            statements.append(_filled("total", _times(axis, span, begins), kept, "day"))
    statements.append(_filled("total", _times("site", "hour", "hour"), (), "hour"))
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _times(axis: str, span: str, begins: str) -> dict[str, str]:
    return {"axis": f"'{axis}'", "span": f"'{span}'", "begins": begins}


def _filled(table: str, times: dict[str, str], kept: tuple[str, ...], source: str) -> str:
    """Return the statement that fills a table from one with shorter times."""
    values = dict(times)
    for name in _APART:
        values[name] = name if name in kept else "0" if name in _NAMES else "''"
        if name in _NAMES:
            values[_NAMES[name]] = f"MIN({_NAMES[name]})" if name in kept else "''"
    values |= {name: f"SUM({name})" for name in _SUMS}
    begins = list(times.values())[-1]
    return (
        f"INSERT INTO models_app_ledger{table} ({', '.join(values)}) "  # noqa: S608 - names of ours
        f"SELECT {', '.join(values.values())} FROM models_app_ledger{source} "
        f"GROUP BY {', '.join([*kept, begins])}"
    )


def _fill(_apps: Any, schema_editor: Any) -> None:
    fill(schema_editor.connection)


def _nothing(_apps: Any, _schema_editor: Any) -> None:
    """The tables go, and their rows with them."""


class Migration(migrations.Migration):
    dependencies = [
        ("models_app", "0007_access"),
    ]

    operations = [
        migrations.CreateModel(
            name="LedgerDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("user_id", models.PositiveBigIntegerField(default=0)),
                ("user_name", models.CharField(blank=True, max_length=150)),
                ("team_id", models.PositiveBigIntegerField(default=0)),
                ("team_name", models.CharField(blank=True, max_length=80)),
                ("key_id", models.PositiveBigIntegerField(default=0)),
                ("key_name", models.CharField(blank=True, max_length=120)),
                ("model_name", models.CharField(max_length=700)),
                ("dialect", models.CharField(max_length=12)),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("failed", models.PositiveBigIntegerField(default=0)),
                ("tokens_in", models.PositiveBigIntegerField(default=0)),
                ("tokens_out", models.PositiveBigIntegerField(default=0)),
                ("tokens_cached", models.PositiveBigIntegerField(default=0)),
                ("compute_us", models.PositiveBigIntegerField(default=0)),
                ("day", models.DateTimeField()),
            ],
            options={
                "verbose_name": "day of use",
                "verbose_name_plural": "use by the day",
                "ordering": ["-day", "pk"],
            },
        ),
        migrations.CreateModel(
            name="LedgerTotal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("user_id", models.PositiveBigIntegerField(default=0)),
                ("user_name", models.CharField(blank=True, max_length=150)),
                ("team_id", models.PositiveBigIntegerField(default=0)),
                ("team_name", models.CharField(blank=True, max_length=80)),
                ("key_id", models.PositiveBigIntegerField(default=0)),
                ("key_name", models.CharField(blank=True, max_length=120)),
                ("model_name", models.CharField(max_length=700)),
                ("dialect", models.CharField(max_length=12)),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("failed", models.PositiveBigIntegerField(default=0)),
                ("tokens_in", models.PositiveBigIntegerField(default=0)),
                ("tokens_out", models.PositiveBigIntegerField(default=0)),
                ("tokens_cached", models.PositiveBigIntegerField(default=0)),
                ("compute_us", models.PositiveBigIntegerField(default=0)),
                (
                    "axis",
                    models.CharField(
                        choices=[
                            ("site", "Site"),
                            ("user", "User"),
                            ("team", "Team"),
                            ("key", "Key"),
                            ("model", "Model"),
                            ("dialect", "Dialect"),
                        ],
                        max_length=8,
                    ),
                ),
                (
                    "span",
                    models.CharField(
                        choices=[("hour", "Hour"), ("day", "Day"), ("month", "Month")], max_length=8
                    ),
                ),
                ("begins", models.DateTimeField()),
            ],
            options={
                "verbose_name": "total of use",
                "verbose_name_plural": "totals of use",
                "ordering": ["-begins", "pk"],
            },
        ),
        # Behind the rows, which are filled in faster without indexes.
        migrations.RunPython(_fill, _nothing),
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(fields=["outcome", "began_at"], name="ledger_of_outcome"),
        ),
        migrations.AddIndex(
            model_name="ledgerentry",
            index=models.Index(fields=["dialect", "began_at"], name="ledger_of_dialect"),
        ),
        migrations.AddIndex(
            model_name="ledgerday",
            index=models.Index(fields=["user_id", "day"], name="ledger_day_of_user"),
        ),
        migrations.AddIndex(
            model_name="ledgerday",
            index=models.Index(fields=["team_id", "day"], name="ledger_day_of_team"),
        ),
        migrations.AddIndex(
            model_name="ledgerday",
            index=models.Index(fields=["key_id", "day"], name="ledger_day_of_key"),
        ),
        migrations.AddIndex(
            model_name="ledgerday",
            index=models.Index(fields=["model_name", "day"], name="ledger_day_of_model"),
        ),
        migrations.AddConstraint(
            model_name="ledgerday",
            constraint=models.UniqueConstraint(
                fields=("day", "user_id", "team_id", "key_id", "model_name", "dialect"),
                name="ledger_day_once",
            ),
        ),
        migrations.AddIndex(
            model_name="ledgertotal",
            index=models.Index(
                condition=models.Q(("user_id__gt", 0)),
                fields=["user_id", "begins"],
                name="ledger_total_of_user",
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgertotal",
            constraint=models.UniqueConstraint(
                fields=(
                    "axis",
                    "span",
                    "begins",
                    "user_id",
                    "team_id",
                    "key_id",
                    "model_name",
                    "dialect",
                ),
                name="ledger_total_once",
            ),
        ),
    ]

"""Databases that are wrong, for real."""

import time
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from pytest_django.fixtures import Settings

from ollamasite.backups import databases
from ollamasite.checkup import database
from tests.ollamasite.checkup.found import codes

pytestmark = pytest.mark.django_db(transaction=True)


def is_sqlite() -> bool:
    return databases.kind() == databases.SQLITE


def test_migrated_database_is_well() -> None:
    assert codes(database.look()) == set()


def test_missing_migrations_are_told_of() -> None:
    recorder = MigrationRecorder(connection)
    last = max(name for app, name in recorder.applied_migrations() if app == "models_app")
    recorder.record_unapplied("models_app", last)
    try:
        (found,) = database.look()
    finally:
        recorder.record_applied("models_app", last)
    assert found.code == "database.not-migrated"
    assert f"models_app.{last}" in found.message


def test_database_of_a_newer_version_is_told_of() -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_applied("models_app", "9999_of_tomorrow")
    try:
        (found,) = database.look()
    finally:
        recorder.record_unapplied("models_app", "9999_of_tomorrow")
    assert found.code == "database.newer"
    assert "9999_of_tomorrow" in found.message


def test_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connection.close()
    wrong: dict[str, Any] = {"NAME": str(tmp_path / "no/where")}
    if not is_sqlite():
        wrong = {"HOST": str(tmp_path), "OPTIONS": {}}
    for name, value in wrong.items():
        monkeypatch.setitem(connection.settings_dict, name, value)
    try:
        assert codes(database.look()) == {"database.unreachable"}
    finally:
        connection.close()


def test_journal_that_is_no_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not is_sqlite():
        pytest.skip("of SQLite")
    connection.close()
    options = connection.settings_dict["OPTIONS"] | {"init_command": "PRAGMA journal_mode=DELETE;"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    monkeypatch.setitem(connection.settings_dict, "NAME", str(tmp_path / "other.sqlite3"))
    try:
        assert codes(database.look()) == {"database.not-migrated", "database.no-wal"}
    finally:
        connection.close()


def test_log_that_has_grown_without_end(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_sqlite():
        pytest.skip("of SQLite")
    connection.ensure_connection()
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", str(tmp_path / "site"))
    with (tmp_path / "site-wal").open("wb") as log:
        log.truncate(2 * 1024**3)
    assert codes(database.look()) == {"database.large-log"}


def test_clock_that_is_not_the_databases() -> None:
    if is_sqlite():
        pytest.skip("SQLite has this machine's clock")
    with time_machine.travel(time.time() + 60):
        assert codes(database.look()) == {"clock.skew"}


def test_postgresql_with_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    if is_sqlite():
        pytest.skip("of PostgreSQL")
    monkeypatch.setattr(database, "_LEAST_CONNECTIONS", 10_000)
    monkeypatch.setattr(database, "_LEAST_POSTGRESQL", (99,))
    assert codes(database.look()) == {"database.few-connections", "database.old"}


@pytest.mark.parametrize(
    ("off_s", "doubt_s", "is_told"),
    [(0.5, 0, False), (-0.5, 0, False), (3, 0, True), (-3, 0, True), (3, 2, False)],
)
def test_clocks_are_compared_as_exactly_as_can_be(
    off_s: float, doubt_s: float, is_told: bool
) -> None:
    assert bool(list(database.skew("its", 100 + off_s, 100, doubt_s))) == is_told

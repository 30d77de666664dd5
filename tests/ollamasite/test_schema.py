"""Databases that are older than the program, and migrations that have to wait for somebody."""

import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from ollamasite import schema

pytestmark = pytest.mark.django_db(transaction=True)


def is_postgresql() -> bool:
    return connection.vendor == "postgresql"


@pytest.fixture
def lacking() -> Iterator[str]:
    """The name of a migration that the database does not have, as far as it knows."""
    recorder = MigrationRecorder(connection)
    last = max(name for app, name in recorder.applied_migrations() if app == "models_app")
    recorder.record_unapplied("models_app", last)
    yield f"models_app.{last}"
    recorder.record_applied("models_app", last)


@pytest.mark.parametrize("command", ["web", "worker"])
def test_process_does_not_start_on_an_older_database(lacking: str, command: str) -> None:
    with pytest.raises(CommandError, match="Run `ollamasite migrate` first") as refused:
        call_command(command)
    assert lacking in str(refused.value)


def test_migrated_database_is_let_through() -> None:
    schema.refuse_unmigrated()


def test_database_that_does_not_answer_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "NAME", "/no/such/place")
    try:
        schema.refuse_unmigrated()
    finally:
        connection.close()
    assert "does not answer yet" in caplog.text


def test_database_that_says_nothing_is_not_waited_for_without_an_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not is_postgresql():
        pytest.skip("of PostgreSQL")
    assert connection.get_connection_params()["connect_timeout"] == 10
    connection.close()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = {"HOST": "127.0.0.1", "PORT": silent.getsockname()[1]}
        for name, value in {**place, "OPTIONS": {"connect_timeout": 2}}.items():
            monkeypatch.setitem(connection.settings_dict, name, value)
        try:
            schema.refuse_unmigrated()
        finally:
            connection.close()
    assert "does not answer yet" in caplog.text


def test_locked_file_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if is_postgresql():
        pytest.skip("of SQLite")
    connection.close()
    options = connection.settings_dict["OPTIONS"] | {"timeout": 0.1}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    monkeypatch.setitem(connection.settings_dict, "NAME", str(tmp_path / "other.sqlite3"))
    try:
        with closing(sqlite3.connect(tmp_path / "other.sqlite3")) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(CommandError, match="Run `ollamasite migrate` again"):
                call_command("migrate", verbosity=0)
    finally:
        connection.close()


@pytest.mark.skipif("not config.pluginmanager.hasplugin('tests.postgres')")
def test_migration_does_not_wait_long_for_a_table() -> None:
    quiet = {"stdout": StringIO(), "verbosity": 0}
    call_command("migrate", "models_app", "0011_upstreams", **quiet)
    parameters = connection.get_connection_params()
    known = {name: parameters[name] for name in ("dbname", "user", "host") if name in parameters}
    try:
        with psycopg.connect(**known) as reader, psycopg.connect(**known) as other:
            reader.execute("SELECT count(*) FROM models_app_job")  # and its transaction goes on
            began_s = time.monotonic()
            with pytest.raises(CommandError, match="Run `ollamasite migrate` again"):
                call_command("migrate", lock_timeout=0.5, **quiet)
            assert time.monotonic() - began_s < 60
            assert schema.pending()[0] == "models_app.0012_dismissed_jobs"
            other.execute("SET statement_timeout = '20s'")
            other.execute("UPDATE models_app_job SET state = state")  # nobody is in its way
    finally:
        call_command("migrate", **quiet)

    assert schema.pending() == []
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)

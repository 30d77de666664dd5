"""Pytest plugin: the tests' database is a PostgreSQL of their own, on a socket, for this run alone.

    python -m pytest -p tests.postgres -m "not slow"

Started before settings are read, and stopped and removed at the end. PostgreSQL does not run as
root, so where the tests do, it runs as `postgres` or, where there is none, `nobody`. Workers of
pytest-xdist share the server, and each has a database of its own; so has each site that a test
starts (`tests.databases`). What is the same on every database is left out: it has run without
this plugin.
"""

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import tests.environment  # noqa: F401 - it clears what is set here
from tests.databases import SERVER_URL, postgres_program, postgres_user

# Nothing has to survive a power cut.
_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "400",
}


# They use no database in the test's own process, but that of the site they start.
_WHOLE_SITES: Final = ("tests/processes", "tests/load/test_streams.py")
# Other people's clients, and what becomes of texts in a page: they end at what the site answers,
# and what it reads and writes for that is tested by the endpoint's and the page's own tests.
_ENDS_AT_THE_ANSWER: Final = frozenset(
    {
        "tests/contract/test_anthropic_client.py",
        "tests/contract/test_langchain_and_llm.py",
        "tests/contract/test_langchain_openai_and_litellm.py",
        "tests/contract/test_ollama_js.py",
        "tests/contract/test_openai_js.py",
        "tests/contract/test_openai_seed.py",
        "tests/contract/test_seed_curl.py",
        "tests/pages/test_hostile_text.py",
    }
)


def pytest_report_header() -> str:
    """Say what is not run."""
    return "PostgreSQL: tests that are the same on every database are left out"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is the same on every database."""
    left_out = [item for item in items if not _asks_the_database(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _asks_the_database(item)]


def _asks_the_database(item: pytest.Item) -> bool:
    """Whether a test can: pytest-django lets none that has neither mark nor fixture for it."""
    path = item.nodeid.partition("::")[0]
    # What is skipped on some condition may have waited for this database.
    if path.startswith(_WHOLE_SITES) or item.get_closest_marker("skipif"):
        return True
    fixtures = set(getattr(item, "fixturenames", ()))
    can_ask = item.get_closest_marker("django_db") or fixtures & {"db", "transactional_db"}
    return bool(can_ask) and path not in _ENDS_AT_THE_ANSWER


def pytest_configure(config: pytest.Config) -> None:
    """Leave the databases to go with the server: threads of tests may be connected still."""
    config.option.reuse_db = True
    left_open = "ignore:.*psycopg.Connection.* was deleted while still open:ResourceWarning"
    config.addinivalue_line("filterwarnings", left_open)


@pytest.fixture(autouse=True, scope="session")
def _emptied_quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        place = "django.db.backends.postgresql.operations.DatabaseOperations.sql_flush"
        patch.setattr(place, _delete_all)
        yield


def _delete_all(operations: Any, style: Any, tables: Iterable[str], **options: bool) -> list[str]:
    """Return the statement that empties a database: rows are few, and TRUNCATE makes new files."""
    del style, options
    names = map(operations.quote_name, tables)
    deletes = [f"DELETE FROM {name}" for name in names]  # noqa: S608 - Django's own tables
    # What points at a row that is gone goes as well: nothing has to be asked for each.
    return ["; ".join(["SET LOCAL session_replication_role = replica", *deletes])]


def _start() -> str:
    """Return the address of a server that has just been started."""
    folder = Path(tempfile.mkdtemp(prefix="ollamasite-postgres-"))
    user = postgres_user()
    if user is not None:
        shutil.chown(folder, user)
        folder.chmod(0o755)  # tests connect as another user
    cluster, socket = str(folder / "cluster"), str(folder)

    def run(program: str, *arguments: str) -> None:
        command = [postgres_program(program), *arguments]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    def stop() -> None:
        run("pg_ctl", "-D", cluster, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)

    run("initdb", "-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    settings = " ".join(f"-c {name}='{value}'" for name, value in _SETTINGS.items())
    log = str(folder / "log")
    run("pg_ctl", "-D", cluster, "-l", log, "-w", "-o", f"-k {socket} {settings}", "start")
    atexit.register(stop)
    return f"postgres:///ollamasite?host={socket}&user=postgres"


if SERVER_URL not in os.environ:
    os.environ[SERVER_URL] = _start()
os.environ["OLLAMASITE_DATABASE_URL"] = os.environ[SERVER_URL]

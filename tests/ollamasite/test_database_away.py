"""A database that does not answer is a 503 in every dialect, and no failure of the site's code."""

import importlib
import logging
from typing import Any

import pytest
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import InterfaceError, OperationalError

from models_app import gate
from ollamasite.error_responses import to_service_error
from ollamasite.errors import DatabaseUnavailable
from tests.fakes.http import AsgiClient

# Threads that are lent may have connections of earlier tests, which are looked at.
pytestmark = pytest.mark.django_db

AWAY = "connection is bad: no such file or directory"


@pytest.fixture(scope="module", autouse=True)
def _application() -> None:
    """Loading it sets up logging anew, and a test's own handler would be gone."""
    importlib.import_module("ollamasite.asgi")


@pytest.mark.parametrize("error", [OperationalError(AWAY), InterfaceError("closed")])
def test_database_errors_are_told_as_such(error: Exception) -> None:
    found = to_service_error(error)

    assert isinstance(found, DatabaseUnavailable)
    assert found.status == 503
    assert AWAY not in found.message


@pytest.mark.parametrize(
    "path", ["/api/tags", "/v1/models", "/v1/messages", "/v2/library/tiny/tags/list"]
)
async def test_whoever_cannot_be_looked_up_is_asked_to_come_again(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def admit(*_: Any) -> None:
        raise OperationalError(AWAY)

    monkeypatch.setattr(gate, "_admit", admit)
    answer = await AsgiClient().get(path)

    assert answer.status == 503
    assert b"please try again" in answer.body
    assert AWAY.encode() not in answer.body


@pytest.mark.parametrize("path", ["/home", "/models", "/admin/"])
async def test_page_whose_session_cannot_be_read_asks_to_come_again(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def begin(*_: Any) -> None:
        raise OperationalError(AWAY)

    monkeypatch.setattr(SessionMiddleware, "process_request", begin)
    answer = await AsgiClient().get(path, headers={"Accept": "text/html"})

    assert answer.status == 503
    assert b"please try again" in answer.body
    assert AWAY.encode() not in answer.body


async def test_what_fails_outside_of_a_view_is_logged_once_with_its_id_and_no_path(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def begin(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(SessionMiddleware, "process_request", begin)
    answer = await AsgiClient().get("/home", headers={"Accept": "text/html"})
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]

    assert answer.status == 500
    assert len(lines) == 1
    assert answer.headers["x-request-id"] in lines[0].getMessage()
    assert lines[0].exc_info is not None
    assert "/home" not in lines[0].getMessage()

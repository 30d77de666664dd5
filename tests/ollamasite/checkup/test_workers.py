"""Whether somebody does the jobs, asked as a check asks."""

from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from ollamasite.celery import app
from ollamasite.checkup import processes
from tests.ollamasite.checkup.found import codes


def test_one_worker_that_answers_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def ping(**how: Any) -> list[dict[str, Any]]:
        asked.update(how)
        return [{"celery@here": {"ok": "pong"}}]

    monkeypatch.setattr(app.control, "ping", ping)
    assert codes(processes.look_at_worker()) == set()
    assert asked["limit"] == 1, "others are not waited for"
    assert asked["timeout"] >= 10, "a busy one has its time"


def test_nobody_who_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.control, "ping", lambda **_: [])
    assert codes(processes.look_at_worker()) == {"worker.silent"}


def test_without_redis_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def ping(**_: Any) -> list[dict[str, Any]]:
        raise RedisConnectionError

    monkeypatch.setattr(app.control, "ping", ping)
    assert codes(processes.look_at_worker()) == {"worker.unknown"}

"""The guard: foreign Host headers and oversized bodies get no further."""

from typing import Any

import pytest
from django.conf import settings

from ollamasite.guard import Guard
from tests.fakes.http import AsgiClient


def guard(*site_hosts: str) -> Guard:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    return Guard(application, site_hosts=site_hosts, body_limit=lambda _: 0)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:11434",
        "localhost.",
        "a.localhost",
        "lab.local:80",
        "gpu.internal",
        "127.0.0.1:11434",
        "192.168.1.7",
        "[::1]:11434",
        "models.example",
        "Models.Example:443",
        "",
    ],
)
def test_names_of_this_site_are_known(host: str) -> None:
    assert guard("models.example").is_known_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "xlocal", "127.0.0.1.evil.example", "[x]"),
        *(":80", "localhost:1@evil.example", "localhost:80/evil", "localhost:80,evil", "[::1]x"),
    ],
)
def test_other_names_are_foreign(host: str) -> None:
    assert not guard("models.example").is_known_host(host)


async def test_two_hosts_are_one_too_many() -> None:
    sent: list[Any] = []
    headers = [(b"host", b"localhost"), (b"host", b"localhost")]
    scope: Any = {"type": "http", "method": "GET", "path": "/", "headers": headers}

    async def keep(event: Any) -> None:
        sent.append(event)

    await guard()(scope, None, keep)  # type: ignore[arg-type] # nothing is read
    assert sent[0]["status"] == 403


async def test_foreign_host_is_refused_without_a_word() -> None:
    answer = await AsgiClient({"host": "evil.example"}).get("/api/tags")

    assert (answer.status, answer.body) == (403, b"")


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions"])
async def test_declared_size_is_refused_in_the_dialects_words(path: str) -> None:
    length = str(settings.MAX_BODY_BYTES + 1)
    answer = await AsgiClient({"content-length": length}).post(path)

    assert answer.status == 413
    assert "request body too large" in answer.text
    assert answer.headers["connection"] == "close"

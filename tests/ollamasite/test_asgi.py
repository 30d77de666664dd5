"""The outside of the application: static files."""

import pytest

from tests.fakes.http import AsgiClient


async def test_static_file_needs_no_credential() -> None:
    answer = await AsgiClient().get("/static/ollamasite/site.css")

    assert answer.status == 200
    assert answer.content_type.startswith("text/css")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


async def test_head_of_a_static_file_has_no_body() -> None:
    answer = await AsgiClient().request("HEAD", "/static/ollamasite/site.css")

    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../ollamasite/settings.py",
        "/static/%2e%2e/manage.py",
        "/static/ollamasite/../../manage.py",
        "/static//etc/passwd",
        "/static/ollamasite/site.css\x00.txt",
        "/static/ollamasite",
    ],
)
@pytest.mark.django_db(transaction=True)
async def test_what_is_not_a_static_file_is_not_served(path: str) -> None:
    assert (await AsgiClient().get(path)).status == 401


async def test_static_files_of_a_foreign_host_are_refused() -> None:
    answer = await AsgiClient().get("/static/ollamasite/site.css", headers={"host": "evil.example"})

    assert (answer.status, answer.body) == (403, b"")

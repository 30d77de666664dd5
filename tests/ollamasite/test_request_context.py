"""Every answer of the site has an id of its own, whoever gives it."""

import logging

import pytest

from inference import generation
from ollamasite.request_context import add_headers, current_request_id
from tests.fakes.engine import FakeNode
from tests.fakes.http import AsgiClient
from tests.inference.conftest import api, model, node

__all__ = ["api", "model", "node"]

EMPTY_SHA = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
FOREIGN_PAGE = {"origin": "https://foreign.example"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/static/ollamasite/site.css", {}, 200),
        ("GET", "/signin", {}, 200),
        ("GET", "/home", {"accept": "text/html"}, 302),
        ("GET", "/api/tags/", {}, 401),
        ("GET", "/v1/models", {}, 401),
        ("POST", f"/api/blobs/{EMPTY_SHA}", {}, 401),
        ("GET", "/", {"host": "evil.example"}, 403),
        ("GET", "/v1/models", FOREIGN_PAGE, 403),
        ("OPTIONS", "/v1/models", {"origin": "http://localhost"}, 204),
        ("POST", "/v1/chat/completions", {"content-length": "9" * 15}, 413),
    ],
)
@pytest.mark.django_db(transaction=True)
async def test_every_answer_has_an_id(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    first = await AsgiClient(headers).request(method, path)
    second = await AsgiClient(headers).request(method, path)

    assert first.status == status
    assert first.headers["x-request-id"].startswith("req_")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_redirect_and_upload_have_an_id(api: AsgiClient) -> None:
    redirect = await api.get("/api/tags/")
    upload = await api.request("POST", f"/api/blobs/{EMPTY_SHA}", body=b"")

    assert (redirect.status, upload.status) == (301, 201)
    assert redirect.headers["x-request-id"].startswith("req_")
    assert upload.headers["x-request-id"].startswith("req_")


async def test_id_of_the_client_is_not_taken_over(api: AsgiClient) -> None:
    answer = await api.get("/api/tags", headers={"x-request-id": "mine"})

    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("is_late", [False, True])
async def test_unexpected_error_has_the_answers_id_in_text_and_log(
    node: FakeNode,
    model: str,
    api: AsgiClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    is_late: bool,
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError

    if is_late:
        monkeypatch.setattr("inference.api.native_writers.metrics", explode)
    else:
        monkeypatch.setattr(generation, "engine_message", explode)
    with caplog.at_level(logging.ERROR):
        answer = await api.post(
            "/api/chat", {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        )
    request_id = answer.headers["x-request-id"]

    assert answer.status == (200 if is_late else 500)
    assert f"internal server error (id {request_id})" in answer.text
    assert any(request_id in record.getMessage() for record in caplog.records)


def test_outside_of_a_request_there_is_always_a_new_id() -> None:
    add_headers({"X-Nobody": "hears it"})

    assert current_request_id() != current_request_id()

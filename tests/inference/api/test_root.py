"""`GET /` and `HEAD /`: the sign of life that every client looks for."""

import pytest

from tests.fakes.http import AsgiClient


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_root_says_that_ollama_runs(stranger: AsgiClient, method: str) -> None:
    answer = await stranger.request(method, "/")

    assert answer.status == 200
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["content-length"] == "17"


async def test_root_has_the_contracts_text(stranger: AsgiClient) -> None:
    assert (await stranger.get("/")).body == b"Ollama is running"


async def test_browser_is_sent_to_the_home_page(stranger: AsgiClient) -> None:
    answer = await stranger.get("/", headers={"accept": "text/html,application/xhtml+xml"})

    assert (answer.status, answer.headers["location"]) == (302, "/home")


async def test_other_methods_tell_a_stranger_nothing(stranger: AsgiClient) -> None:
    answer = await stranger.request("POST", "/")

    assert (answer.status, answer.json()) == (401, {"error": "unauthorized"})


async def test_other_methods_are_refused(api: AsgiClient) -> None:
    answer = await api.request("POST", "/")

    assert (answer.status, answer.text) == (405, "405 method not allowed")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 301), ("POST", 307), ("DELETE", 307), ("HEAD", 307)]
)
async def test_slash_too_many_is_sent_to_the_route(
    api: AsgiClient, method: str, status: int
) -> None:
    answer = await api.request(method, "/api/tags/?x=1&y=%20")

    assert (answer.status, answer.headers["location"]) == (status, "/api/tags?x=1&y=%20")


@pytest.mark.parametrize("path", ["/api/version", "/api/tags"])
async def test_head_is_answered_where_clients_ask_for_life(api: AsgiClient, path: str) -> None:
    assert (await api.request("HEAD", path)).status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/api/nope", "/nope/"])
async def test_unknown_path_is_the_routers_plain_text(
    api: AsgiClient, method: str, path: str
) -> None:
    answer = await api.request(method, path)

    assert (answer.status, answer.text) == (404, "404 page not found")
    assert answer.content_type == "text/plain"

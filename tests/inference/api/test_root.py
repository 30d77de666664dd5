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

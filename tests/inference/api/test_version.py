"""`GET /api/version`."""

from tests.fakes.http import AsgiClient


async def test_version_is_the_contracts(model: str, api: AsgiClient) -> None:
    answer = await api.get("/api/version")

    assert answer.status == 200
    assert answer.content_type == "application/json; charset=utf-8"
    assert answer.text == '{"version":"0.33.0"}'


async def test_head_is_answered(model: str, api: AsgiClient) -> None:
    assert (await api.request("HEAD", "/api/version")).status == 200

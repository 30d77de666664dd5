"""Bad input is refused in the contract's words and is never a 500 (contract 1.0, 2.2)."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from ollamasite import guard
from tests.fakes.engine import FakeNode
from tests.fakes.http import AsgiClient

NATIVE = ["/api/generate", "/api/chat"]
OPENAI = ["/v1/chat/completions"]
KINDS: list[Any] = [True, 3, 2.5, "x", [], {}, ["x"], {"x": 1}, None]
FIELDS = {
    "/api/generate": (
        "model prompt suffix system template context stream raw format images keep_alive options"
        " think truncate shift logprobs top_logprobs"
    ),
    "/api/chat": (
        "model messages tools stream format keep_alive options think truncate shift logprobs"
        " top_logprobs"
    ),
    "/v1/chat/completions": (
        "model messages stream stream_options max_tokens max_completion_tokens seed stop"
        " temperature top_p frequency_penalty presence_penalty response_format tools tool_choice"
        " reasoning_effort reasoning logprobs top_logprobs logit_bias n options keep_alive"
    ),
}


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize("body", [b"", b"  \n\t"])
async def test_empty_body_is_missing(model: str, api: AsgiClient, path: str, body: bytes) -> None:
    answer = await api.request("POST", path, body=body)

    assert (answer.status, answer.json()) == (400, {"error": "missing request body"})
    assert answer.content_type == "application/json; charset=utf-8"


async def test_empty_body_is_eof_to_openai(model: str, api: AsgiClient) -> None:
    answer = await api.request("POST", OPENAI[0])

    assert (answer.status, answer.json()["error"]["message"]) == (400, "EOF")
    assert answer.content_type == "application/json; charset=utf-8"


@pytest.mark.parametrize("path", NATIVE + OPENAI)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"model":', "unexpected EOF"),
        (b"{bad", "invalid character 'b' looking for beginning of object key string"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"\xff\xfe\x00", None),
        (b"[" * 100_000, None),
        (b'{"a":' * 100_000, None),
        (b'{"options": ' + b"[" * 300 + b"]" * 300 + b"}", "exceeded max depth"),
        (b'{"format": ' + b'{"a":' * 900 + b"1" + b"}" * 901, "exceeded max depth"),
        (b'"text"', None),
        (b"[]", None),
        (b"3", None),
        (b"NaN", None),
        (b'{"model": 1e999}', None),
        (b'{"model": "\\ud800", "prompt": "x", "messages": [{"role": "user"}]}', None),
        (b'{"model": "\\u0000", "prompt": "x", "messages": [{"role": "user"}]}', None),
    ],
)
async def test_broken_bodies_are_the_clients_fault(
    model: str, api: AsgiClient, path: str, body: bytes, message: str | None
) -> None:
    answer = await api.request("POST", path, body=body)
    error = answer.json()["error"]

    assert answer.status in {400, 404}
    assert message is None or message in (error, error["message"] if path in OPENAI else "")


@pytest.mark.parametrize("path", NATIVE + OPENAI)
@pytest.mark.parametrize("value", KINDS, ids=str)
async def test_no_kind_of_value_is_the_servers_fault(
    node: FakeNode, model: str, api: AsgiClient, path: str, value: Any
) -> None:
    good = {"model": model, "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
    for field in FIELDS[path].split():
        answer = await api.post(path, {**good, field: value})

        assert answer.status in {200, 400, 404}, (field, answer.text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = sorted({name for fields in FIELDS.values() for name in fields.split()})


@pytest.mark.parametrize("path", NATIVE + OPENAI)
@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.dictionaries(st.sampled_from([*names, "role", "content"]), json_values))
async def test_no_body_at_all_is_the_servers_fault(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    answer = await api.post(path, {"model": model, "prompt": "x", **body})

    assert answer.status in {200, 400, 404}, answer.text


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "x"])
async def test_content_type_does_not_matter(
    node: FakeNode, model: str, api: AsgiClient, content_type: str
) -> None:
    answer = await api.post("/api/chat", {"model": model}, headers={"content-type": content_type})

    assert answer.status == 200


async def test_body_null_is_an_empty_object(model: str, api: AsgiClient) -> None:
    answer = await api.request("POST", "/api/chat", body=b"null")

    assert answer.json() == {"error": "model is required"}


async def test_what_follows_the_first_value_is_ignored(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    body = f'{{"model": "{model}"}} trailing'.encode()

    assert (await api.request("POST", "/api/chat", body=body)).status == 200


@pytest.mark.parametrize("path", NATIVE + OPENAI)
async def test_declared_size_over_the_limit_is_refused_unread(
    model: str, api: AsgiClient, path: str
) -> None:
    answer = await api.request("POST", path, headers={"content-length": str(10**12)})

    assert answer.status == 413
    assert "error" in answer.json()


@pytest.mark.parametrize("path", NATIVE + OPENAI)
async def test_chunks_over_the_limit_are_refused(
    model: str, api: AsgiClient, path: str, settings: Settings
) -> None:
    settings.MAX_BODY_BYTES = 1024
    answer = await api.request("POST", path, body=[b" " * 1000] * 3)

    assert answer.status == 413
    assert "error" in answer.json()


async def test_body_that_has_come_whole_is_refused_at_once(
    api: AsgiClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_LISTEN_S", 3600.0)
    settings.MAX_BODY_BYTES = 1024
    answer = await api.request("POST", NATIVE[0], body=[b" " * 1000] * 2)

    assert answer.status == 413


@pytest.mark.parametrize("path", ["/", "/api/tags", "/api/chat", "/v1/models", "/nope"])
async def test_foreign_host_is_refused_without_a_word(api: AsgiClient, path: str) -> None:
    answer = await api.get(path, headers={"host": "evil.example"})

    assert (answer.status, answer.body) == (403, b"")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:11434", "[::1]:11434", "box.local"])
async def test_local_names_and_addresses_are_welcome(stranger: AsgiClient, host: str) -> None:
    assert (await stranger.get("/", headers={"host": host})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/chat", "POST"),
        ("GET", "/api/generate", "POST"),
        ("HEAD", "/api/chat", "POST"),
        ("OPTIONS", "/api/chat", "POST"),
        ("POST", "/api/tags", "GET, HEAD"),
        ("POST", "/api/version", "GET, HEAD"),
        ("PUT", "/api/ps", "GET"),
        ("TRACE", "/api/chat", "POST"),
        ("POST", "/api/status", "GET"),
        ("BREW", "/api/chat", "POST"),
    ],
)
async def test_wrong_method_is_a_405_in_plain_text(
    model: str, api: AsgiClient, method: str, path: str, allowed: str
) -> None:
    answer = await api.request(method, path)

    assert (answer.status, answer.text) == (405, "405 method not allowed")
    assert answer.content_type == "text/plain"
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/models/x", "GET, HEAD, DELETE"),
        ("GET", "/v1/responses", "POST"),
    ],
)
async def test_wrong_method_under_v1_is_told_in_openais_shape(
    model: str, api: AsgiClient, method: str, path: str, allowed: str
) -> None:
    answer = await api.request(method, path)

    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]["message"] == "405 method not allowed"


@pytest.mark.parametrize("path", ["/api/ps", "/api/status"])
async def test_head_is_known_to_no_more_routes_than_in_ollama(
    node: FakeNode, api: AsgiClient, path: str
) -> None:
    answer = await api.request("HEAD", path)

    assert (answer.status, answer.headers["allow"]) == (405, "GET")


async def test_methods_are_told_only_where_one_is_refused(api: AsgiClient) -> None:
    assert "allow" not in (await api.get("/api/version")).headers


async def test_unknown_route_under_v1_is_told_in_openais_shape(model: str, api: AsgiClient) -> None:
    answer = await api.post("/v1/images/generations", {"prompt": "x"})

    assert answer.status == 404
    assert answer.json()["error"] == {
        "message": "404 page not found",
        "type": "not_found_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize("path", ["/api/nope", "/nope", "/api", "/static/nope.js"])
async def test_unknown_route_is_a_404_in_plain_text(model: str, api: AsgiClient, path: str) -> None:
    answer = await api.get(path)

    assert (answer.status, answer.text) == (404, "404 page not found")
    assert answer.content_type == "text/plain"


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("POST", 307)])
async def test_slash_at_the_end_is_redirected(
    model: str, api: AsgiClient, method: str, status: int
) -> None:
    answer = await api.request(method, "/api/tags/")

    assert (answer.status, answer.headers["location"]) == (status, "/api/tags")

"""CORS: pages of which origins may call the API from a browser (contract 1.0)."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from models_app.keys import create_key
from models_app.models import User
from ollamasite.cors import Cors
from tests.fakes.http import AsgiClient

PREFLIGHT = {"access-control-request-method": "POST"}
ALLOWED_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,"
    "X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,"
    "X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,"
    "X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
LOCAL = [
    "http://localhost",
    "https://localhost",
    "http://localhost:3000",
    "https://127.0.0.1:8443",
    "http://0.0.0.0:80",
    "app://obsidian.md",
    "file://x",
    "tauri://localhost",
    "vscode-webview://0abc",
    "vscode-file://vscode-app",
    "HTTP://LOCALHOST:3000",
]
FOREIGN = [
    "https://evil.example",
    "http://localhost.evil.example",
    "http://xlocalhost:3000",
    "http://localhostx",
    "null",
    "chrome-extension://abc",
    "http://[::1]:3000",
]


async def preflight(path: str, origin: str, **headers: str) -> Any:
    whole = {**PREFLIGHT, "origin": origin, **headers}
    return await AsgiClient(whole).request("OPTIONS", path)


async def test_preflight_is_answered_as_ollama_does() -> None:
    answer = await preflight("/api/chat", "http://localhost:3000")

    assert (answer.status, answer.body) == (204, b"")
    told = {name for name in answer.headers if name.startswith("access-control-")}
    assert {name: answer.headers[name] for name in (*told, "vary")} == {
        "access-control-allow-origin": "http://localhost:3000",
        "access-control-allow-methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "access-control-allow-headers": ALLOWED_HEADERS,
        "access-control-max-age": "43200",
        "vary": "Access-Control-Request-Headers",  # the last of three
    }


@pytest.mark.parametrize("path", ["/", "/api/tags", "/v1/chat/completions", "/api/blobs/x"])
async def test_preflight_needs_no_key(path: str) -> None:
    assert (await preflight(path, "http://localhost:3000")).status == 204


async def test_further_headers_are_let_in() -> None:
    asked = "authorization, x-api-key,X-My_Header,bad header,\x7f"
    answer = await preflight(
        "/api/chat", "http://localhost", **{"access-control-request-headers": asked}
    )

    allowed = answer.headers["access-control-allow-headers"]
    assert allowed == f"{ALLOWED_HEADERS},x-api-key,X-My_Header"


@pytest.mark.parametrize("origin", LOCAL)
async def test_local_origins_are_allowed(origin: str) -> None:
    answer = await preflight("/api/chat", origin)

    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, origin)


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
@pytest.mark.parametrize("origin", FOREIGN)
async def test_foreign_origins_are_refused(origin: str, method: str) -> None:
    answer = await AsgiClient({"origin": origin}).request(method, "/api/tags")

    assert (answer.status, answer.body) == (403, b"")
    assert "access-control-allow-origin" not in answer.headers


@pytest.fixture
def key(transactional_db: None, alice: User) -> str:
    return create_key(alice, "test key")[1]


async def test_answers_may_be_read_by_an_allowed_page(key: str) -> None:
    headers = {"origin": "http://localhost:3000", "authorization": f"Bearer {key}"}
    answer = await AsgiClient(headers).get("/api/tags")

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/api/tags", "/v1/models", "/api/nope"])
async def test_refusals_may_be_read_too(db: None, path: str) -> None:
    answer = await AsgiClient({"origin": "http://localhost:3000"}).get(path)

    assert answer.status == 401
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_sites_own_pages_need_no_leave(key: str, scheme: str) -> None:
    headers = {
        "host": "models.localhost:11434",
        "origin": f"{scheme}://Models.localhost:11434",
        "authorization": f"Bearer {key}",
    }
    answer = await AsgiClient(headers).get("/api/tags")

    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_programs_send_no_origin_and_get_no_leave(key: str) -> None:
    answer = await AsgiClient({"authorization": f"Bearer {key}"}).get("/api/tags")

    assert answer.status == 200
    assert "vary" not in answer.headers or "Origin" not in answer.headers["vary"]


async def test_pages_are_left_to_djangos_own_check(db: None) -> None:
    answer = await AsgiClient({"origin": "https://evil.example"}).get("/signin")

    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


async def ask(origins: list[str], origin: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    headers = [(b"host", b"site"), (b"origin", origin.encode())]
    scope = {"type": "http", "method": "GET", "path": "/api/tags", "headers": headers}
    await Cors(application, origins=origins)(scope, receive, send)
    return sent


async def test_star_lets_every_page_in() -> None:
    start, body = await ask(["*"], "https://any.example")

    assert start["headers"] == [(b"access-control-allow-origin", b"*")]
    assert body["body"] == b"ok"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://a.example.org", 200),
        ("https://a.b.example.org", 200),
        ("https://example.org", 403),
        ("https://a.exampleXorg", 403),
        ("http://a.example.org", 403),
    ],
)
async def test_one_star_stands_for_anything(origin: str, status: int) -> None:
    start = (await ask(["https://*.example.org"], origin))[0]

    assert start["status"] == status


@pytest.mark.django_db(transaction=True)
async def test_page_of_another_origin_is_nobody_without_a_key(alice: User) -> None:
    client = Client()
    await sync_to_async(client.force_login)(alice)
    token = "a" * 32
    cookie = f"ollamasite_session={client.cookies['ollamasite_session'].value}; csrftoken={token}"
    page = AsgiClient({"cookie": cookie, "x-csrftoken": token})

    assert (await page.get("/api/tags")).status == 200
    answer = await page.get("/api/tags", headers={"origin": "http://localhost:3000"})
    assert answer.status == 401

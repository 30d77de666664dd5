"""Headers, cookies and CSRF: every answer says what a browser may do with it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.middleware.security import SecurityMiddleware
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from models_app.keys import create_key
from models_app.models import User
from models_app.policy import ROUTES, WEBSOCKETS, Access
from models_app.sockets import CLOSE_FORBIDDEN
from ollamasite.error_responses import Dialect, dialect_of
from tests.fakes.http import Answer, AsgiClient
from tests.fakes.websocket import Socket

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}
PAGE = {"accept": "text/html"}
PARTS = {
    "<int:key_id>": "1",
    "<str:digest>": f"sha256:{'0' * 64}",
    "<path:name>": "a/b",
    "<path:object_id>": "1",
    "<path:url>": "x",
    "<int:content_type_id>": "1",
    "<str:reference>": "latest",
}
CSRF = "a" * 32


def routes(patterns: Any, before: str = "") -> Iterator[str]:
    """Return every route of a URLconf, with something in place of its parts."""
    for pattern in patterns:
        route = before + str(pattern.pattern).lstrip("^").removesuffix("$").removesuffix("\\Z")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def path_of(route: str) -> str:
    for part, value in PARTS.items():
        route = route.replace(part, value)
    while "<" in route:
        before, _, rest = route.partition("<")
        route = f"{before}x{rest.partition('>')[2]}"
    return f"/{route.replace('(?P', '').replace('.*)', '')}"


def cookies_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return f"ollamasite_session={client.cookies['ollamasite_session'].value}; csrftoken={CSRF}"


def all_paths() -> list[str]:
    found = sorted({path_of(route) for route in routes(get_resolver().url_patterns)})
    assert len(found) > 50
    return found


def assert_guarded(path: str, answer: Answer) -> None:
    headers = answer.headers
    assert ALWAYS.items() <= headers.items(), path
    assert headers["referrer-policy"] in {"same-origin", "no-referrer"}, path
    assert "camera=()" in headers["permissions-policy"], path
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy, path
    if headers.get("content-type", "").startswith("text/html"):
        assert "default-src 'self'" in policy, path
        directives = [part.split() for part in policy.split(";")]
        assert not any("script" in each[0] and "'unsafe-inline'" in each for each in directives), (
            path
        )
    else:
        assert "default-src 'none'" in policy, path


@pytest.mark.django_db(transaction=True)
async def test_every_route_has_the_headers_for_strangers_and_for_admins(admin: User) -> None:
    session = await sync_to_async(cookies_of)(admin)
    for path in all_paths():
        for headers in (PAGE, PAGE | {"cookie": session, "x-csrftoken": CSRF}):
            assert_guarded(path, await AsgiClient(headers).get(path))


@pytest.mark.django_db(transaction=True)
async def test_pages_of_people_have_no_inline_script_and_no_inline_style(alice: User) -> None:
    session = await sync_to_async(cookies_of)(alice)
    for path in ("/signin", "/home", "/client-keys", "/nowhere"):
        headers = PAGE if path == "/signin" else PAGE | {"cookie": session}
        answer = await AsgiClient(headers).get(path)
        assert answer.headers["content-type"].startswith("text/html"), path
        assert "unsafe" not in answer.headers["content-security-policy"], path
        assert " style=" not in answer.text, path
        assert "<script>" not in answer.text, path
        assert " onclick=" not in answer.text, path


async def test_refusals_before_django_and_files_have_them_too(db: None) -> None:
    foreign = await AsgiClient({"host": "evil.example"}).get("/api/tags")
    assert foreign.status == 403
    preflight = await AsgiClient(
        {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    ).request("OPTIONS", "/api/chat")
    file = await AsgiClient().get("/static/ollamasite/site.css")
    assert file.status == 200
    for answer in (foreign, preflight, file):
        assert ALWAYS.items() <= answer.headers.items()


@pytest.mark.django_db(transaction=True)
async def test_answer_to_a_key_has_each_header_once(alice: User) -> None:
    _, secret = await sync_to_async(create_key)(alice, "key")
    sent: list[tuple[bytes, bytes]] = []
    call = AsgiClient({"authorization": f"Bearer {secret}"}).open("GET", "/api/tags")
    answer = await call.answer()
    sent = call._sent[0]["headers"]
    assert answer.status == 200
    assert len({name for name, _ in sent}) == len(sent)
    assert_guarded("/api/tags", answer)


# ------------------------------------------------------------------ HTTPS
@pytest.fixture
def behind_tls(settings: Any) -> None:
    """As OLLAMASITE_HTTPS=1 with a proxy on this machine."""
    AsgiClient()  # the application reads some of these once, for all tests: not with these values
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.TRUSTED_PROXIES = ["127.0.0.0/8"]
    settings.SECURE_HSTS_SECONDS = 3600


HTTPS = {"x-forwarded-proto": "https"}


async def test_browsers_are_told_to_come_back_by_https(behind_tls: None, db: None) -> None:
    for path in ("/signin", "/api/tags", "/static/ollamasite/site.css"):
        answer = await AsgiClient(PAGE | HTTPS).get(path)
        assert answer.headers["strict-transport-security"] == "max-age=3600", path


async def test_plain_http_is_not_told(behind_tls: None, db: None) -> None:
    answer = await AsgiClient(PAGE).get("/api/tags")
    assert "strict-transport-security" not in answer.headers


async def test_proxy_that_is_not_trusted_cannot_say_https(
    behind_tls: None, settings: Any, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    settings.TRUSTED_PROXIES = ["192.0.2.1/32"]
    answer = await AsgiClient(PAGE | HTTPS).get("/api/tags")
    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize(
    ("path", "is_sent"), [("/signin", True), ("/home", True), ("/", False), ("/healthz", False)]
)
def test_pages_are_sent_to_https_and_probes_of_this_machine_are_not(
    behind_tls: None, settings: Any, rf: Any, path: str, is_sent: bool
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    middleware = SecurityMiddleware(lambda _: HttpResponse())
    answer = middleware.process_request(rf.get(path, headers={"host": "localhost"}))
    assert (answer is not None) == is_sent


def run_check(*names: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ollamasite", "check", *names]
    known = {name: text for name, text in os.environ.items() if not name.startswith("OLLAMASITE_")}
    secrets = {"OLLAMASITE_SECRET_KEY": "k9#" * 20 + "abcdefgh", "OLLAMASITE_KEY_PEPPER": "p" * 40}
    return subprocess.run(
        command, env=known | secrets | environ, capture_output=True, text=True, timeout=100
    )


def test_check_deploy_is_clean_behind_https(tmp_path: Any) -> None:
    done = run_check(
        "--deploy",
        "--fail-level",
        "WARNING",
        OLLAMASITE_HTTPS="1",
        OLLAMASITE_DATA_DIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues" in done.stdout


# ------------------------------------------------------------------ CSRF, in one place
SESSION_ROUTES = [
    route
    for route, rule in ROUTES.items()
    if rule.access is not Access.PUBLIC
    and not rule.open_methods
    and dialect_of(f"/{route}") is not Dialect.PAGE
]


@pytest.mark.django_db(transaction=True)
async def test_session_alone_opens_no_api_route_with_any_method(alice: User) -> None:
    session = await sync_to_async(cookies_of)(alice)
    for route in SESSION_ROUTES:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            answer = await AsgiClient({"cookie": session}).request(method, path_of(route))
            assert answer.status == 401, (method, route)


@pytest.mark.django_db(transaction=True)
async def test_session_with_the_token_of_another_cookie_opens_nothing(alice: User) -> None:
    session = await sync_to_async(cookies_of)(alice)
    for token in ("b" * 32, "", "x", CSRF + "a"):
        headers = {"cookie": session, "x-csrftoken": token}
        assert (await AsgiClient(headers).get("/api/tags")).status == 401
    good = {"cookie": session, "x-csrftoken": CSRF}
    assert (await AsgiClient(good).get("/api/tags")).status == 200


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/signin", "/signout", "/client-keys", "/client-keys/1/remove"])
def test_form_without_its_token_is_refused(alice: User, path: str) -> None:
    client = Client(enforce_csrf_checks=True, headers=PAGE)
    client.force_login(alice)
    assert client.post(path, {}).status_code == 403


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("route", WEBSOCKETS)
@pytest.mark.parametrize("origin", [b"http://evil.example", b"null", b"http://localhost:8000", b""])
async def test_session_opens_no_socket_from_another_site(
    alice: User, route: str, origin: bytes
) -> None:
    cookie = (await sync_to_async(cookies_of)(alice)).encode()
    said = [(b"cookie", cookie), *([(b"origin", origin)] if origin else [])]
    socket = Socket(*said, path=f"/{route}")
    await socket.wire.connect(timeout=5)
    assert await socket.close_code() == CLOSE_FORBIDDEN
    await socket.wire.disconnect()

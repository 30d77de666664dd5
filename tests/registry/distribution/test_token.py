"""Registry tokens: who gets one, what it is for, where it counts, and what a 401 tells before."""

import base64
import re
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from models_app import principal_cache
from models_app.client_keys import add_client_key
from models_app.errors import InvalidToken
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import ApiKey, ClientKey, UsedSignature, User
from models_app.permissions import CredentialKind, Principal, Scope
from models_app.policy import ROUTES, Access
from models_app.principals import principal_of_user
from models_app.registry_tokens import issue_token, principal_of_token
from ollamasite.challenges import PLAIN, Asked, challenge, is_own_address
from tests.conftest import PASSWORD
from tests.fakes.http import Answer, AsgiClient
from tests.fakes.ollama_key import OllamaKey

HOST = "localhost:11434"
REALM = f"http://{HOST}/v2/token"
MINE = "repository:alice/mine:pull,push,delete"
ASK_MINE = f"/v2/token?service={HOST}&scope={MINE}"
CSRF_TOKEN = "a" * 32
ALL_OF_MINE = {f"repository:alice/mine:{action}" for action in ("pull", "push", "delete")}


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def get(path: str, headers: Mapping[str, str] | None = None) -> Answer:
    return await AsgiClient(headers).get(path)


async def token_for(headers: Mapping[str, str], path: str = ASK_MINE) -> str:
    answer = await get(path, headers)
    assert answer.status == 200, answer.text
    return str(answer.json()["token"])


@pytest.fixture
def secret(transactional_db: None, alice: User) -> str:
    return create_key(alice, "laptop")[1]


@pytest.fixture
def ollama_key(transactional_db: None, alice: User) -> OllamaKey:
    """A key that is registered as Alice's."""
    made = OllamaKey()
    add_client_key(alice, made.line)
    return made


# ---------------------------------------------------------------- fetching one


async def test_answer_has_what_every_client_reads(secret: str) -> None:
    before = int(time.time())
    answer = await get(ASK_MINE, bearer(secret))
    told = answer.json()
    issued = time.strptime(told["issued_at"], "%Y-%m-%dT%H:%M:%SZ")

    assert told["token"] == told["access_token"]
    assert re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", told["token"])
    assert told["expires_in"] == 3600
    assert before - 2 <= time.mktime(issued) - time.timezone <= time.time() + 1
    assert answer.headers["cache-control"] == "no-store"


def ways(secret: str) -> dict[str, dict[str, str]]:
    basic = base64.b64encode(f"alice:{secret}".encode()).decode()
    return {
        "bearer": bearer(secret),
        "x-api-key": {"x-api-key": secret},
        "basic": {"authorization": f"Basic {basic}"},
    }


@pytest.mark.parametrize("way", ["bearer", "x-api-key", "basic"])
async def test_key_gets_a_token_in_every_way(secret: str, alice: User, way: str) -> None:
    principal = await _principal(await token_for(ways(secret)[way]))

    assert principal.user_id == alice.pk
    assert principal.kind is CredentialKind.REGISTRY_TOKEN
    assert set(principal.granted or ()) == ALL_OF_MINE


async def _principal(token: str) -> Principal:
    return await sync_to_async(principal_of_token)(token)


async def test_session_with_its_csrf_token_gets_one(transactional_db: None, alice: User) -> None:
    client = Client()
    await client.aforce_login(alice)
    session = client.cookies["ollamasite_session"].value
    cookie = {"cookie": f"ollamasite_session={session}; csrftoken={CSRF_TOKEN}"}

    assert (await get(ASK_MINE, cookie)).status == 401
    token = await token_for({**cookie, "x-csrftoken": CSRF_TOKEN})
    assert (await _principal(token)).user_id == alice.pk


async def test_ollama_gets_one_by_the_url_that_it_has_signed(
    ollama_key: OllamaKey, alice: User
) -> None:
    url, authorization = ollama_key.token_request(REALM, "repository:alice/mine:pull,push")
    path = url.removeprefix(f"http://{HOST}")
    principal = await _principal(await token_for({"authorization": authorization}, path))

    assert principal.user_id == alice.pk
    granted = {"repository:alice/mine:pull", "repository:alice/mine:push"}
    assert set(principal.granted or ()) == granted


async def test_signed_token_request_is_accepted_once(ollama_key: OllamaKey) -> None:
    url, authorization = ollama_key.token_request(REALM, "")
    path, headers = url.removeprefix(f"http://{HOST}"), {"authorization": authorization}

    assert [(await get(path, headers)).status for _ in range(2)] == [200, 401]
    url, authorization = ollama_key.token_request(REALM, "", nonce="other")
    path, headers = url.removeprefix(f"http://{HOST}"), {"authorization": authorization}
    assert (await get(path, headers)).status == 200
    assert await UsedSignature.objects.acount() == 2


@pytest.mark.parametrize(
    "realm",
    [
        "http://elsewhere:11434/v2/token",
        "https://localhost:11434/v2/token",
        "http://localhost/v2/token",
        "http://localhost:11434/v2/other",
    ],
)
async def test_url_that_is_signed_for_another_place_is_nobodys(
    ollama_key: OllamaKey, realm: str
) -> None:
    url, authorization = ollama_key.token_request(realm, "")
    answer = await get(f"/v2/token?{url.partition('?')[2]}", {"authorization": authorization})

    assert answer.status == 401


@pytest.mark.parametrize(
    "host", ["192.0.2.7:11434", "[2001:db8::7]:80", "evil.local", "evil.internal:80"]
)
async def test_signature_for_another_registry_is_not_good_here_by_its_host(
    ollama_key: OllamaKey, host: str
) -> None:
    url, authorization = ollama_key.token_request(f"http://{host}/v2/token", "")
    headers = {"authorization": authorization, "host": host}
    answer = await get(url.removeprefix(f"http://{host}"), headers)

    assert answer.status == 401
    assert "OLLAMASITE_ALLOWED_HOSTS" in answer.text


@pytest.mark.parametrize(
    ("host", "reached_at", "is_own"),
    [
        ("localhost:11434", "", True),
        ("127.0.0.1:11434", "172.17.0.2", True),
        ("[::1]", "::1", True),
        ("Models.Example:443", "10.0.0.1", True),
        ("192.0.2.7:80", "192.0.2.7", True),
        ("192.0.2.7:80", "192.0.2.8", False),
        ("evil.example", "evil.example", False),
        ("localhost:1@evil.example", "127.0.0.1", False),
        ("localhost,evil.example", "127.0.0.1", False),
        ("", "", False),
    ],
)
def test_own_address_is_one_that_is_named_or_was_reached(
    settings: Settings, host: str, reached_at: str, is_own: bool
) -> None:
    settings.SITE_HOSTS = ["models.example"]
    assert is_own_address(host, reached_at) is is_own


async def test_signature_of_a_request_is_none_for_a_token(ollama_key: OllamaKey) -> None:
    path, authorization = ollama_key.request("GET", "/v2/token")

    assert (await get(path, {"authorization": authorization})).status == 401


async def test_behind_a_proxy_the_clients_scheme_is_signed(
    ollama_key: OllamaKey, settings: Settings
) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1/32"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    url, authorization = ollama_key.token_request(f"https://{HOST}/v2/token", "")
    headers = {"authorization": authorization, "x-forwarded-proto": "https"}

    assert (await get(f"/v2/token?{url.partition('?')[2]}", headers)).status == 200


@pytest.mark.parametrize("text", ["Bearer nonsense", "Bearer ", "Basic x", "x:y", "Bearer a.b.c"])
async def test_who_is_nobody_gets_none(transactional_db: None, text: str) -> None:
    answer = await get(ASK_MINE, {"authorization": text})

    assert answer.status == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert answer.headers["www-authenticate"] == PLAIN


async def test_password_gets_none(transactional_db: None, alice: User) -> None:
    basic = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()

    assert (await get(ASK_MINE, {"authorization": f"Basic {basic}"})).status == 401


async def test_token_does_not_get_another(secret: str) -> None:
    token = await token_for(bearer(secret))

    assert (await get(ASK_MINE, bearer(token))).status == 401


async def test_other_methods_are_refused(secret: str) -> None:
    answer = await AsgiClient(bearer(secret)).post("/v2/token", {})

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"


# ---------------------------------------------------------------- what it is for


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("scopes", "actions"),
    [
        ((), {"pull", "push", "delete"}),
        ((Scope.READ,), {"pull"}),
        ((Scope.WRITE,), {"push", "delete"}),
        ((Scope.READ, Scope.WRITE), {"pull", "push", "delete"}),
        ((Scope.USE,), set()),
    ],
)
def test_scopes_of_the_key_limit_what_is_granted(
    alice: User, scopes: tuple[Scope, ...], actions: set[str]
) -> None:
    key, _ = create_key(alice, "some", KeyRules(scopes=scopes))
    principal = _with_key(alice, key, *scopes)
    issued = issue_token(principal, [MINE])

    assert set(issued.granted) == {f"repository:alice/mine:{action}" for action in actions}
    assert principal_of_token(issued.text).scopes == set(scopes)


def _with_key(user: User, key: ApiKey, *scopes: Scope) -> Principal:
    return Principal(
        user_id=user.pk,
        username=user.username,
        is_admin=False,
        kind=CredentialKind.KEY,
        key_id=key.pk,
        scopes=frozenset(scopes),
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ([], []),
        ([""], []),
        (["repository:a/b:pull"], ["repository:a/b:pull"]),
        (
            ["repository:A/b_c..d:*"],
            [f"repository:A/b_c..d:{a}" for a in ("pull", "push", "delete")],
        ),
        (["repository:a/b:push,pull,pull"], ["repository:a/b:pull", "repository:a/b:push"]),
        (
            ["repository:a/b:pull repository:c/d:pull", "repository:a/b:pull"],
            ["repository:a/b:pull", "repository:c/d:pull"],
        ),
        (["registry:catalog:*"], ["registry:catalog:*"]),
        (["registry:catalog:pull", "registry:other:*", "repository:a/b:admin"], []),
        (["repository::pull", "repository:/a:pull", "repository:a b:pull", "nonsense", ":::"], []),
        (['repository:a"b:pull', "repository:a:b:pull", "repository:\u00e9/b:pull"], []),
    ],
)
def test_scopes_are_read_as_a_challenge_names_them(
    alice: User, asked: list[str], granted: list[str]
) -> None:
    assert list(issue_token(signed_in(alice), asked).granted) == granted


async def test_too_many_scopes_are_refused(secret: str) -> None:
    scopes = "&scope=".join(f"repository:a/b{n}:pull" for n in range(65))
    answer = await get(f"/v2/token?scope={scopes}", bearer(secret))

    assert answer.status == 400
    assert answer.json()["errors"][0]["message"] == "a token is for at most 64 scopes"


# ---------------------------------------------------------------- where and how long it counts


@pytest.mark.parametrize("path", ["/api/tags", "/v1/models", "/home", "/api/blobs/sha256:x"])
async def test_outside_of_the_registry_a_token_is_nobody(secret: str, path: str) -> None:
    token = await token_for(bearer(secret))

    assert (await get(path, bearer(token))).status == 401


async def test_token_is_a_credential_of_the_registry(secret: str) -> None:
    token = await token_for(bearer(secret))
    answer = await get("/v2/alice/none/tags/list", bearer(token))

    # Another repository than it is for.
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="{REALM}",service="{HOST}",scope="repository:alice/none:pull",'
        'error="insufficient_scope"'
    )
    assert (await get("/v2/alice/mine/tags/list", bearer(token))).status == 404


@pytest.fixture
def reading_secret(transactional_db: None, alice: User) -> str:
    return create_key(alice, "reads", KeyRules(scopes=(Scope.READ,)))[1]


async def test_token_of_a_key_that_only_reads_does_not_write(reading_secret: str) -> None:
    client = AsgiClient(bearer(await token_for(bearer(reading_secret))))

    assert (await client.request("DELETE", "/v2/alice/mine/manifests/x")).status == 403


@pytest.mark.django_db
def test_token_counts_for_an_hour(alice: User) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        text = issue_token(signed_in(alice), []).text
        clock.shift(timedelta(minutes=59))
        assert principal_of_token(text).user_id == alice.pk
        clock.shift(timedelta(minutes=1, seconds=1))
        with pytest.raises(InvalidToken):
            principal_of_token(text)


def _by_key(alice: User) -> str:
    return issue_token(_with_key(alice, create_key(alice, "x")[0]), []).text


def _by_client_key(alice: User) -> str:
    key = add_client_key(alice, OllamaKey().line)
    principal = Principal(
        user_id=alice.pk,
        username="alice",
        is_admin=False,
        kind=CredentialKind.SIGNATURE,
        client_key_id=key.pk,
    )
    return issue_token(principal, []).text


def signed_in(user: User) -> Principal:
    """Return somebody as they ask by a session, which is there."""
    browser = Client()
    browser.force_login(user)
    session_key = browser.session.session_key
    assert session_key is not None
    return principal_of_user(user, CredentialKind.SESSION, session_key=session_key)


def _by_session(alice: User) -> str:
    return issue_token(signed_in(alice), []).text


def _revoke(alice: User) -> None:
    revoke_key(alice.api_keys.get())


def _expire(alice: User) -> None:
    alice.api_keys.update(expires_at=timezone.now())
    principal_cache.forget_all()


def _remove(alice: User) -> None:
    ClientKey.objects.all().delete()


def _sign_out(alice: User) -> None:
    Session.objects.all().delete()


def _outlast(alice: User) -> None:
    Session.objects.update(expire_date=timezone.now())


def _change_password(alice: User) -> None:
    alice.set_password("another long password")
    alice.save()


def _close_account(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    principal_cache.forget_all()


def _delete_account(alice: User) -> None:
    alice.delete()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fetch", "end"),
    [
        (_by_key, _revoke),
        (_by_key, _expire),
        (_by_client_key, _remove),
        (_by_session, _change_password),
        (_by_session, _sign_out),
        (_by_session, _outlast),
        *((fetch, _close_account) for fetch in (_by_key, _by_client_key, _by_session)),
        *((fetch, _delete_account) for fetch in (_by_key, _by_client_key, _by_session)),
    ],
)
def test_token_ends_with_what_it_was_fetched_by(alice: User, fetch: Any, end: Any) -> None:
    text = fetch(alice)
    assert principal_of_token(text).username == "alice"
    end(alice)

    with pytest.raises(InvalidToken):
        principal_of_token(text)


@pytest.mark.django_db
def test_token_of_a_session_tells_nobody_the_session(alice: User) -> None:
    principal = signed_in(alice)
    assert principal.session is not None
    text = issue_token(principal, []).text
    encoded = text.partition(".")[0]
    body = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))

    assert b'"s"' in body
    assert principal.session[0].encode() not in body
    # What is open by such a token is watched as the session is.
    assert principal_of_token(text).session == principal.session


@pytest.mark.django_db
def test_altered_token_is_nobodys(alice: User, bob: User) -> None:
    text, other = (issue_token(signed_in(user), []).text for user in (alice, bob))
    body, _, signature = text.partition(".")
    for altered in (text[:-1], f"{other.partition('.')[0]}.{signature}", f".{text}", body, ""):
        with pytest.raises(InvalidToken):
            principal_of_token(altered)


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader_of_tokens(text: str) -> None:
    with pytest.raises(InvalidToken):
        principal_of_token(text)


# ---------------------------------------------------------------- what a 401 tells

DIGEST = "sha256:" + "0" * 64
REPOSITORY = "repository:alice/mine"
SCOPES = [
    ("GET", "/v2/", ""),
    ("GET", "/v2/_catalog?n=5", "registry:catalog:*"),
    ("GET", "/v2/alice/mine/manifests/latest", f"{REPOSITORY}:pull"),
    ("HEAD", f"/v2/alice/mine/manifests/{DIGEST}", f"{REPOSITORY}:pull"),
    ("PUT", "/v2/alice/mine/manifests/latest", f"{REPOSITORY}:pull,push"),
    ("DELETE", "/v2/alice/mine/manifests/latest", f"{REPOSITORY}:delete"),
    ("GET", "/v2/alice/mine/tags/list", f"{REPOSITORY}:pull"),
    ("GET", f"/v2/alice/mine/referrers/{DIGEST}", f"{REPOSITORY}:pull"),
    ("GET", f"/v2/alice/mine/blobs/{DIGEST}", f"{REPOSITORY}:pull"),
    ("HEAD", f"/v2/alice/mine/blobs/{DIGEST}", f"{REPOSITORY}:pull"),
    ("DELETE", f"/v2/alice/mine/blobs/{DIGEST}", f"{REPOSITORY}:delete"),
    ("POST", "/v2/alice/mine/blobs/uploads/", f"{REPOSITORY}:pull,push"),
    ("PATCH", f"/v2/alice/mine/blobs/uploads/{'0' * 32}", f"{REPOSITORY}:pull,push"),
    ("PUT", f"/v2/alice/mine/blobs/uploads/{'0' * 32}", f"{REPOSITORY}:pull,push"),
    (
        "POST",
        f"/v2/alice/mine/blobs/uploads/?mount={DIGEST}&from=library/base",
        f"{REPOSITORY}:pull,push repository:library/base:pull",
    ),
]


@pytest.mark.parametrize(("method", "path", "scope"), SCOPES)
async def test_stranger_is_told_where_to_get_which_token(
    transactional_db: None, method: str, path: str, scope: str
) -> None:
    answer = await AsgiClient().request(method, path)
    told = f'Bearer realm="{REALM}",service="{HOST}"'

    assert answer.status == 401
    assert answer.headers["www-authenticate"] == told + (f',scope="{scope}"' if scope else "")
    if method != "HEAD":
        error = answer.json()["errors"][0]
        assert (error["code"], error["message"]) == ("UNAUTHORIZED", "unauthorized")


@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/alice/mine/tags/list", f"/v2/alice/mine/blobs/{DIGEST}"]
)
async def test_bad_token_is_called_so(secret: str, path: str) -> None:
    for text in ("nonsense", f"{secret[:-1]}x", "a.b.c"):
        answer = await get(path, bearer(text))

        assert answer.status == 401
        assert answer.headers["www-authenticate"].endswith(',error="invalid_token"')


async def test_realm_has_the_scheme_that_a_trusted_proxy_tells(
    transactional_db: None, settings: Settings
) -> None:
    paths = ("/v2/", f"/v2/alice/mine/blobs/{DIGEST}")
    proxy = {"x-forwarded-proto": "https"}
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    untrusted = [(await get(path, proxy)).headers["www-authenticate"] for path in paths]
    settings.TRUSTED_PROXIES = ["127.0.0.1/32"]
    trusted = [(await get(path, proxy)).headers["www-authenticate"] for path in paths]

    assert [text.startswith(f'Bearer realm="{REALM}"') for text in untrusted] == [True, True]
    assert [text.startswith('Bearer realm="https://') for text in trusted] == [True, True]


@given(
    host=st.text(max_size=40) | st.just(HOST),
    path=st.text(max_size=60) | st.builds("/v2/{}/tags/list".format, st.text(max_size=60)),
    query=st.text(max_size=60) | st.builds("mount=x&from={}".format, st.text(max_size=20)),
)
def test_nothing_that_is_sent_gets_out_of_the_quotes(host: str, path: str, query: str) -> None:
    told = challenge(Asked("http", host, "POST", path, query), "invalid_token")

    assert re.fullmatch(r'Bearer (?:[a-z]+="[A-Za-z0-9 ._:/,*\[\]-]+",?)+', told)


async def test_signed_change_of_the_registry_is_accepted_once(ollama_key: OllamaKey) -> None:
    """Also where the request goes past Django, as uploads do."""
    for method, path in (
        ("POST", "/v2/alice/mine/blobs/uploads/"),
        ("DELETE", "/v2/alice/mine/manifests/latest"),
    ):
        asked, authorization = ollama_key.request(method, path)
        client = AsgiClient({"authorization": authorization})
        first, second = [await client.request(method, asked) for _ in range(2)]

        assert first.status in {202, 404}
        assert second.status == 401
        assert second.headers["www-authenticate"].startswith(f'Bearer realm="{REALM}"')


REGISTRY_ROUTES = [route for route in ROUTES if route.startswith("v2/")]


@pytest.mark.parametrize("route", REGISTRY_ROUTES)
def test_every_route_of_the_registry_asks_who_one_is(route: str) -> None:
    assert ROUTES[route].access is Access.SIGNED_IN


PARTS = {
    "<path:name>": "alice/none",
    "<str:reference>": "latest",
    "<str:digest>": DIGEST,
    "<str:session>": "0" * 32,
}


@pytest.mark.parametrize("route", REGISTRY_ROUTES)
async def test_every_credential_gets_the_same_answer(
    secret: str, ollama_key: OllamaKey, route: str
) -> None:
    path = f"/{route}"
    for part, value in PARTS.items():
        path = path.replace(part, value)
    asked, authorization = ollama_key.request("GET", path)
    if route == "v2/token":
        url, authorization = ollama_key.token_request(REALM, "")
        asked = url.removeprefix(f"http://{HOST}")
    statuses = {(await get(path, headers)).status for headers in ways(secret).values()}
    statuses.add((await get(asked, {"authorization": authorization})).status)
    if route != "v2/token":
        scopes = "repository:alice/none:pull registry:catalog:*"
        token = await token_for(bearer(secret), f"/v2/token?scope={scopes}")
        statuses.add((await get(path, bearer(token))).status)

    assert len(statuses) == 1
    assert statuses <= {200, 404, 405}

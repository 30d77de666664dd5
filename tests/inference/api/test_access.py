"""Every way to say who one is opens the same doors, and nobody gets past them without one.

The rows come from the policy table, so a new route is in here at once.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from models_app import principal_cache
from models_app.client_keys import add_client_key
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import User
from models_app.permissions import Scope
from models_app.policy import ROUTES, Access
from models_app.principals import holder_of_key
from models_app.registry_tokens import issue_token
from tests.conftest import PASSWORD
from tests.fakes.engine import FakeNode
from tests.fakes.http import Answer, AsgiClient
from tests.fakes.ollama_key import OllamaKey
from tests.inference.conftest import MODEL

SAID = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
POSTED: dict[str, dict[str, Any]] = {
    "api/show": {"model": MODEL},
    "api/create": {"model": "made", "from": MODEL, "stream": False},
    # Nobody's request leaves the machine: that registry is not on the list.
    "api/pull": {"model": "elsewhere.example/a/b"},
    "api/push": {"model": "elsewhere.example/a/b"},
    "api/me/delete": {"password": "wrong"},
    "api/jobs/<str:job_id>/cancel": {},
    "api/jobs/<str:job_id>/retry": {},
    "api/queue/<str:request_id>/cancel": {},
    "api/copy": {"source": MODEL, "destination": "copied"},
    "api/delete": {"model": "nothing"},
    "api/blobs/<str:digest>": {"not": "what the digest says"},
    "api/nodes/join": {},
    "api/generate": {"model": MODEL},
    "api/chat": {"model": MODEL},
    "api/embed": {"model": MODEL},
    "api/embeddings": {"model": MODEL},
    "v1/chat/completions": SAID,
    "v1/messages": {**SAID, "max_tokens": 3},
    "v1/messages/count_tokens": SAID,
    "v1/completions": {"model": MODEL, "prompt": "x"},
    "v1/responses": {"model": MODEL, "input": "x"},
    "v1/responses/input_tokens": {"model": MODEL, "input": "x"},
    "v1/responses/<str:response_id>/cancel": {},
    "v1/embeddings": {"model": MODEL, "input": "x"},
    "api/keys/<str:prefix>/rotate": {},
    "api/users/<str:name>/approve": {},
    "api/users/<str:name>/activate": {},
    "api/users/<str:name>/deactivate": {},
    "api/users/<str:name>/sessions/end": {},
    "api/users/<str:name>/password-link": {},
}
# Where it is neither GET nor POST.
METHODS = {
    "api/delete": "DELETE",
    "api/teams/<str:name>/members/<str:user>": "DELETE",
    "api/invites/<str:invite_id>": "DELETE",
}
CLOSED = [
    route
    for route, rule in ROUTES.items()
    if rule.access is not Access.PUBLIC and route.startswith(("api/", "v1/"))
]
# What those who may do it are told, where that is not 200 for this request.
STATUSES = {
    "api/audit": 403,
    "api/me/delete": 403,
    "api/users": 403,
    "api/users/<str:name>": 403,
    "api/users/<str:name>/approve": 403,
    "api/users/<str:name>/password-link": 403,
    "api/users/<str:name>/activate": 404,
    "api/users/<str:name>/deactivate": 404,
    "api/users/<str:name>/sessions/end": 404,
    "api/teams/<str:name>": 404,
    "api/teams/<str:name>/members": 404,
    "api/teams/<str:name>/members/<str:user>": 404,
    "api/teams/<str:name>/service-accounts": 404,
    "api/invites/<str:invite_id>": 404,
    "api/limit-rules": 403,
    "api/limit-rules/<int:rule_id>": 403,
    "api/keys/<str:prefix>": 404,
    "api/keys/<str:prefix>/rotate": 404,
    "api/access": 400,  # of no model
    "api/delete": 404,
    "api/pull": 403,
    "api/push": 403,
    "api/jobs/<str:job_id>": 404,
    "api/queue/<str:request_id>/cancel": 404,
    "api/jobs/<str:job_id>/cancel": 404,
    "api/jobs/<str:job_id>/retry": 404,
    "api/jobs/<str:job_id>/events": 404,
    "api/blobs/<str:digest>": 400,
    "api/nodes/join": 403,
    "api/nodes/blobs/<str:digest>": 403,
    "v1/responses/<str:response_id>": 404,
    "v1/responses/<str:response_id>/input_items": 404,
    "v1/responses/<str:response_id>/cancel": 404,
}
PARTS = {
    "<path:name>": MODEL,
    "<str:digest>": f"sha256:{'0' * 64}",
    "<str:job_id>": "0" * 32,
    "<str:request_id>": "0" * 32,
    "<int:rule_id>": "1",
    "<str:name>": "nobody",
    "<str:user>": "nobody",
    "<str:prefix>": "0" * 12,
    "<str:invite_id>": "1",
    "<str:response_id>": f"resp_{'0' * 32}",
}
CSRF_TOKEN = "a" * 32

Headers = Mapping[str, str]


def request_of(route: str) -> tuple[str, str]:
    """Return method and path of a route's example."""
    path = f"/{route}"
    for part, value in PARTS.items():
        path = path.replace(part, value)
    return METHODS.get(route, "POST" if route in POSTED else "GET"), path


async def call(route: str, headers: Headers, query: str = "") -> Any:
    method, path = request_of(route)
    return await AsgiClient(headers).request(method, path + query, data=POSTED.get(route))


async def call_signed(route: str, signer: OllamaKey) -> Any:
    """Send a request as an `ollama` CLI with this key does."""
    path, authorization = signer.request(*request_of(route))
    return await call(route, {"authorization": authorization}, path[path.index("?") :])


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


def cookies_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return f"ollamasite_session={client.cookies['ollamasite_session'].value}"


@pytest.fixture
def key(transactional_db: None, alice: User) -> str:
    return create_key(alice, "laptop")[1]


@pytest.fixture
def session(transactional_db: None, alice: User) -> str:
    return cookies_of(alice)


@pytest.fixture
def signer(transactional_db: None, alice: User) -> OllamaKey:
    """A key that is registered as Alice's."""
    made = OllamaKey()
    add_client_key(alice, made.line)
    return made


@pytest.fixture
def registry_token(transactional_db: None, alice: User) -> str:
    holder = holder_of_key(create_key(alice, "of the token")[0].pk)
    assert holder is not None
    return issue_token(holder.principal, ["repository:alice/a:*", "registry:catalog:*"]).text


@pytest.fixture
def bad_keys(transactional_db: None, alice: User, bob: User) -> dict[str, str]:
    revoked, revoked_secret = create_key(alice, "revoked")
    revoke_key(revoked)
    past = timezone.now() - timedelta(seconds=1)
    bob_key = create_key(bob, "of one who left")[1]
    User.objects.filter(pk=bob.pk).update(is_active=False)
    principal_cache.forget_all()
    good = create_key(alice, "good")[1]
    return {
        "revoked": revoked_secret,
        "expired": create_key(alice, "expired", KeyRules(expires_at=past))[1],
        "inactive": bob_key,
        "wrong": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "nonsense": "sk-nonsense",
        "empty": "",
    }


def bearer(secret: str) -> Headers:
    return {"authorization": f"Bearer {secret}"}


# What is asked for changes nothing that another route tells of: one site answers on every route.
GOOD_WAYS: dict[str, Callable[[str], Headers]] = {
    "bearer": bearer,
    "bearer in lower case": lambda key: {"authorization": f"bearer {key}"},
    "x-api-key": lambda key: {"x-api-key": key},
    "basic": lambda key: {"authorization": basic(key)},
}


async def test_every_good_way_gets_the_same_answer(
    node: FakeNode, model: str, key: str, session: str
) -> None:
    ways = [make(key) for make in GOOD_WAYS.values()]
    ways.append({"cookie": f"{session}; csrftoken={CSRF_TOKEN}", "x-csrftoken": CSRF_TOKEN})
    for route in CLOSED:
        answers = [await call(route, headers) for headers in ways]

        assert {answer.status for answer in answers} == {STATUSES.get(route, 200)}, route
        assert len({answer.content_type for answer in answers}) == 1, route


async def test_signature_opens_what_a_key_opens(
    node: FakeNode, model: str, signer: OllamaKey
) -> None:
    statuses = {route: (await call_signed(route, signer)).status for route in CLOSED}

    assert statuses == {route: STATUSES.get(route, 200) for route in CLOSED}


async def test_signed_request_may_be_sent_again_where_it_changes_nothing(
    node: FakeNode, model: str, signer: OllamaKey
) -> None:
    for route in CLOSED:
        method, _ = request_of(route)
        path, authorization = signer.request(*request_of(route))
        headers, query = {"authorization": authorization}, path[path.index("?") :]
        statuses = [(await call(route, headers, query)).status for _ in range(2)]

        again = 401 if ROUTES[route].is_change(method) else statuses[0]
        assert statuses[1] == again, route


async def test_signature_of_a_stranger_gets_the_answer_of_a_wrong_key(
    node: FakeNode, model: str
) -> None:
    for route in CLOSED:
        none, answer = await call(route, bearer("x")), await call_signed(route, OllamaKey())

        assert (answer.status, _without_id(answer)) == (none.status, _without_id(none)), route


async def test_registry_token_gets_the_answer_of_a_wrong_key(
    node: FakeNode, model: str, registry_token: str
) -> None:
    for route in CLOSED:
        none, answer = await call(route, bearer("x")), await call(route, bearer(registry_token))

        assert (answer.status, _without_id(answer)) == (none.status, _without_id(none)), route


async def test_no_credential_is_a_401_in_the_dialects_shape(node: FakeNode, model: str) -> None:
    for route in CLOSED:
        answer = await call(route, {})

        assert answer.status == 401, route
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.content_type.startswith("application/json")
        assert answer.json() == unauthorized(route, answer), route


async def test_wrong_key_is_told_as_such_where_people_read_it(node: FakeNode, model: str) -> None:
    for route in CLOSED:
        none, wrong = await call(route, {}), await call(route, bearer("x"))
        is_native = route.startswith("api/")

        assert (_without_id(none) == _without_id(wrong)) is is_native, route
        assert is_native or any(word in wrong.text for word in ("Incorrect", "invalid x")), route


def unauthorized(route: str, answer: Answer) -> dict[str, Any]:
    """Return how a route's dialect says that there is no key."""
    if route.startswith("api/"):
        return {"error": "unauthorized"}
    if route.startswith("v1/messages"):
        return {
            "type": "error",
            "error": {"type": "authentication_error", "message": "x-api-key header is required"},
            "request_id": answer.headers["request-id"],
        }
    return {
        "error": {
            "message": "You didn't provide an API key: send it as `Authorization: Bearer KEY`.",
            "type": "authentication_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }


def _without_id(answer: Answer) -> str:
    return answer.text.replace(answer.headers["x-request-id"], "")


@pytest.mark.parametrize("way", GOOD_WAYS)
async def test_every_bad_key_gets_the_same_answer(
    node: FakeNode, model: str, bad_keys: dict[str, str], way: str
) -> None:
    for route in CLOSED:
        none = await call(route, bearer("x"))
        for name, secret in bad_keys.items():
            answer = await call(route, GOOD_WAYS[way](secret))

            told = (answer.status, _without_id(answer))
            assert told == (none.status, _without_id(none)), (route, name)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"x-csrftoken": CSRF_TOKEN},
        {"cookie": "; csrftoken=" + "b" * 32, "x-csrftoken": CSRF_TOKEN},
    ],
    ids=["cookie alone", "token without its cookie", "token of another cookie"],
)
async def test_cookie_without_its_token_is_nobody(
    node: FakeNode, model: str, session: str, extra: dict[str, str]
) -> None:
    cookie = session + extra.get("cookie", "")
    for route in CLOSED:
        answer = await call(route, {**extra, "cookie": cookie})

        assert answer.status == 401, route


async def test_wrong_key_beside_a_good_session_is_nobody(model: str, session: str) -> None:
    headers = {
        "cookie": f"{session}; csrftoken={CSRF_TOKEN}",
        "x-csrftoken": CSRF_TOKEN,
        "authorization": "Bearer nonsense",
    }

    assert (await call("api/tags", headers)).status == 401


async def test_session_of_one_who_left_is_nobody(model: str, alice: User, session: str) -> None:
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
    principal_cache.forget_all()
    headers = {"cookie": f"{session}; csrftoken={CSRF_TOKEN}", "x-csrftoken": CSRF_TOKEN}

    assert (await call("api/tags", headers)).status == 401


@pytest.fixture
def reading_key(transactional_db: None, alice: User) -> str:
    return create_key(alice, "reads", KeyRules(scopes=(Scope.READ,)))[1]


async def test_scope_of_a_key_limits_it(node: FakeNode, model: str, reading_key: str) -> None:
    for route in CLOSED:
        answer = await call(route, {"x-api-key": reading_key})

        is_enough = ROUTES[route].scope in {Scope.READ, None}
        assert answer.status == (STATUSES.get(route, 200) if is_enough else 403), route


@pytest.mark.parametrize("path", ["/api/nope", "/v1/nope", "/nope", "/api/tags/"])
async def test_stranger_does_not_learn_which_routes_there_are(
    stranger: AsgiClient, path: str
) -> None:
    assert (await stranger.get(path)).status == 401


@pytest.mark.parametrize("path", ["/", "/healthz", "/signin", "/static/ollamasite/site.css"])
async def test_what_is_public_needs_no_credential(stranger: AsgiClient, path: str) -> None:
    assert (await stranger.get(path)).status == 200


async def test_browser_of_a_stranger_is_sent_to_sign_in(stranger: AsgiClient) -> None:
    answer = await stranger.get("/home", headers={"accept": "text/html"})

    assert (answer.status, answer.headers["location"]) == (302, "/signin?next=%2Fhome")


async def test_password_is_no_key(model: str, alice: User) -> None:
    assert (await call("api/tags", {"authorization": basic(PASSWORD)})).status == 401

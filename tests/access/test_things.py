"""Routes that name a thing × who asks: the answer is what the policy table demands.

What is expected is `models_app.demands.refusal` of the demand in the route's row. Each request is
sent for a thing that is there, so what is told of things that one may not know of is tried too.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async

from inference.fleet import engine_fleet
from models_app import policy
from models_app.demands import Demand, Thing, refusal
from tests.access import things
from tests.access.things import EVERYBODY, VERBS, Found, Make, People
from tests.credentials import CSRF_TOKEN, Way, key_headers
from tests.fakes.engine import FakeNode, running_node
from tests.fakes.http import Answer, AsgiClient

SAID = [{"role": "user", "content": "x"}]
CLOSED = {401, 403, 404}
# Method, route, body.
Asked = tuple[str, str, dict[str, Any]]

CASES: list[tuple[str, str, Make, dict[str, Any]]] = [
    ("GET", "api/teams/<str:name>", things.team, {}),
    ("PATCH", "api/teams/<str:name>", things.team, {"description": "x"}),
    ("DELETE", "api/teams/<str:name>", things.team, {}),
    ("GET", "api/teams/<str:name>/members", things.team, {}),
    ("PUT", "api/teams/<str:name>/members/<str:user>", things.team, {"role": "member"}),
    ("DELETE", "api/teams/<str:name>/members/<str:user>", things.member, {}),
    ("GET", "api/teams/<str:name>/service-accounts", things.team, {}),
    ("POST", "api/teams/<str:name>/service-accounts", things.team, {"name": "robot-{me}"}),
    ("POST", "api/invites", things.team, {"team": things.TEAM}),
    ("DELETE", "api/invites/<str:invite_id>", things.invite, {}),
    ("DELETE", "api/invites/<str:invite_id>", things.site_invite, {}),
    ("POST", "api/users/<str:name>/activate", things.service, {}),
    ("POST", "api/users/<str:name>/deactivate", things.service, {}),
    ("POST", "api/users/<str:name>/sessions/end", things.user, {}),
    *(
        case
        for make in (things.key, things.service_key)
        for case in (
            ("GET", "api/keys/<str:prefix>", make, {}),
            ("PATCH", "api/keys/<str:prefix>", make, {"name": "x"}),
            ("DELETE", "api/keys/<str:prefix>", make, {}),
            ("POST", "api/keys/<str:prefix>/rotate", make, {}),
        )
    ),
    *(
        case
        for make in (things.key, things.service_key)
        for case in (
            ("GET", "keys/<str:prefix>", make, {}),
            ("POST", "keys/<str:prefix>/rename", make, {"name": "x"}),
            ("POST", "keys/<str:prefix>/rotate", make, {"overlap": "0"}),
            ("POST", "keys/<str:prefix>/revoke", make, {}),
        )
    ),
    ("GET", "teams/<str:name>", things.team, {}),
    ("POST", "teams/<str:name>/description", things.team, {"description": "x"}),
    ("POST", "teams/<str:name>/delete", things.team, {"confirm": things.TEAM}),
    ("POST", "teams/<str:name>/invites", things.team, {"role": "member", "days": "7"}),
    ("POST", "teams/<str:name>/members/<str:user>", things.team, {"role": "member"}),
    ("POST", "teams/<str:name>/members/<str:user>/remove", things.member, {}),
    ("POST", "teams/<str:name>/service-accounts", things.team, {"name": "page-{me}"}),
    *(
        ("POST", f"teams/<str:name>/service-accounts/<str:user>/{act}", things.team_service, {})
        for act in ("activate", "deactivate")
    ),
    ("POST", "invites/<int:invite_id>/revoke", things.invite, {}),
    ("POST", "invites/<int:invite_id>/revoke", things.site_invite, {}),
    ("POST", "sessions/<int:session_id>/end", things.browser_session, {}),
    ("POST", "client-keys/<int:key_id>/remove", things.client_key, {}),
    *(
        ("POST", f"chat/<str:chat_id>/{act}", things.chat, {})
        for act in ("rename", "move", "pin", "delete", "system")
    ),
    ("POST", "chat/<str:chat_id>/head", things.chat_message, {"message": "{message}"}),
    *(
        ("GET", f"chat/<str:chat_id>{part}", things.chat, {})
        for part in ("", "/messages", "/export")
    ),
    ("GET", "chat/images/<str:image_id>", things.chat_image, {}),
    ("POST", "chat/folders/<str:folder_id>/rename", things.chat_folder, {}),
    ("POST", "chat/folders/<str:folder_id>/delete", things.chat_folder, {}),
    ("GET", "usage/requests/<str:request_id>", things.team_use, {}),
    ("GET", "usage/requests/<str:request_id>", things.own_use, {}),
    ("GET", "api/jobs/<str:job_id>", things.job, {}),
    ("POST", "api/jobs/<str:job_id>/cancel", things.job, {}),
    ("POST", "api/jobs/<str:job_id>/retry", things.job, {}),
    ("GET", "api/jobs/<str:job_id>/events", things.job, {}),
    ("GET", "jobs/<str:job_id>", things.job, {}),
    ("POST", "jobs/<str:job_id>/cancel", things.job, {}),
    ("POST", "jobs/<str:job_id>/retry", things.job, {}),
    ("POST", "jobs/<str:job_id>/dismiss", things.job, {}),
    ("GET", "v1/responses/<str:response_id>", things.response, {}),
    ("DELETE", "v1/responses/<str:response_id>", things.response, {}),
    ("GET", "v1/responses/<str:response_id>/input_items", things.response, {}),
    ("POST", "v1/responses/<str:response_id>/cancel", things.response, {}),
]
# `{model}` is the name of one.
MODEL_CASES: list[Asked] = [
    ("POST", "api/show", {"model": "{model}"}),
    ("POST", "api/copy", {"source": "{model}", "destination": "{me}/copied"}),
    ("DELETE", "api/delete", {"model": "{model}"}),
    ("GET", "api/access?model={model}", {}),
    ("PATCH", "api/access", {"model": "{model}"}),
    ("POST", "api/generate", {"model": "{model}", "prompt": "x"}),
    ("POST", "api/chat", {"model": "{model}", "messages": SAID}),
    ("POST", "api/embed", {"model": "{model}", "input": "x"}),
    ("POST", "api/embeddings", {"model": "{model}", "prompt": "x"}),
    ("GET", "v1/models/<path:name>", {}),
    ("DELETE", "v1/models/<path:name>", {}),
    ("POST", "v1/chat/completions", {"model": "{model}", "messages": SAID}),
    ("POST", "v1/completions", {"model": "{model}", "prompt": "x"}),
    ("POST", "v1/responses", {"model": "{model}", "input": "x"}),
    ("POST", "v1/responses/input_tokens", {"model": "{model}", "input": "x"}),
    ("POST", "v1/embeddings", {"model": "{model}", "input": "x"}),
    ("POST", "v1/messages", {"model": "{model}", "messages": SAID, "max_tokens": 3}),
    ("POST", "v1/messages/count_tokens", {"model": "{model}", "messages": SAID}),
    ("GET", "models/<path:name>", {}),
    ("GET", "models/<path:name>/text/<str:part>", {}),
    ("POST", "models/<path:name>/load", {}),
    ("POST", "models/<path:name>/unload", {}),
    ("POST", "models/<path:name>/pin", {}),
    ("GET", "models/<path:name>/copy", {}),
    ("POST", "models/<path:name>/copy", {}),
    ("GET", "models/<path:name>/delete", {}),
    ("POST", "models/<path:name>/delete", {}),
    ("GET", "models/<path:name>/access", {}),
    ("POST", "models/<path:name>/access", {}),
    ("GET", "v2/<path:name>/manifests/<str:reference>", {}),
    ("PUT", "v2/<path:name>/manifests/<str:reference>", {}),
    ("DELETE", "v2/<path:name>/manifests/<str:reference>", {}),
    ("GET", "v2/<path:name>/tags/list", {}),
    ("POST", "v2/<path:name>/blobs/uploads/", {}),
    ("HEAD", "v2/<path:name>/blobs/<str:digest>", {}),
    ("DELETE", "v2/<path:name>/blobs/<str:digest>", {}),
]
# A push leaves the machine, and which registries are there is asked first.
ELSEWHERE = {("POST", "api/push")}


# Of the engine's, not of the database's.
REQUEST_CASES = [
    ("POST", "queue/<str:request_id>/cancel"),
    ("POST", "api/queue/<str:request_id>/cancel"),
]


@pytest.fixture
async def node(settings: Any) -> AsyncIterator[FakeNode]:
    """An engine that answers at once."""
    async with running_node() as running:
        settings.ENGINE_SOCKET = running.socket_path
        yield running
        engine_fleet(running.socket_path).close()


@pytest.fixture
def people(transactional_db: None, tiny_gguf: Path) -> People:
    return things.gather(tiny_gguf)


def path_of(route: str, parts: dict[str, Any]) -> str:
    path = f"/{route}"
    for name, value in parts.items():
        for kind in ("str", "int", "path"):
            path = path.replace(f"<{kind}:{name}>", str(value))
    return path


def headers_of(people: People, name: str, route: str) -> dict[str, str]:
    if not policy.rule_of(route).is_for_sessions:
        return key_headers(Way.BEARER, people.secrets[name])
    cookie = f"ollamasite_session={people.session(name)}; csrftoken={CSRF_TOKEN}"
    form = "application/x-www-form-urlencoded"
    return {"cookie": cookie, "x-csrftoken": CSRF_TOKEN, "content-type": form}


async def ask(people: People, name: str, asked: Asked, parts: dict[str, Any]) -> Answer:
    method, route, body = asked
    # What only sessions reach are pages, whose forms are sent.
    is_form = policy.rule_of(route.partition("?")[0]).is_for_sessions
    text = urlencode(body, safe="{}") if is_form else json.dumps(body)
    for part, value in {"me": name, "model": parts.get("name"), **parts}.items():
        text = text.replace(f"{{{part}}}", str(value))
    path = path_of(route, parts).replace("{model}", str(parts.get("name")))
    headers = await sync_to_async(headers_of)(people, name, route.partition("?")[0])
    sent = text.encode() if method not in {"GET", "HEAD"} else b""
    return await AsgiClient(headers).request(method, path, body=sent)


async def tell_wrong(people: People, name: str, asked: Asked, found: Found) -> str:
    """Return what is not as the table has it, if anything."""
    method, route, _ = asked
    demand = policy.rule_of(route.partition("?")[0]).demand(method)
    assert demand is not Demand.NOTHING, asked
    principal = await sync_to_async(people.principal)(name)
    wanted = refusal(demand, principal, found[1])
    answer = await ask(people, name, asked, found[0])
    got = answer.status if answer.status in CLOSED else None
    return "" if got == wanted else f"{answer.status}, not {wanted}: {answer.text[:100]}"


async def test_things_are_for_whom_the_table_says(people: People) -> None:
    wrong = {}
    for method, route, make, body in CASES:
        for name in EVERYBODY:
            found = await sync_to_async(make)(people)
            if told := await tell_wrong(people, name, (method, route, body), found):
                wrong[method, route, make.__name__, name] = told

    assert wrong == {}


async def test_running_request_is_for_whom_the_table_says(node: FakeNode, people: People) -> None:
    wrong = {}
    for method, route in REQUEST_CASES:
        for name in EVERYBODY:
            found = things.request(node)(people)
            if told := await tell_wrong(people, name, (method, route, {}), found):
                wrong[method, route, name] = told

    assert wrong == {}


@pytest.mark.parametrize("name", VERBS)
async def test_model_is_for_whom_the_table_says(node: FakeNode, people: People, name: str) -> None:
    wrong = {}
    for asked in MODEL_CASES:
        for who in EVERYBODY:
            parts, _ = await sync_to_async(things.model(name))(people)
            thing = Thing(verbs=VERBS[name].get(who, frozenset()))
            if told := await tell_wrong(people, who, asked, (parts, thing)):
                wrong[asked[0], asked[1], who] = told

    assert wrong == {}


def test_every_demand_of_the_table_is_tried() -> None:
    demanded = {
        (method, route)
        for route, rule in policy.ROUTES.items()
        for method, demand in rule.asks.items()
        if demand is not Demand.ADMIN  # tried in test_routes
    }
    tried = {(method, route) for method, route, *_ in [*CASES, *REQUEST_CASES]}
    tried |= {(method, route.partition("?")[0]) for method, route, _ in MODEL_CASES}
    tried |= {("GET", route) for method, route in tried if method == "HEAD"}

    assert demanded - tried == ELSEWHERE

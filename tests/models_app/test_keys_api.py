"""`/api/keys`, and that every way to present a key gives the same answer."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import ApiKey, User
from models_app.permissions import Scope
from tests.credentials import KEY_WAYS, WHOLE_WAYS, Holder, Way, key_headers
from tests.fakes.http import Answer, AsgiClient
from tests.fakes.websocket import Socket

NEW = {"name": "laptop", "scopes": ["use", "read"], "models": ["llama*"], "expires_in": "30d"}


@pytest.fixture
def holder(transactional_db: None, alice: User) -> Holder:
    return Holder(alice)


async def ask(
    holder: Holder, method: str, path: str, data: Any = None, *, way: Way = Way.BEARER
) -> Answer:
    asked, headers = holder.present(way, method, path)
    return await AsgiClient(headers).request(method, asked, data=data)


async def test_key_is_made_shown_once_listed_renamed_and_ended(holder: Holder) -> None:
    made = await ask(holder, "POST", "/api/keys", NEW)
    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    key = made.json()
    secret, prefix = key.pop("key"), key["prefix"]
    assert secret.startswith(f"osk-{prefix}-")
    assert (key["scopes"], key["models"], key["state"]) == (["read", "use"], ["llama*"], "active")
    assert key["expires_at"] > key["created_at"]

    listed = await ask(holder, "GET", "/api/keys")
    assert {each["name"] for each in listed.json()["keys"]} == {"held", "laptop"}
    assert secret.rpartition("-")[2] not in listed.text
    renamed = await ask(holder, "PATCH", f"/api/keys/{prefix}", {"name": "desk"})
    assert renamed.json()["name"] == "desk"
    assert (await AsgiClient({"x-api-key": secret}).get("/api/tags")).status == 200

    assert (await ask(holder, "DELETE", f"/api/keys/{prefix}")).status == 204
    assert (await AsgiClient({"x-api-key": secret}).get("/api/tags")).status == 401
    shown = await ask(holder, "GET", f"/api/keys/{prefix}")
    assert shown.json()["state"] == "revoked"


async def test_rotated_key_hands_over_to_its_successor(holder: Holder) -> None:
    path = f"/api/keys/{holder.key.prefix}/rotate"
    new = await ask(holder, "POST", path, {"overlap": "1h"})
    assert new.status == 201
    both = [holder.secret, new.json()["key"]]
    for secret in both:
        assert (await AsgiClient({"x-api-key": secret}).get("/api/tags")).status == 200

    again = await ask(holder, "POST", path, {})
    assert (again.status, again.json()["error"]) == (
        400,
        f"the key '{holder.key.prefix}' has been rotated already",
    )


@pytest.mark.parametrize(("query", "left"), [("", 401), ("?keep_successors=1", 200)])
async def test_key_that_is_ended_takes_its_successors_along_unless_asked_not_to(
    holder: Holder, query: str, left: int
) -> None:
    old = (await ask(holder, "POST", "/api/keys", NEW)).json()["prefix"]
    new = (await ask(holder, "POST", f"/api/keys/{old}/rotate")).json()["key"]

    assert (await ask(holder, "DELETE", f"/api/keys/{old}{query}")).status == 204
    assert (await AsgiClient({"x-api-key": new}).get("/api/tags")).status == left


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "a key needs a name of at most 100 characters"),
        ({**NEW, "scopes": ["everything"]}, '"scopes" may have: read, use, write, admin'),
        ({**NEW, "expires_in": "soon"}, '"expires_in" must be a duration such as 12h or 30d'),
        ({**NEW, "expires_in": "-1"}, '"expires_in" must be at most 36500 days'),
        ({**NEW, "expires_in": "999999999999d"}, '"expires_in" must be at most 36500 days'),
        ({**NEW, "expires_in": "0s"}, "a key must expire in the future"),
        ({**NEW, "owner": "bob"}, "'bob' is no service account of a team that you maintain"),
        ({**NEW, "team": "x\0y"}, None),
        ({**NEW, "owner": "x\0y"}, None),
    ],
)
async def test_bad_key_is_refused_in_a_sentence(
    holder: Holder, bob: User, body: Any, message: str | None
) -> None:
    answer = await ask(holder, "POST", "/api/keys", body)

    assert answer.status == 400
    assert message is None or answer.json()["error"] == message


@pytest.mark.parametrize(
    ("method", "path", "data"),
    [
        ("GET", "/api/keys/{}", None),
        ("PATCH", "/api/keys/{}", {"name": "mine"}),
        ("DELETE", "/api/keys/{}", None),
        ("POST", "/api/keys/{}/rotate", {}),
    ],
)
async def test_somebody_elses_key_is_not_there(
    holder: Holder, bob: User, method: str, path: str, data: Any
) -> None:
    key, secret = await sync_to_async(create_key)(bob, "his")
    found = await ask(holder, method, path.format(key.prefix), data)
    missing = await ask(holder, method, path.format("0" * 12), data)

    assert (found.status, missing.status) == (404, 404)
    assert found.text.replace(key.prefix, "0" * 12) == missing.text
    assert (await AsgiClient({"x-api-key": secret}).get("/api/tags")).status == 200


async def test_reading_key_sees_and_ends_itself_and_makes_none(
    transactional_db: None, alice: User
) -> None:
    holder = await sync_to_async(Holder)(alice, KeyRules(scopes=(Scope.READ,)))
    own = f"/api/keys/{holder.key.prefix}"

    assert (await ask(holder, "GET", "/api/keys")).status == 403
    assert (await ask(holder, "POST", "/api/keys", NEW)).status == 403
    assert (await ask(holder, "GET", own)).json()["scopes"] == ["read"]
    assert (await ask(holder, "DELETE", own)).status == 204
    assert (await ask(holder, "GET", own)).status == 401


# ------------------------------------------------------------------ parity


async def answers(holder: Holder, ways: tuple[Way, ...], path: str) -> set[tuple[int, str]]:
    found = [await ask(holder, "GET", path, way=way) for way in ways]
    return {(answer.status, answer.text) for answer in found}


async def test_every_whole_credential_gives_the_same_answer(holder: Holder) -> None:
    path = f"/api/keys/{holder.key.prefix}"
    await ask(holder, "GET", path)  # last_used_at is written once

    [(status, _)] = await answers(holder, (*KEY_WAYS, *WHOLE_WAYS), path)
    assert status == 200


@pytest.mark.parametrize("path", ["/api/tags", "/v1/models", "/api/keys"])
async def test_limits_of_a_key_hold_however_it_is_presented(
    transactional_db: None, alice: User, path: str
) -> None:
    holder = await sync_to_async(Holder)(alice, KeyRules(scopes=(Scope.USE,)))

    [(status, _)] = await answers(holder, KEY_WAYS, path)
    assert status == 403


async def end_by_revoking(holder: Holder) -> None:
    await sync_to_async(revoke_key)(holder.key)


async def end_by_deactivating(holder: Holder) -> None:
    holder.user.is_active = False
    await holder.user.asave()


async def end_by_moving_away(holder: Holder) -> None:
    key = await ApiKey.objects.aget(pk=holder.key.pk)
    key.networks = ["192.0.2.0/24"]
    await key.asave()


@pytest.mark.parametrize("end", [end_by_revoking, end_by_deactivating, end_by_moving_away])
async def test_key_that_does_not_hold_is_nobodys_however_it_is_presented(
    holder: Holder, end: Any
) -> None:
    await answers(holder, KEY_WAYS, "/api/tags")  # it was good and is known
    await end(holder)

    [(status, text)] = await answers(holder, KEY_WAYS, "/api/tags")
    nobody = await AsgiClient().get("/api/tags")
    assert (status, text) == (nobody.status, nobody.text) == (401, '{"error":"unauthorized"}')
    for way in KEY_WAYS:
        socket = Socket(*holder.socket_headers(way), path="/ws/chat")
        assert (await socket.wire.connect(timeout=60))[0]
        assert await socket.close_code() == 4401


@pytest.mark.parametrize("way", KEY_WAYS)
@pytest.mark.parametrize(
    "text", ["' OR 1=1 --", "osk-" + "0" * 12 + "-" + "0" * 48, "é" * 500, "x" * 60_000, "%00"]
)
async def test_nonsense_for_a_key_is_a_401(transactional_db: None, way: Way, text: str) -> None:
    headers = {
        name: value.encode().decode("latin-1") for name, value in key_headers(way, text).items()
    }

    assert (await AsgiClient(headers).get("/api/tags")).status == 401


@pytest.mark.parametrize("prefix", ["x%00y", "%20", "osk-1", "0" * 13])
async def test_what_is_no_prefix_is_no_key(holder: Holder, prefix: str) -> None:
    api = AsgiClient(key_headers(Way.BEARER, holder.secret))
    answer = await api.request("DELETE", f"/api/keys/{prefix.replace('%00', chr(0))}")

    assert answer.status == 404

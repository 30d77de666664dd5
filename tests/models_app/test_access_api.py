"""`/api/access`: who may use a model, told and changed over HTTP."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from models_app.keys import KeyRules, create_key
from models_app.models import User
from models_app.names import ModelName
from models_app.permissions import Scope
from models_app.services import NewManifest, write_tag
from tests.conftest import KeyClient
from tests.fakes.http import AsgiClient

pytestmark = pytest.mark.django_db

ClientFor = Callable[[User], KeyClient]


@pytest.fixture(autouse=True)
def _model(transactional_db: None, alice: User, bob: User) -> None:
    new = NewManifest(digest="a" * 64, body=b"{}", layers=[])
    write_tag(ModelName.parse("alice/tiny"), new, owner_id=alice.pk)


def get(client: KeyClient, model: str) -> Any:
    return async_to_sync(client.get)("/api/access", {"model": model})


def patch(client: KeyClient, **body: Any) -> Any:
    return async_to_sync(client.patch)("/api/access", body, content_type="application/json")


def test_owner_gives_a_right_and_is_told_what_holds(client_for: ClientFor, alice: User) -> None:
    client = client_for(alice)
    changed = patch(
        client, model="tiny", visibility="everyone", add=[{"to": "bob", "verb": "push"}]
    )
    told = get(client, "alice/tiny:latest")

    assert (changed.status_code, told.status_code) == (200, 200)
    assert told.content == changed.content
    assert told.json() == {
        "model": "alice/tiny",
        "owner": "alice",
        "team": None,
        "visibility": "everyone",
        "cache_scope": "user",
        "pinned": False,
        "grants": [{"to": "bob", "kind": "user", "verb": "push"}],
        "used_by": {"everyone": True, "users": ["alice"], "teams": []},
    }


def test_right_that_was_taken_back_is_gone(client_for: ClientFor, alice: User, bob: User) -> None:
    right = [{"to": "bob", "verb": "manage"}]
    patch(client_for(alice), model="tiny", add=right)
    before = get(client_for(bob), "alice/tiny")
    patch(client_for(alice), model="tiny", remove=right)
    after = get(client_for(bob), "alice/tiny")

    assert (before.status_code, after.status_code) == (200, 404)


@pytest.mark.parametrize("who", ["bob", "root"])
def test_others_learn_nothing(client_for: ClientFor, admin: User, who: str) -> None:
    client = client_for(User.objects.get(username=who))
    hidden, missing = get(client, "alice/tiny"), get(client, "alice/nope")

    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert hidden.json()["error"].replace("tiny", "nope") == missing.json()["error"]
    assert patch(client, model="alice/tiny", visibility="everyone").status_code == 404


@pytest.mark.parametrize(
    "rules", [KeyRules(scopes=(Scope.WRITE, Scope.READ)), KeyRules(models=("alice/*",))]
)
async def test_key_with_limits_tells_what_holds_and_changes_nothing(
    alice: User, rules: KeyRules
) -> None:
    _, secret = await sync_to_async(create_key)(alice, "CI", rules)
    client = AsgiClient({"authorization": f"Bearer {secret}"})
    body = json.dumps({"model": "alice/tiny", "visibility": "everyone"}).encode()
    refused = await client.request("PATCH", "/api/access", body=body)
    told = await client.get("/api/access?model=alice/tiny")

    assert (refused.status, told.status) == (403, 200)
    assert told.json()["visibility"] == "private"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": ""}, 400),
        ({"model": "a b"}, 400),
        ({"model": "tiny", "visibility": "all"}, 400),
        ({"model": "tiny", "visibility": "team"}, 400),
        ({"model": "tiny", "cache_scope": "site"}, 400),
        ({"model": "tiny", "visibility": 3}, 400),
        ({"model": "tiny", "add": [{"to": "bob", "verb": "read"}]}, 400),
        ({"model": "tiny", "add": [{"to": "", "verb": "use"}]}, 400),
        ({"model": "tiny", "add": [{"to": "b\0b", "verb": "use"}]}, 400),
        ({"model": "tiny", "add": [{"to": "nobody", "verb": "use"}]}, 404),
        ({"model": "tiny", "pinned": True}, 403),
    ],
)
def test_what_makes_no_sense_is_refused(
    client_for: ClientFor, alice: User, body: dict[str, Any], status: int
) -> None:
    answer = patch(client_for(alice), **body)

    assert answer.status_code == status
    assert b'"error"' in answer.content

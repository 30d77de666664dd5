"""`/api/users` and `/api/me`."""

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from models_app import people
from models_app.accounts import create_user
from models_app.directory import list_members, list_teams, list_users
from models_app.keys import KeyRules, create_key
from models_app.models import User
from models_app.permissions import Scope, SiteRole
from models_app.sign_up import sign_up
from tests.conftest import PASSWORD
from tests.fakes.http import AsgiClient
from tests.models_app.api.conftest import Caller
from tests.models_app.people_cast import make_team


async def test_admin_makes_an_account_whose_owner_chooses_the_password(
    as_admin: Caller, stranger: AsgiClient
) -> None:
    answer = await as_admin("POST", "/api/users", {"name": "carol", "site_role": "auditor"})

    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    assert answer.json()["url"].startswith("http://localhost:11434/password/")
    page = await stranger.get(answer.json()["url"].removeprefix("http://localhost:11434"))
    assert page.status == 302
    shown = (await as_admin("GET", "/api/users/CAROL")).json()
    assert (shown["name"], shown["site_role"], shown["is_admin"]) == ("carol", "auditor", False)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"name": "alice"}, 400, "There is already a user 'alice'."),
        ({"name": "a/b"}, 400, "'a/b' cannot be a user name"),
        ({}, 400, "'' cannot be a user name"),
        ({"name": "x", "site_role": "king"}, 400, '"site_role" must be one of operator, auditor'),
        ({"name": 3}, 400, "json: cannot unmarshal number into Go struct field"),
    ],
)
async def test_what_is_wrong_is_told(
    as_admin: Caller, alice: User, body: object, status: int, sentence: str
) -> None:
    answer = await as_admin("POST", "/api/users", body)

    assert answer.status == status
    assert answer.json()["error"].startswith(sentence)


async def test_admin_changes_roles_and_home_team(as_admin: Caller, bob: User) -> None:
    await sync_to_async(make_team)("vision", member=bob)
    changes = {"is_admin": True, "site_role": "operator", "home_team": ""}
    changed = (await as_admin("PATCH", "/api/users/bob", changes)).json()

    assert (changed["is_admin"], changed["site_role"]) == (True, "operator")
    assert (changed["home_team"], changed["teams"]) == ("", [{"team": "vision", "role": "member"}])


async def test_account_is_closed_opened_and_deleted(as_admin: Caller, as_bob: Caller) -> None:
    assert (await as_bob("GET", "/api/me")).status == 200
    assert (await as_admin("POST", "/api/users/bob/deactivate", {})).status == 204
    assert (await as_bob("GET", "/api/me")).status == 401
    assert (await as_admin("POST", "/api/users/bob/activate", {})).status == 204
    assert (await as_admin("GET", "/api/users/bob")).json()["is_active"]
    assert (await as_admin("POST", "/api/users/bob/sessions/end", {})).status == 204
    assert (await as_admin("DELETE", "/api/users/bob")).status == 204
    assert (await as_admin("GET", "/api/users/bob")).status == 404


async def test_last_admin_is_a_conflict(as_admin: Caller) -> None:
    answer = await as_admin("PATCH", "/api/users/root", {"is_admin": False})

    assert answer.status == 409
    assert "last administrator" in answer.json()["error"]


async def test_sign_up_is_approved(as_admin: Caller, settings: Settings) -> None:
    settings.SIGN_UP = "approval"
    await sync_to_async(sign_up)("carol", PASSWORD)
    waiting = (await as_admin("GET", "/api/users?state=waiting")).json()["users"]
    answer = await as_admin("POST", "/api/users/carol/approve", {})

    assert [user["name"] for user in waiting] == ["carol"]
    assert (answer.status, answer.json()["is_active"]) == (200, True)


async def test_list_comes_in_pages_by_name(as_admin: Caller, alice: User, bob: User) -> None:
    first = (await as_admin("GET", "/api/users?limit=2")).json()
    rest = (await as_admin("GET", f"/api/users?limit=2&after={first['next']}")).json()

    assert [user["name"] for user in first["users"]] == ["alice", "bob"]
    assert [user["name"] for user in rest["users"]] == ["root"]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=LIC", ["alice"]),
        ("state=admin", ["root"]),
        ("state=inactive", ["bob"]),
        ("state=active&q=o", ["root"]),
        ("q=%25", []),
    ],
)
async def test_list_is_narrowed(
    as_admin: Caller, alice: User, bob: User, query: str, names: list[str]
) -> None:
    await sync_to_async(people.deactivate)("bob", by=None)
    found = (await as_admin("GET", f"/api/users?{query}")).json()["users"]

    assert [user["name"] for user in found] == names


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=501", "state=king", "q=%00"])
async def test_bad_query_is_told(as_admin: Caller, query: str) -> None:
    answer = await as_admin("GET", f"/api/users?{query}")

    assert answer.status == 400
    assert answer.json()["error"].startswith('"')


async def test_auditor_reads_users_and_changes_nothing(as_bob: Caller, alice: User) -> None:
    await sync_to_async(people.set_role)("bob", site_role=SiteRole.AUDITOR, by=None)

    assert (await as_bob("GET", "/api/users")).status == 200
    assert (await as_bob("GET", "/api/users/alice")).status == 200
    assert (await as_bob("POST", "/api/users", {"name": "carol"})).status == 403
    assert (await as_bob("PATCH", "/api/users/alice", {"is_admin": True})).status == 403
    assert (await as_bob("DELETE", "/api/users/alice")).status == 403
    assert (await as_bob("POST", "/api/users/alice/password-link", {})).status == 403
    assert (await as_bob("POST", "/api/users/alice/deactivate", {})).status == 404


async def test_admins_key_for_use_alone_sees_no_users(admin: User) -> None:
    _, secret = await sync_to_async(create_key)(admin, "k", KeyRules(scopes=(Scope.USE,)))
    client = AsgiClient({"authorization": f"Bearer {secret}"})

    assert (await client.get("/api/users")).status == 403
    assert (await client.get("/api/me")).status == 200


# ------------------------------------------------------------------ oneself


async def test_one_is_told_who_one_is(bob: User) -> None:
    await sync_to_async(make_team)("vision", maintainer=bob)
    rules = KeyRules(scopes=(Scope.READ,), models=("llama*",), team="vision")
    key, secret = await sync_to_async(create_key)(bob, "ci", rules)
    told = (await AsgiClient({"x-api-key": secret}).get("/api/me")).json()

    assert told == {
        "name": "bob",
        "is_admin": False,
        "site_role": "",
        "service_of": "",
        "home_team": "vision",
        "team": "vision",
        "teams": [{"team": "vision", "role": "maintainer"}],
        "credential": "key",
        "key": {
            "name": "ci",
            "prefix": key.prefix,
            "scopes": ["read"],
            "models": ["llama*"],
            "networks": [],
            "team": "vision",
            "expires_at": None,
        },
    }


async def test_one_chooses_the_home_team(as_bob: Caller, bob: User) -> None:
    for name in ("one", "two"):
        await sync_to_async(make_team)(name, member=bob)
    answer = await as_bob("PATCH", "/api/me", {"home_team": "two"})
    assert (answer.json()["home_team"], answer.json()["team"]) == ("two", "two")
    assert (await as_bob("PATCH", "/api/me", {"home_team": "three"})).status == 409


async def test_key_with_scopes_chooses_no_home_team(bob: User) -> None:
    await sync_to_async(make_team)("one", member=bob)
    _, secret = await sync_to_async(create_key)(bob, "k", KeyRules(scopes=(Scope.WRITE,)))
    client = AsgiClient({"x-api-key": secret})

    assert (await client.request("PATCH", "/api/me", data={"home_team": ""})).status == 403


# ------------------------------------------------------------------ how many queries


@pytest.mark.parametrize("many", [2, 12])
def test_lists_cost_as_many_queries_for_few_as_for_many(db: None, many: int) -> None:
    users = [create_user(f"user{number:02}", PASSWORD) for number in range(many)]
    for number, user in enumerate(users):
        make_team(f"team{number:02}", owner=user, member=users[number - 1])
    counts = []
    for listed in (
        lambda: list_users(limit=100, by=None),
        lambda: list_teams(limit=100, by=None),
        lambda: list_members("team01", limit=100, by=None),
    ):
        with CaptureQueriesContext(connection) as queries:
            listed()
        counts.append(len(queries))

    assert counts == [3, 1, 2]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/users/root/password-link", {}),
        ("POST", "/api/users", {"name": "x", "is_admin": True}),
        ("PATCH", "/api/users/alice", {"is_admin": True}),
        ("POST", "/api/invites", {}),
        ("POST", "/api/teams", {"name": "lab"}),
        ("DELETE", "/api/limit-rules/1", None),
    ],
)
async def test_admins_key_with_limits_makes_no_way_in_without_them(
    admin: User, alice: User, method: str, path: str, body: object
) -> None:
    rules = KeyRules(scopes=(Scope.ADMIN,), networks=("0.0.0.0/0", "::/0"))
    _, secret = await sync_to_async(create_key)(admin, "k", rules)
    client = AsgiClient({"authorization": f"Bearer {secret}"})

    assert (await client.request("GET", "/api/users")).status == 200
    answer = await client.request(method, path, data=body)
    assert (answer.status, "a key with limits of its own" in answer.text) == (403, True)


async def test_account_is_made_with_its_link_or_not_at_all(as_admin: Caller) -> None:
    wrong = {"name": "carol", "site_role": "king"}
    assert (await as_admin("POST", "/api/users", wrong)).status == 400
    assert (await as_admin("GET", "/api/users/carol")).status == 404

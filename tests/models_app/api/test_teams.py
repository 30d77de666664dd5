"""`/api/teams`, and `/api/invites`."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.models import User
from tests.models_app.api.conftest import Caller
from tests.models_app.people_cast import make_team

TEAM = "/api/teams/vision"


@pytest.fixture
def vision(transactional_db: None, alice: User, bob: User) -> str:
    """Alice owns it, Bob is a member."""
    return make_team("vision", owner=alice, member=bob)


async def test_admin_makes_a_team_and_says_what_it_may_use(
    as_admin: Caller, as_alice: Caller
) -> None:
    body = {"name": "vision", "description": "pictures", "owner": "alice"}
    made = await as_admin("POST", "/api/teams", body)
    changed = await as_admin("PATCH", TEAM, {"allowed_models": ["llama*", "qwen3:8b"]})

    assert made.status == 201
    assert changed.json()["allowed_models"] == ["llama*", "qwen3:8b"]
    shown = (await as_alice("GET", TEAM)).json()
    assert (shown["role"], shown["members"], shown["models"]) == ("owner", 1, 0)


async def test_owner_looks_after_members(vision: str, as_alice: Caller) -> None:
    put = await as_alice("PUT", f"{TEAM}/members/bob", {"role": "viewer"})
    members = (await as_alice("GET", f"{TEAM}/members")).json()["members"]
    removed = await as_alice("DELETE", f"{TEAM}/members/bob")

    assert (put.status, removed.status) == (204, 204)
    assert [(each["name"], each["role"]) for each in members] == [
        ("alice", "owner"),
        ("bob", "viewer"),
    ]


async def test_owner_takes_nobody_in_unasked_and_learns_no_names(
    vision: str, as_alice: Caller, as_admin: Caller, mallory: User
) -> None:
    answers = [
        await as_alice("PUT", f"{TEAM}/members/{name}", {"role": "viewer"})
        for name in ("mallory", "nobody")
    ]
    by_admin = await as_admin("PUT", f"{TEAM}/members/mallory", {"role": "viewer"})

    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].text.replace("mallory", "nobody") == answers[1].text
    assert by_admin.status == 204


async def test_members_come_in_pages(vision: str, as_bob: Caller) -> None:
    first = (await as_bob("GET", f"{TEAM}/members?limit=1")).json()
    rest = (await as_bob("GET", f"{TEAM}/members?limit=1&after={first['next']}")).json()

    assert [each["name"] for each in first["members"] + rest["members"]] == ["alice", "bob"]
    assert rest["next"] is None


async def test_member_sees_the_team_changes_nothing_and_may_leave(
    vision: str, as_bob: Caller
) -> None:
    assert (await as_bob("GET", TEAM)).json()["role"] == "member"
    assert (await as_bob("PATCH", TEAM, {"description": "x"})).status == 403
    assert (await as_bob("DELETE", TEAM)).status == 403
    assert (await as_bob("PUT", f"{TEAM}/members/bob", {"role": "owner"})).status == 403
    assert (await as_bob("POST", f"{TEAM}/service-accounts", {"name": "ci"})).status == 403
    assert (await as_bob("DELETE", f"{TEAM}/members/alice")).status == 403
    assert (await as_bob("DELETE", f"{TEAM}/members/bob")).status == 204
    assert (await as_bob("GET", TEAM)).status == 404


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"description": "x"}),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("PUT", "/members/mallory", {"role": "owner"}),
        ("DELETE", "/members/mallory", None),
        ("GET", "/service-accounts", None),
        ("POST", "/service-accounts", {"name": "ci"}),
    ],
)
async def test_stranger_learns_nothing_of_a_team(
    vision: str, as_mallory: Caller, method: str, path: str, body: Any
) -> None:
    there = await as_mallory(method, f"/api/teams/vision{path}", body)
    missing = await as_mallory(method, f"/api/teams/nothing{path}", body)

    assert (there.status, missing.status) == (404, 404)
    assert there.text.replace("vision", "nothing") == missing.text


async def test_lists_have_ones_own_teams(vision: str, as_bob: Caller, as_admin: Caller) -> None:
    await sync_to_async(make_team)("speech")
    mine = (await as_bob("GET", "/api/teams")).json()["teams"]
    everybodys = (await as_admin("GET", "/api/teams?q=e&limit=1")).json()

    assert [team["name"] for team in mine] == ["vision"]
    assert [team["name"] for team in everybodys["teams"]] == ["speech"]


async def test_service_account_is_made_and_listed(vision: str, as_alice: Caller) -> None:
    made = await as_alice(
        "POST", f"{TEAM}/service-accounts", {"name": "nightly", "role": "maintainer"}
    )
    listed = (await as_alice("GET", f"{TEAM}/service-accounts")).json()["members"]

    assert made.status == 201
    assert [(each["name"], each["role"]) for each in listed] == [("nightly", "maintainer")]
    assert (await as_alice("POST", "/api/users/nightly/deactivate", {})).status == 204


async def test_last_owner_stays(vision: str, as_alice: Caller) -> None:
    assert (await as_alice("DELETE", f"{TEAM}/members/alice")).status == 409


@pytest.mark.parametrize("role", ["", "king", "Owner"])
async def test_unknown_role_is_told(vision: str, as_alice: Caller, role: str) -> None:
    answer = await as_alice("PUT", f"{TEAM}/members/bob", {"role": role})

    assert answer.status == 400
    assert answer.json()["error"].startswith('"role" must be one of viewer, member')


# ------------------------------------------------------------------ invites


async def test_owner_makes_lists_and_revokes_an_invite(vision: str, as_alice: Caller) -> None:
    made = await as_alice("POST", "/api/invites", {"team": "vision", "role": "viewer", "days": 1})
    told = made.json()
    listed = (await as_alice("GET", "/api/invites?team=vision")).json()["invites"]
    path = f"/api/invites/{told['invite']['id']}"

    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    assert told["url"].startswith("http://localhost:11434/invite/")
    assert listed == [told["invite"]]
    assert told["url"].rpartition("/")[2] not in str(listed)
    assert [(await as_alice("DELETE", path)).status for _ in range(2)] == [204, 404]
    assert (await as_alice("GET", "/api/invites")).json()["invites"] == []
    [revoked] = (await as_alice("GET", "/api/invites?state=all")).json()["invites"]
    assert revoked["state"] == "revoked"


async def test_invites_come_in_pages_the_newest_first(as_admin: Caller) -> None:
    ids = [
        (await as_admin("POST", "/api/invites", {"note": note})).json()["invite"]["id"]
        for note in "abc"
    ]
    first = (await as_admin("GET", "/api/invites?limit=2")).json()
    rest = (await as_admin("GET", f"/api/invites?limit=2&before={first['next']}")).json()

    assert [each["id"] for each in first["invites"] + rest["invites"]] == ids[::-1]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 403),
        ({"team": "nothing"}, 404),
        ({"team": "vision", "role": "king"}, 400),
        ({"team": "vision", "days": 0}, 400),
        ({"team": "vision", "days": 1e308}, 201),
        ({"team": "vision", "note": "x" * 201}, 400),
    ],
)
async def test_wishes_of_an_owner(
    vision: str, as_alice: Caller, body: dict[str, Any], status: int
) -> None:
    assert (await as_alice("POST", "/api/invites", body)).status == status


@pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 30, "1.5"])
async def test_number_of_no_invite_is_not_found(as_admin: Caller, number: str) -> None:
    assert (await as_admin("DELETE", f"/api/invites/{number}")).status == 404

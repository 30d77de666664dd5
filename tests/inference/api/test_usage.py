"""`/api/usage`: sums, rows and files as clients get them."""

from typing import Any

import pytest

from models_app import ledger
from models_app.keys import KeyRules, create_key
from models_app.models import User
from models_app.permissions import Scope
from tests.fakes.http import AsgiClient
from tests.inference.conftest import bearer_for
from tests.models_app.test_ledger import NOON_US, ended

ROUTES = ["/api/usage", "/api/usage/requests", "/api/usage/export"]
HOUR_US = 3_600_000_000
LONG_AGO = "since=2026-01-01"


@pytest.fixture
def used(transactional_db: None, alice: User, bob: User) -> None:
    """Alice has asked five times, Bob once."""
    rows = [
        ended(f"a{number}", user_id=alice.pk, user_name="alice", at_us=NOON_US + number * HOUR_US)
        for number in range(5)
    ]
    ledger.write([*rows, ended("b", user_id=bob.pk, user_name="bob")])


@pytest.fixture
def admin_api(used: None, admin: User) -> AsgiClient:
    """Whoever runs the site."""
    return AsgiClient(bearer_for(admin))


@pytest.fixture
def narrow_api(used: None, alice: User) -> AsgiClient:
    """Alice with a key that only generates."""
    _, secret = create_key(alice, "use", KeyRules(scopes=(Scope.USE,)))
    return AsgiClient({"authorization": f"Bearer {secret}"})


async def test_sums_are_told_by_group_and_in_all(used: None, api: AsgiClient) -> None:
    body = (await api.get(f"/api/usage?{LONG_AGO}&group_by=day")).json()

    assert (body["since"], body["group_by"]) == ("2026-01-01T00:00:00Z", "day")
    assert [row["group"] for row in body["usage"]] == ["2026-03-01"]
    assert body["total"]["requests"] == 5
    assert body["total"]["tokens_in"] == 50


async def test_without_a_time_sums_are_of_the_last_month(used: None, api: AsgiClient) -> None:
    body = (await api.get("/api/usage")).json()

    assert body["total"]["requests"] == 0


async def test_rows_come_in_pages(used: None, api: AsgiClient) -> None:
    first = (await api.get("/api/usage/requests?limit=3")).json()
    second = (await api.get(f"/api/usage/requests?limit=3&after={first['next']}")).json()

    assert [row["request_id"] for row in first["requests"]] == ["a4", "a3", "a2"]
    assert [row["request_id"] for row in second["requests"]] == ["a1", "a0"]
    assert second["next"] is None
    assert first["requests"][0]["began_at"] == "2026-03-01T16:30:00Z"


async def test_file_is_handed_out(used: None, api: AsgiClient) -> None:
    as_csv = await api.get("/api/usage/export?format=csv")
    as_json = await api.get("/api/usage/export")

    assert as_csv.content_type == "text/csv; charset=utf-8"
    assert as_csv.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    assert as_csv.text.count("\r\n") == 6
    assert len(as_json.json()) == 5


@pytest.mark.parametrize("route", ROUTES)
async def test_everybodys_use_is_for_those_who_may_see_it(
    api: AsgiClient, admin_api: AsgiClient, route: str
) -> None:
    query = f"?all=1&{LONG_AGO}&group_by=user"
    seen = await admin_api.get(route + query)

    assert (await api.get(route + query)).status == 403
    assert seen.status == 200
    assert "alice" in seen.text
    assert "bob" in seen.text


@pytest.mark.parametrize("route", ROUTES)
async def test_key_that_only_generates_learns_nothing(narrow_api: AsgiClient, route: str) -> None:
    assert (await narrow_api.get(route)).status == 403


@pytest.mark.parametrize("route", ROUTES)
async def test_team_of_others_is_not_found(used: None, api: AsgiClient, route: str) -> None:
    assert (await api.get(f"{route}?team=nothing")).status == 404


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "until=2026-99-99",
        "since=9999999999999999999",
        "since=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T23:59:59-14:00",
        "all=yes",
        "group_by=mood",
        "user=%00",
        "model=" + "x" * 300,
    ],
)
async def test_field_that_makes_no_sense_is_refused(
    used: None, api: AsgiClient, query: str
) -> None:
    answer = await api.get(f"/api/usage?{query}")

    assert answer.status == 400
    assert query.partition("=")[0] in answer.json()["error"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "after=x", "after=1-", "after=-1", "after=999999999999999999-1"],
)
async def test_page_that_does_not_exist_is_refused(used: None, api: AsgiClient, query: str) -> None:
    assert (await api.get(f"/api/usage/requests?{query}")).status == 400


async def test_format_that_is_unknown_is_refused(used: None, api: AsgiClient) -> None:
    answer: Any = await api.get("/api/usage/export?format=xls")

    assert (answer.status, answer.content_type) == (400, "application/json; charset=utf-8")

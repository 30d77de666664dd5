"""`GET /api/audit`: for administrators and auditors alone."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app import audit
from models_app.audit_log import AuditQuestion, find_entries
from models_app.keys import KeyRules, create_key
from models_app.models import AuditEntry, User
from models_app.permissions import Scope, SiteRole
from tests.conftest import principal_for
from tests.fakes.http import Answer, AsgiClient

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key(alice: User, admin: User) -> str:
    """An administrator's key, and five acts after which nothing else happened."""
    _, secret = create_key(admin, "all")
    AuditEntry.objects.all().delete()
    for number in range(5):
        audit.record("team.create", f"team {number}", by=principal_for(alice), number=number)
    return secret


async def ask(secret: str, query: str = "") -> Answer:
    return await AsgiClient({"authorization": f"Bearer {secret}"}).get(f"/api/audit{query}")


async def sequences(secret: str, query: str) -> list[int]:
    answer = await ask(secret, query)
    assert answer.status == 200
    return [entry["sequence"] for entry in answer.json()["entries"]]


async def test_newest_acts_come_first_and_pages_go_on(key: str) -> None:
    first: dict[str, Any] = (await ask(key, "?limit=2")).json()
    assert [entry["sequence"] for entry in first["entries"]] == [5, 4]
    assert await sequences(key, f"?limit=2&before={first['next']}") == [3, 2]
    last: dict[str, Any] = (await ask(key, "?limit=5")).json()
    assert last["next"] is None


async def test_entry_tells_who_did_what(key: str) -> None:
    [entry] = (await ask(key, "?limit=1")).json()["entries"]
    assert {name: entry[name] for name in ("actor", "action", "subject", "details")} == {
        "actor": "alice",
        "action": "team.create",
        "subject": "team 4",
        "details": {"number": 4},
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?actor=ALICE&limit=1", [5]),
        ("?actor=bob", []),
        ("?action=team", [5, 4, 3, 2, 1]),
        ("?action=team.create&q=team%203", [4]),
        ("?since=2100-01-01", []),
        ("?until=2020-01-01T00:00:00Z", []),
        ("?q=%25", []),
    ],
)
async def test_questions_narrow_what_is_told(key: str, query: str, found: list[int]) -> None:
    assert await sequences(key, query) == found


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=x",
        "?before=-1",
        "?since=yesterday",
        "?since=0001-01-01T00:00%2B14:00",
        "?until=2026-13-01",
        "?q=%00",
    ],
)
async def test_question_that_makes_no_sense_is_told_so(key: str, query: str) -> None:
    answer = await ask(key, query)
    assert (answer.status, set(answer.json())) == (400, {"error"})


async def test_auditor_may_look_and_others_may_not(key: str, alice: User, bob: User) -> None:
    await User.objects.filter(pk=bob.pk).aupdate(site_role=SiteRole.AUDITOR)
    fresh = await User.objects.aget(pk=bob.pk)
    _, of_auditor = await sync_to_async(create_key)(fresh, "all")
    reading = KeyRules(scopes=(Scope.READ,))
    _, scoped = await sync_to_async(create_key)(fresh, "reads", reading)
    _, of_user = await sync_to_async(create_key)(alice, "all")

    assert (await ask(of_auditor)).status == 200
    assert (await ask(scoped)).status == 403
    assert (await ask(of_user)).status == 403
    assert (await AsgiClient().get("/api/audit")).status == 401


def test_one_page_costs_one_query_however_long_it_is(
    key: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        assert len(find_entries(AuditQuestion(text="team"), limit=500)) == 5

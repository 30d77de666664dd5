"""`/api/limits` and `/api/limit-rules`, and what the limits that are set there do to requests."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from inference.messages import Generate
from models_app.keys import create_key
from models_app.models import AuditEntry, Membership, Team, User
from models_app.permissions import SiteRole, TeamRole
from tests.conftest import MakeModel
from tests.fakes.engine import USAGE, FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.conftest import bearer_for
from tests.limited import SetLimits, redis_socket, redis_url, set_limits

__all__ = ["redis_socket", "redis_url", "set_limits"]

HELLO = [{"role": "user", "content": "Hello"}]
USED = USAGE.prompt_tokens + USAGE.completion_tokens
RULES = "/api/limit-rules"


@pytest.fixture
def unlimited(set_limits: SetLimits) -> None:
    """A Redis, and no limit yet."""
    set_limits()


@pytest.fixture
def admin_api(transactional_db: None, admin: User) -> AsgiClient:
    return AsgiClient(bearer_for(admin))


@pytest.fixture
def auditor_api(transactional_db: None, bob: User) -> AsgiClient:
    User.objects.filter(pk=bob.pk).update(site_role=SiteRole.AUDITOR)
    return AsgiClient(bearer_for(bob))


def rule(subject: str, name: str = "", amount: int = 5, **changes: Any) -> dict[str, Any]:
    asked = {"unit": "tokens", "period": "day", **changes}
    return {"subject": subject, "name": name, "amount": amount, **asked}


async def put(api: AsgiClient, body: dict[str, Any]) -> Any:
    return await api.request("PUT", RULES, data=body)


async def chat(api: AsgiClient, model: str) -> Any:
    return await api.post("/api/chat", {"model": model, "messages": HELLO, "stream": False})


async def test_own_limits_tell_what_is_left_and_when_it_is_there_again(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(requests=6, tokens_a_day=1000, parallel=2)
    await chat(api, model)
    told = (await api.get("/api/limits")).json()["limits"]

    by_unit = {(each["unit"], each["period"]): each for each in told}
    day = by_unit["tokens", "day"]
    assert day["resets_at"].endswith("T00:00:00Z")
    assert 0 < day["resets_in_s"] <= 86_400
    assert (day["scope"], day["amount"], day["used"], day["remaining"]) == (
        "user",
        1000,
        USED,
        1000 - USED,
    )
    assert by_unit["requests", "minute"]["remaining"] == 5
    assert by_unit["parallel", ""] == {
        "scope": "user",
        "unit": "parallel",
        "period": "",
        "amount": 2,
        "used": 0,
        "remaining": 2,
        "resets_at": None,
        "resets_in_s": None,
    }


async def test_without_limits_there_are_none_to_tell(api: AsgiClient, settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    assert (await api.get("/api/limits")).json() == {"limits": []}


@pytest.mark.usefixtures("node", "unlimited")
async def test_limits_of_a_model_are_told_to_those_who_may_see_it(
    alice: User,
    api: AsgiClient,
    bob_api: AsgiClient,
    admin_api: AsgiClient,
    make_model: MakeModel,
) -> None:
    mine = await sync_to_async(make_model)("alice/mine", alice)
    await put(admin_api, rule("model", "alice/mine", 700))
    told = (await api.get(f"/api/limits?model={mine}")).json()["limits"]
    hidden = await bob_api.get(f"/api/limits?model={mine}")
    missing = await bob_api.get("/api/limits?model=alice/none")

    assert [(each["scope"], each["remaining"]) for each in told] == [("model", 700)]
    assert (hidden.status, missing.status) == (404, 404)
    assert (await api.get("/api/limits")).json() == {"limits": []}


async def test_rule_holds_from_the_next_request_on(
    node: FakeNode, model: str, api: AsgiClient, admin_api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits()
    first = await chat(api, model)
    made = await put(admin_api, rule("user", "alice", 1, unit="requests", period="minute"))
    answers = [await chat(api, model) for _ in range(2)]
    removed = await admin_api.request("DELETE", f"{RULES}/{made.json()['id']}")

    assert (first.status, made.status, removed.status) == (200, 200, 204)
    assert [answer.status for answer in answers] == [200, 429]
    assert (await chat(api, model)).status == 200


@pytest.mark.usefixtures("node", "unlimited")
async def test_team_shares_a_limit(
    model: str,
    alice: User,
    bob: User,
    api: AsgiClient,
    admin_api: AsgiClient,
) -> None:
    clients = await sync_to_async(_in_one_team)(alice, bob)
    await put(admin_api, rule("team", "vision", 2, unit="requests"))
    answers = [await chat(client, model) for client in (*clients, *clients)]

    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    assert answers[-1].json()["error"].startswith("quota exceeded: 2 requests per day of the team")


def _in_one_team(*users: User) -> list[AsgiClient]:
    team = Team.objects.create(name="Vision")
    for user in users:
        Membership.objects.create(team=team, user=user, role=TeamRole.MEMBER)
        User.objects.filter(pk=user.pk).update(home_team=team)
        user.refresh_from_db()
    return [AsgiClient(bearer_for(user)) for user in users]


@pytest.mark.usefixtures("node", "unlimited")
async def test_key_and_model_have_limits_of_their_own(
    model: str,
    alice: User,
    api: AsgiClient,
    admin_api: AsgiClient,
    make_model: MakeModel,
) -> None:
    other_model = await sync_to_async(make_model)("other")
    key, secret = await sync_to_async(create_key)(alice, "small")
    small = AsgiClient({"authorization": f"Bearer {secret}"})
    once: dict[str, Any] = {"amount": 1, "unit": "requests"}
    await put(admin_api, rule("key", key.prefix, **once))
    of_key = [(await chat(client, model)).status for client in (small, small, api)]
    await put(admin_api, rule("model", other_model, **once))
    of_model = [(await chat(api, name)).status for name in (other_model, other_model, model)]

    assert of_key == [200, 429, 200]
    assert of_model == [200, 429, 200]


async def test_one_request_too_many_at_once_is_told_to_come_back(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits
) -> None:
    set_limits(parallel=1)
    node.scripts.append(Script(pieces=("one ",), is_held=True))
    data = {"model": model, "messages": HELLO, "stream": True}
    running = api.open("POST", "/v1/chat/completions", data=data)
    await running.wait_for_text("one")
    refused = await api.post("/v1/chat/completions", data)
    await running.leave()

    assert refused.status == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert "1 requests at the same time" in refused.json()["error"]["message"]
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("1", "1000")
    assert len(node.got(Generate)) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropics_clients_are_told_in_their_words(
    node: FakeNode, model: str, api: AsgiClient, set_limits: SetLimits, stream: bool
) -> None:
    set_limits(requests=1)
    data = {"model": model, "messages": HELLO, "max_tokens": 5, "stream": stream}
    answer = await api.post("/v1/messages", data)
    refused = await api.post("/v1/messages", data)

    assert (answer.status, refused.status) == (200, 429)
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert refused.headers["anthropic-ratelimit-requests-reset"].endswith("Z")


async def test_rules_are_listed_for_admins_and_auditors(
    api: AsgiClient, admin_api: AsgiClient, auditor_api: AsgiClient
) -> None:
    made = await put(admin_api, rule("each user", amount=7))
    listed = [await client.get(RULES) for client in (admin_api, auditor_api, api)]

    assert [answer.status for answer in listed] == [200, 200, 403]
    assert listed[1].json() == {"rules": [made.json()]}
    assert made.json()["subject"] == "each user"


async def test_who_looks_changes_nothing(
    api: AsgiClient, admin_api: AsgiClient, auditor_api: AsgiClient
) -> None:
    kept = (await put(admin_api, rule("site"))).json()["id"]
    for client in (api, auditor_api):
        assert (await put(client, rule("site", amount=9))).status == 403
        assert (await client.request("DELETE", f"{RULES}/{kept}")).status == 403

    assert (await admin_api.get(RULES)).json()["rules"][0]["amount"] == 5
    assert await AuditEntry.objects.filter(action__startswith="limit.").acount() == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        rule("planet"),
        rule("site", amount=0),
        rule("site", amount=2**62),
        rule("user", "nobody"),
        rule("team", "\x00"),
        {**rule("site"), "amount": "many"},
        {**rule("site"), "subject": ["site"]},
    ],
)
async def test_bad_rule_is_told_what_is_wrong(admin_api: AsgiClient, body: dict[str, Any]) -> None:
    answer = await put(admin_api, body)

    assert answer.status in {400, 404}
    assert answer.json()["error"]


async def test_rule_that_is_not_there_is_not_found(admin_api: AsgiClient) -> None:
    answer = await admin_api.request("DELETE", f"{RULES}/123456")

    assert (answer.status, answer.json()) == (404, {"error": "there is no such limit"})


async def test_without_redis_nothing_is_told_about_limits(api: AsgiClient, settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    settings.TOKENS_PER_DAY = 100

    assert (await api.get("/api/limits")).status == 503

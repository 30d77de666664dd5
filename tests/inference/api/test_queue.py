"""`GET /api/queue`, the queue's headers, `X-Priority`: waiting, and what one is told of it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from msgspec import structs

from inference.api.caller import caller_of
from inference.messages import (
    Generate,
    Priority,
    QueueEntry,
    QueueState,
    RunningEntry,
    Usage,
    Withdraw,
)
from models_app import ledger_writer
from models_app.keys import KeyRules, create_key
from models_app.models import LedgerEntry, User
from models_app.permissions import CredentialKind, Principal, Scope
from ollamasite.errors import BadRequest
from tests.fakes.engine import FakeNode, Script
from tests.fakes.http import AsgiClient
from tests.inference.conftest import bearer_for
from tests.models_app.people_cast import recorded

HELLO = [{"role": "user", "content": "Hello"}]
REQUESTS = [
    ("/api/generate", {"prompt": "Hello"}),
    ("/api/chat", {"messages": HELLO}),
    ("/v1/chat/completions", {"messages": HELLO}),
]


def entry(user: str, position: int, **changes: Any) -> QueueEntry:
    fields: dict[str, Any] = {
        "request_id": f"r{position}",
        "model": "smollm2:135m",
        "digest": "d" * 64,
        "user": user,
        "priority": Priority.API,
        "position": position,
        "reason": "loading",
        "waited_s": 1.5,
        "estimate_s": 3.25,
    }
    return QueueEntry(**(fields | changes))


def running(user: str, request_id: str, **changes: Any) -> RunningEntry:
    fields: dict[str, Any] = {
        "request_id": request_id,
        "model": "smollm2:135m",
        "digest": "d" * 64,
        "user": user,
        "priority": Priority.API,
        "age_s": 2.5,
        "prompt_tokens": 31,
        "completion_tokens": 84,
        "tokens_per_s": 21.54,
    }
    return RunningEntry(**(fields | changes))


def state(*entries: QueueEntry) -> QueueState:
    return QueueState(request_id="", entries=entries, running=4, slots=6)


async def test_one_sees_ones_own_requests_and_how_many_there_are(
    node: FakeNode, api: AsgiClient
) -> None:
    node.queue = state(entry("bob", 1), entry("alice", 2), entry("alice", 3, estimate_s=None))
    answer = await api.get("/api/queue")

    assert answer.status == 200
    assert answer.json() == {
        "queue": [
            {
                "request_id": "r2",
                "model": "smollm2:135m",
                "position": 2,
                "reason": "loading",
                "waited_ms": 1500,
                "estimate_ms": 3250,
            },
            {
                "request_id": "r3",
                "model": "smollm2:135m",
                "position": 3,
                "reason": "loading",
                "waited_ms": 1500,
                "estimate_ms": None,
            },
        ],
        "on_slots": [],
        "running": 4,
        "waiting": 3,
        "slots": 6,
    }


async def test_empty_queue_is_an_empty_list(node: FakeNode, api: AsgiClient) -> None:
    assert (await api.get("/api/queue")).json() == {
        "queue": [],
        "on_slots": [],
        "running": 0,
        "waiting": 0,
        "slots": 0,
    }


@pytest.fixture
def admin_api(transactional_db: None, admin: User) -> AsgiClient:
    """The administrator with a key."""
    return AsgiClient(bearer_for(admin))


async def test_administrator_sees_all_with_their_users(
    node: FakeNode, admin_api: AsgiClient
) -> None:
    node.queue = state(entry("bob", 1), entry("root", 2))
    seen = (await admin_api.get("/api/queue")).json()["queue"]

    assert [(one["user"], one["position"]) for one in seen] == [("bob", 1), ("root", 2)]


async def test_administrator_is_not_told_of_private_models(
    node: FakeNode, model: str, admin_api: AsgiClient
) -> None:
    [listed] = (await admin_api.get("/api/tags")).json()["models"]
    shared = entry("bob", 1, model="bob/copy:latest", digest=listed["digest"])
    node.queue = state(shared, entry("bob", 2, model="bob/secret:latest"))
    seen = (await admin_api.get("/api/queue")).json()["queue"]

    assert [one["model"] for one in seen] == [model, None]


@pytest.fixture
def reading_admin_api(transactional_db: None, admin: User) -> AsgiClient:
    """The administrator with a key that only reads."""
    _, secret = create_key(admin, "reader", KeyRules(scopes=(Scope.READ,)))
    return AsgiClient({"authorization": f"Bearer {secret}"})


async def test_key_without_the_scope_of_administration_shows_ones_own(
    node: FakeNode, reading_admin_api: AsgiClient
) -> None:
    node.queue = state(entry("bob", 1), entry("root", 2))
    seen = (await reading_admin_api.get("/api/queue")).json()["queue"]

    assert [one["request_id"] for one in seen] == ["r2"]
    assert "user" not in seen[0]


async def test_engine_that_is_away_is_a_503(api: AsgiClient, settings: Any) -> None:
    settings.ENGINE_SOCKET = settings.RUN_DIR / "nobody.sock"

    assert (await api.get("/api/queue")).status == 503


async def test_what_runs_is_told_with_its_tokens(node: FakeNode, api: AsgiClient) -> None:
    mine, others = running("alice", "r1"), running("bob", "r2")
    node.queue = structs.replace(state(), on_slots=(mine, others))
    told = (await api.get("/api/queue")).json()

    assert told["on_slots"] == [
        {
            "request_id": "r1",
            "model": "smollm2:135m",
            "age_ms": 2500,
            "prompt_tokens": 31,
            "completion_tokens": 84,
            "tokens_per_s": 21.5,
        }
    ]


async def test_cancelled_answer_ends_in_an_error_and_the_ledger_says_left(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("Hello",), is_held=True))
    body = {"model": model, "messages": HELLO, "stream": False}
    asking = asyncio.create_task(api.post("/api/chat", body))
    request = await node.wait_for(Generate)
    cancelled = await api.post(f"/api/queue/{request.request_id}/cancel", {})
    answer = await asking

    assert cancelled.status == 204
    assert (answer.status, answer.json()) == (499, {"error": "request canceled"})
    await sync_to_async(ledger_writer.write_pending)()
    row = await LedgerEntry.objects.aget(user_name="alice")
    assert (row.outcome, row.error_code) == ("left", "")


async def test_streamed_answer_that_is_cancelled_tells_so_in_its_last_line(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(pieces=("Hello",), is_held=True))
    asking = asyncio.create_task(api.post("/api/chat", {"model": model, "messages": HELLO}))
    request = await node.wait_for(Generate)
    await asyncio.sleep(0.05)
    await api.post(f"/api/queue/{request.request_id}/cancel", {})
    answer = await asking

    assert json.loads(answer.text.splitlines()[0])["message"]["content"] == "Hello"
    assert json.loads(answer.text.splitlines()[-1]) == {"error": "request canceled"}


async def test_waiting_request_is_cancelled_too(node: FakeNode, api: AsgiClient) -> None:
    node.queue = state(entry("alice", 1))

    assert (await api.post("/api/queue/r1/cancel", {})).status == 204
    assert node.queue.entries == ()


async def test_somebody_elses_request_is_not_found_like_one_that_is_not_there(
    node: FakeNode, api: AsgiClient
) -> None:
    node.queue = state(entry("bob", 1))
    there = await api.post("/api/queue/r1/cancel", {})
    nowhere = await api.post("/api/queue/r2/cancel", {})

    assert there.status == nowhere.status == 404
    assert there.text == nowhere.text
    assert node.got(Withdraw) == []


async def test_operator_cancels_for_others_and_it_is_recorded(
    node: FakeNode, admin_api: AsgiClient
) -> None:
    node.queue = state(entry("bob", 1), entry("root", 2))
    for request_id in ("r1", "r2"):
        assert (await admin_api.post(f"/api/queue/{request_id}/cancel", {})).status == 204

    assert await sync_to_async(recorded)("request.cancel") == [("root", "bob")]


async def test_administrator_with_a_key_that_reads_cancels_nothing(
    node: FakeNode, reading_admin_api: AsgiClient
) -> None:
    node.queue = state(entry("bob", 1), entry("root", 2))

    for request_id in ("r1", "r2"):
        answer = await reading_admin_api.post(f"/api/queue/{request_id}/cancel", {})
        assert answer.status == 403


@pytest.mark.parametrize(("path", "body"), REQUESTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_answer_tells_how_long_it_waited_and_where_it_stood(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any], stream: bool
) -> None:
    node.scripts.append(Script(queue_ns=1_234_567_890, queue_position=3))
    answer = await api.post(path, {"model": model, **body, "stream": stream})

    assert (answer.headers["x-queue-ms"], answer.headers["x-queue-position"]) == ("1234", "3")


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_request_steps_back_where_it_asks_to(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    await api.post(path, {"model": model, **body}, headers={"x-priority": "batch"})

    assert (await node.wait_for(Generate)).priority is Priority.BATCH


async def test_request_with_a_key_is_a_programs(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    await api.post("/api/chat", {"model": model, "messages": HELLO})

    assert (await node.wait_for(Generate)).priority is Priority.API


PERSON = Principal(user_id=1, username="a", is_admin=False, kind=CredentialKind.SESSION)
PROGRAM = Principal(user_id=1, username="a", is_admin=False, kind=CredentialKind.KEY)


def asked_by(principal: Principal, **headers: str) -> Any:
    return SimpleNamespace(user=principal, headers=headers, path="/api/chat")


@pytest.mark.parametrize(
    ("principal", "text", "priority"),
    [
        (PERSON, "interactive", Priority.INTERACTIVE),
        (PERSON, "batch", Priority.BATCH),
        (PROGRAM, "api", Priority.API),
        (PROGRAM, " Batch ", Priority.BATCH),
    ],
)
def test_class_is_read_from_the_header(principal: Principal, text: str, priority: Any) -> None:
    assert caller_of(asked_by(principal, **{"X-Priority": text})).priority is priority


def test_people_at_a_page_go_before_programs() -> None:
    assert caller_of(asked_by(PERSON)).priority is Priority.INTERACTIVE
    assert caller_of(asked_by(PROGRAM)).priority is Priority.API


def test_key_that_tells_a_repetition_is_read() -> None:
    assert caller_of(asked_by(PROGRAM)).idempotency_key == ""
    assert caller_of(asked_by(PROGRAM, **{"Idempotency-Key": "a"})).idempotency_key == "a"


def test_overlong_key_for_repetitions_is_refused() -> None:
    with pytest.raises(BadRequest, match="at most 255 characters"):
        caller_of(asked_by(PROGRAM, **{"Idempotency-Key": "a" * 256}))


def test_refusal_names_what_the_caller_may_ask_for() -> None:
    with pytest.raises(BadRequest, match="X-Priority must be one of: interactive, api, batch"):
        caller_of(asked_by(PERSON, **{"X-Priority": "first"}))


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_class_that_is_not_for_keys_is_refused(
    node: FakeNode, model: str, api: AsgiClient, path: str, body: dict[str, Any]
) -> None:
    headers = {"x-priority": "interactive"}
    answer = await api.post(path, {"model": model, **body}, headers=headers)

    assert answer.status == 400
    assert "X-Priority must be one of: api, batch" in answer.text
    assert node.got(Generate) == []


async def test_cache_of_a_model_is_its_users_own(
    node: FakeNode, model: str, api: AsgiClient, alice: User
) -> None:
    await api.post("/api/chat", {"model": model, "messages": HELLO})
    request = await node.wait_for(Generate)

    assert (request.user, request.cache_group) == ("alice", f"user:{alice.pk}")


async def test_cached_tokens_are_told_where_there_are_any(
    node: FakeNode, model: str, api: AsgiClient
) -> None:
    node.scripts.append(Script(usage=Usage(prompt_tokens=10, cached_tokens=4)))
    body = {"model": model, "messages": HELLO, "stream": False}
    answer = (await api.post("/api/chat", body)).json()

    assert (answer["prompt_eval_count"], answer["prompt_eval_cached_count"]) == (10, 4)

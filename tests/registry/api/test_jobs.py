"""`/api/jobs`: the list, one job, cancelling, retrying, the events; what begins a job."""

import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app import jobs
from models_app.jobs import Claim, JobKind, JobRecord, JobState, NewJob, Snapshot
from models_app.keys import KeyRules, create_key
from models_app.models import Job, User
from models_app.permissions import Scope, Verb
from registry import library
from tests.conftest import MakeModel, principal_for
from tests.fakes.http import AsgiClient

pytestmark = pytest.mark.django_db(transaction=True)

FIRST = {"status": "pulling manifest"}
HALF = {
    "status": "pulling aaaaaaaaaaaa",
    "digest": f"sha256:{'a' * 64}",
    "total": 8,
    "completed": 4,
}
WHOLE = {**HALF, "completed": 8}
FAILURE = {"code": "registry_failed", "status": 500, "message": "down"}
ABSENT = "0" * 32


def queued(owner: User, *, kind: JobKind = JobKind.PULL, name: str = "tiny:latest") -> JobRecord:
    """Return a new job that nobody has been told of."""
    number = Job.objects.count()
    new = NewJob(
        kind=kind,
        owner_id=owner.pk,
        model_name=name,
        share_key=f"{number:064x}",
        arguments='{"name":"elsewhere.example/a/b"}',
    )
    made = jobs.add_or_share(new, most_queued=99)
    assert made is not None
    return made


def begun(owner: User, *events: dict[str, Any]) -> tuple[JobRecord, Claim]:
    """Return a job that a worker has taken up and reported these events of."""
    made = queued(owner)
    claimed = jobs.claim_next(most_running=99)
    assert claimed is not None
    snapshot = Snapshot(events=json.dumps(events), total_bytes=8, completed_bytes=4, bytes_per_s=2)
    jobs.save_progress(claimed.claim, snapshot)
    return made, claimed.claim


def ended(
    owner: User, *events: dict[str, Any], state: JobState, error: dict[str, Any] | None = None
) -> JobRecord:
    made, claim = begun(owner)
    jobs.end_job(claim, state, Snapshot(events=json.dumps(events)), error)
    return made


def client_of(user: User, *scopes: Scope) -> AsgiClient:
    _, secret = create_key(user, "key", KeyRules(scopes=scopes or tuple(Scope)))
    return AsgiClient({"authorization": f"Bearer {secret}"})


@pytest.fixture
def api(alice: User) -> AsgiClient:
    return client_of(alice)


# ------------------------------------------------------------------ the list


async def ids(api: AsgiClient, query: str = "") -> list[str]:
    answer = await api.get(f"/api/jobs{query}")
    assert answer.status == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


async def test_own_jobs_are_listed_newest_first(api: AsgiClient, alice: User, bob: User) -> None:
    first = await sync_to_async(queued)(alice)
    await sync_to_async(queued)(bob)
    second = await sync_to_async(queued)(alice)
    assert await ids(api) == [second.job_id, first.job_id]


async def test_list_is_of_a_state_or_a_kind_where_asked(api: AsgiClient, alice: User) -> None:
    failed = await sync_to_async(ended)(alice, state=JobState.FAILED, error=FAILURE)
    pull = await sync_to_async(queued)(alice)
    create = await sync_to_async(queued)(alice, kind=JobKind.CREATE)
    assert await ids(api, "?state=active") == [create.job_id, pull.job_id]
    assert await ids(api, "?state=ended") == [failed.job_id]
    assert await ids(api, "?kind=create") == [create.job_id]
    assert await ids(api, "?limit=1") == [create.job_id]


async def test_admin_sees_everybodys_jobs_where_they_ask(admin: User, alice: User) -> None:
    made = await sync_to_async(queued)(alice)
    api = await sync_to_async(client_of)(admin)
    assert await ids(api) == []
    assert await ids(api, "?all=1") == [made.job_id]


async def test_all_is_nothing_more_for_others(api: AsgiClient, bob: User) -> None:
    await sync_to_async(queued)(bob)
    assert await ids(api, "?all=1") == []


@pytest.mark.parametrize(
    "query",
    ["state=x", "kind=x", "limit=0", "limit=-1", "limit=501", "limit=x", "limit=²", "all=x"],
)
async def test_question_that_makes_no_sense_is_refused(api: AsgiClient, query: str) -> None:
    answer = await api.get(f"/api/jobs?{query}")
    assert answer.status == 400
    assert answer.json()["error"].startswith(f'"{query.partition("=")[0]}" must be ')


# ------------------------------------------------------------------ one job


async def test_job_tells_all_about_itself(api: AsgiClient, alice: User) -> None:
    made, _ = await sync_to_async(begun)(alice, FIRST, HALF)
    answer = await api.get(f"/api/jobs/{made.job_id}")
    job = answer.json()
    assert job.pop("created_at").endswith("Z")
    assert job.pop("started_at").endswith("Z")
    assert job == {
        "id": made.job_id,
        "kind": "pull",
        "state": "running",
        "model": "tiny:latest",
        "owner": "alice",
        "ended_at": None,
        "total": 8,
        "completed": 4,
        "bytes_per_second": 2,
        "remaining_seconds": 2.0,
        "layers": [HALF],
        "status": "pulling aaaaaaaaaaaa",
        "error": None,
        "attempt": 1,
        "detached": False,
    }


async def test_layer_is_told_as_it_was_last(api: AsgiClient, alice: User) -> None:
    made, _ = await sync_to_async(begun)(alice, HALF, WHOLE, {"status": "writing manifest"})
    job = (await api.get(f"/api/jobs/{made.job_id}")).json()
    assert (job["layers"], job["status"]) == ([WHOLE], "writing manifest")


async def test_failed_job_says_why(api: AsgiClient, alice: User) -> None:
    made = await sync_to_async(ended)(alice, state=JobState.FAILED, error=FAILURE)
    job = (await api.get(f"/api/jobs/{made.job_id}")).json()
    assert (job["state"], job["error"]) == (
        "failed",
        {"code": "registry_failed", "message": "down"},
    )
    assert job["ended_at"].endswith("Z")


async def test_admin_sees_the_job_of_another(admin: User, alice: User) -> None:
    made = await sync_to_async(queued)(alice)
    api = await sync_to_async(client_of)(admin)
    assert (await api.get(f"/api/jobs/{made.job_id}")).json()["owner"] == "alice"


@pytest.mark.parametrize(
    ("method", "part"), [("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/events")]
)
async def test_foreign_job_is_like_one_that_is_not_there(
    api: AsgiClient, bob: User, method: str, part: str
) -> None:
    foreign = await sync_to_async(queued)(bob)
    answers = [
        await api.request(method, f"/api/jobs/{job_id}{part}")
        for job_id in (foreign.job_id, ABSENT)
    ]
    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].text.replace(foreign.job_id, ABSENT) == answers[1].text
    assert answers[1].json() == {"error": f"job '{ABSENT}' not found"}
    state = await sync_to_async(jobs.read_job)(foreign.job_id)
    assert state == foreign


@pytest.mark.parametrize("job_id", ["x", "a\x00b", "🐫", "a" * 900])
async def test_text_that_is_no_id_is_not_found(api: AsgiClient, job_id: str) -> None:
    assert (await api.get(f"/api/jobs/{job_id}")).status == 404


async def test_cancelled_job_is_told_as_it_is_now(api: AsgiClient, alice: User) -> None:
    made = await sync_to_async(queued)(alice)
    answer = await api.request("POST", f"/api/jobs/{made.job_id}/cancel")
    assert (answer.status, answer.json()["state"]) == (200, "cancelled")


async def test_job_that_has_ended_cannot_be_cancelled(api: AsgiClient, alice: User) -> None:
    made = await sync_to_async(ended)(alice, state=JobState.SUCCEEDED)
    answer = await api.request("POST", f"/api/jobs/{made.job_id}/cancel")
    assert (answer.status, answer.json()["state"]) == (200, "succeeded")


async def test_retried_job_is_the_same_and_goes_on_by_itself(api: AsgiClient, alice: User) -> None:
    made = await sync_to_async(ended)(alice, state=JobState.FAILED, error=FAILURE)
    answer = await api.request("POST", f"/api/jobs/{made.job_id}/retry")
    job = answer.json()
    assert (answer.status, job["id"], job["detached"]) == (200, made.job_id, True)
    again = await sync_to_async(jobs.read_job)(made.job_id)
    assert again is not None
    assert (again.error or {}).get("code") != "registry_failed"


# ------------------------------------------------------------------ events


async def test_events_of_a_job_that_has_ended_are_all_told(api: AsgiClient, alice: User) -> None:
    success = {"status": "success"}
    made = await sync_to_async(ended)(alice, FIRST, WHOLE, success, state=JobState.SUCCEEDED)
    answer = await api.get(f"/api/jobs/{made.job_id}/events")
    assert answer.content_type == "application/x-ndjson"
    assert answer.lines() == [FIRST, WHOLE, success]


async def test_events_of_a_failed_job_end_in_its_error(api: AsgiClient, alice: User) -> None:
    made = await sync_to_async(ended)(alice, state=JobState.FAILED, error=FAILURE)
    answer = await api.get(f"/api/jobs/{made.job_id}/events")
    assert (answer.status, answer.lines()) == (200, [{"error": "down"}])


async def test_who_looks_on_and_leaves_cancels_nothing(api: AsgiClient, alice: User) -> None:
    made, _ = await sync_to_async(begun)(alice, FIRST)
    call = api.open("GET", f"/api/jobs/{made.job_id}/events")
    await call.wait_for_text("pulling manifest")
    await call.leave()
    row = await Job.objects.aget(job_id=made.job_id)
    assert (row.state, row.is_cancel_asked) == ("running", False)


# ------------------------------------------------------------------ what begins one


async def test_quantize_makes_a_smaller_model(
    api: AsgiClient, alice: User, make_model: MakeModel
) -> None:
    await sync_to_async(make_model)("base")
    body = {"kind": "quantize", "from": "base", "model": "small", "quantize": "F16"}
    answer = await api.post("/api/jobs", body)
    job = answer.json()
    assert (answer.status, job["kind"], job["detached"]) == (201, "quantize", True)
    events = await api.get(f"/api/jobs/{job['id']}/events")
    assert events.lines()[-1] == {"status": "success"}
    made = await sync_to_async(library.resolve)(principal_for(alice), "small", Verb.READ)
    assert made.name == "alice/small:latest"


@pytest.mark.parametrize("kind", ["verify", "gc"])
async def test_care_of_the_store_is_for_admins(api: AsgiClient, admin: User, kind: str) -> None:
    assert (await api.post("/api/jobs", {"kind": kind})).status == 403
    answer = await (await sync_to_async(client_of)(admin)).post("/api/jobs", {"kind": kind})
    assert (answer.status, answer.json()["kind"]) == (201, kind)
    limited = await sync_to_async(client_of)(admin, Scope.READ, Scope.WRITE)
    assert (await limited.post("/api/jobs", {"kind": kind})).status == 403


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, '"kind" must be one of pull, push, quantize, verify, gc'),
        ({"kind": "create"}, 400, '"kind" must be one of pull, push, quantize, verify, gc'),
        ({"kind": "pull"}, 400, "invalid model name"),
        ({"kind": "pull", "model": "a b"}, 400, "invalid model name"),
        ({"kind": "pull", "model": "elsewhere.example/a/b"}, 403, None),
        ({"kind": "push"}, 400, "model is required"),
        ({"kind": "quantize"}, 400, '"from" and "quantize" are required'),
        ({"kind": "quantize", "from": "a", "quantize": "Q8_0"}, 400, "invalid model name"),
        ({"kind": "quantize", "from": "a", "quantize": "Q8_0", "model": "bob/x"}, 403, None),
    ],
)
async def test_unusable_request_is_refused(
    api: AsgiClient, bob: User, body: dict[str, Any], status: int, message: str | None
) -> None:
    answer = await api.post("/api/jobs", body)
    assert answer.status == status, answer.text
    assert message in (None, answer.json()["error"])
    assert not await Job.objects.aexists()


async def test_key_that_may_only_read_begins_and_stops_nothing(alice: User) -> None:
    reading = await sync_to_async(client_of)(alice, Scope.READ)
    made = await sync_to_async(queued)(alice)
    assert (await reading.get("/api/jobs")).status == 200
    assert (await reading.get(f"/api/jobs/{made.job_id}")).status == 200
    for path in ("", f"/{made.job_id}/cancel", f"/{made.job_id}/retry"):
        assert (await reading.post(f"/api/jobs{path}", {"kind": "pull"})).status == 403

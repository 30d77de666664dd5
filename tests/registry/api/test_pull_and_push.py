"""`POST /api/pull` and `/api/push`, and `from` in create: what is told, who shares what."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.jobs import JobState
from models_app.keys import create_key
from models_app.models import Job, User
from models_app.permissions import Verb
from registry import library, manifests
from registry.sealing import open_sealed
from tests.conftest import MakeModel, principal_for
from tests.fakes.http import AsgiClient
from tests.fakes.registry import FakeRegistry, fake_registry
from tests.fakes.upload_registry import UploadRegistry, upload_registry_in_thread

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("job_worker")]

BAD_NAME = "a b"


@pytest.fixture
def remote(settings: Any, tiny_gguf: Path) -> Iterator[FakeRegistry]:
    """The default registry, which has the model `tiny`."""
    with fake_registry() as running:
        settings.ALLOWED_REGISTRIES = [f"http://{running.host}"]
        settings.DEFAULT_REGISTRY = f"http://{running.host}"
        layers = [
            (manifests.MODEL, tiny_gguf.read_bytes()),
            (manifests.TEMPLATE, b"{{ .Prompt }}"),
        ]
        running.add_manifest("library/tiny", layers)
        yield running


@pytest.fixture
def upload_to(settings: Any) -> Iterator[UploadRegistry]:
    """A registry to which this site may push."""
    with upload_registry_in_thread() as running:
        settings.ALLOWED_REGISTRIES = [f"http://{running.host}"]
        yield running


def client_of(user: User) -> AsgiClient:
    return AsgiClient({"authorization": f"Bearer {create_key(user, 'key')[1]}"})


@pytest.fixture
def api(alice: User) -> AsgiClient:
    return client_of(alice)


async def wait_for_end(job_id: str) -> Job:
    async with asyncio.timeout(60):
        while True:
            row = await Job.objects.aget(job_id=job_id)
            if row.state not in {JobState.QUEUED, JobState.RUNNING}:
                return row
            await asyncio.sleep(0.05)


# ------------------------------------------------------------------ pull


async def test_pull_tells_what_the_contract_says(
    api: AsgiClient, alice: User, remote: FakeRegistry
) -> None:
    answer = await api.post("/api/pull", {"model": "tiny"})
    assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
    lines = answer.lines()
    files = list(remote.blobs)
    statuses = list(dict.fromkeys(line["status"] for line in lines))
    assert statuses == [
        "pulling manifest",
        f"pulling {files[0][7:19]}",
        f"pulling {files[1][7:19]}",
        f"pulling {files[2][7:19]}",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    assert {line["digest"] for line in lines if "digest" in line} == set(files)
    # `completed` is not told while it is 0.
    fields = ["status", "digest", "total", "completed"]
    assert all(list(line) in (fields, fields[:3]) for line in lines[1:-3])
    model = await sync_to_async(library.resolve)(principal_for(alice), "tiny", Verb.READ)
    assert (model.name, model.template) == ("alice/tiny:latest", "{{ .Prompt }}")


async def test_pull_that_is_not_streamed_answers_success(
    api: AsgiClient, remote: FakeRegistry
) -> None:
    answer = await api.post("/api/pull", {"name": "tiny", "stream": False})
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.body == b'{"status":"success"}'


async def test_pull_of_what_the_registry_lacks_ends_in_its_words(
    api: AsgiClient, remote: FakeRegistry
) -> None:
    error = {"error": "pull model manifest: file does not exist"}
    streamed = await api.post("/api/pull", {"model": "absent"})
    assert (streamed.status, streamed.lines()) == (200, [{"status": "pulling manifest"}, error])
    whole = await api.post("/api/pull", {"model": "absent", "stream": False})
    assert (whole.status, whole.json(), whole.content_type) == (500, error, "application/json")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["", None, BAD_NAME, "x" * 500])
async def test_pull_of_what_is_no_name_is_refused(
    api: AsgiClient, remote: FakeRegistry, model: str | None, stream: bool
) -> None:
    answer = await api.post("/api/pull", {"model": model, "stream": stream})
    assert (answer.status, answer.json()) == (400, {"error": "invalid model name"})
    assert answer.content_type == "application/json"
    assert not await Job.objects.aexists()


@pytest.mark.parametrize("stream", [True, False])
async def test_registry_that_is_not_on_the_list_is_refused(api: AsgiClient, stream: bool) -> None:
    for path in ("pull", "push"):
        answer = await api.post(f"/api/{path}", {"model": "evil.example/a/b", "stream": stream})
        assert answer.status == 403
        assert answer.json()["error"].startswith("the registry 'evil.example' is not allowed here")


async def test_pull_into_the_namespace_of_another_is_refused(
    api: AsgiClient, bob: User, remote: FakeRegistry
) -> None:
    answer = await api.post("/api/pull", {"model": "bob/tiny"})
    assert answer.status == 403
    assert remote.asked == []


@pytest.mark.parametrize("path", ["/api/pull", "/api/push"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "missing request body"),
        ('{"stream":1}', "json: cannot unmarshal number into Go struct field"),
        ('{"model":[]}', "json: cannot unmarshal array into Go struct field"),
    ],
)
async def test_body_is_decoded_as_ollama_does(
    api: AsgiClient, path: str, body: str, message: str
) -> None:
    answer = await api.post(path, body=body.encode())
    assert answer.status == 400
    assert answer.json()["error"].startswith(message)


@pytest.mark.parametrize("path", ["/api/pull", "/api/push"])
async def test_other_methods_are_refused(api: AsgiClient, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status, answer.body) == (405, b"405 method not allowed")


async def test_password_is_stored_so_that_only_the_site_can_read_it(
    api: AsgiClient, remote: FakeRegistry
) -> None:
    body = {"model": "tiny", "username": "u", "password": "hunter2", "stream": False}
    assert (await api.post("/api/pull", body)).status == 200
    row = await Job.objects.aget()
    assert "hunter2" not in row.arguments
    assert "hunter2" not in row.share_key
    sealed = row.arguments.partition('"sealed_password":"')[2].partition('"')[0]
    assert open_sealed(sealed) == "hunter2"


# ------------------------------------------------------------------ sharing and leaving


async def pulling(api: AsgiClient, remote: FakeRegistry, **fields: Any) -> Any:
    """Begin a pull that takes long, and return the call when its first line is there."""
    remote.pause_s = 30.0
    call = api.open("POST", "/api/pull", data={"model": "tiny", **fields})
    await call.wait_for_text("pulling manifest")
    return call


@pytest.mark.parametrize("field", ["model", "username", "password"])
async def test_job_is_no_place_to_store_bytes(
    api: AsgiClient, remote: FakeRegistry, field: str
) -> None:
    body = {"model": "tiny", field: "x" * 20_000}
    for path in ("/api/push", "/api/pull"):
        assert (await api.post(path, body)).status == 400
    assert not await Job.objects.aexists()


async def test_who_asks_for_the_same_watches_the_same_job(
    api: AsgiClient, remote: FakeRegistry
) -> None:
    first = await pulling(api, remote)
    second = await pulling(api, remote)
    assert await Job.objects.acount() == 1
    await first.leave()
    assert not (await Job.objects.aget()).is_cancel_asked
    await second.leave()
    row = await wait_for_end((await Job.objects.aget()).job_id)
    assert row.state == JobState.CANCELLED


@pytest.mark.parametrize(
    "other",
    [
        {"username": "u"},
        {"username": "u", "password": "p"},
        {"insecure": True},
        {"model": "x/tiny"},
    ],
)
async def test_who_asks_otherwise_gets_a_job_of_their_own(
    api: AsgiClient, remote: FakeRegistry, other: dict[str, Any]
) -> None:
    call = await pulling(api, remote, username="u", password="q")
    another = await pulling(api, remote, **other)
    assert await Job.objects.acount() == 2
    await call.leave()
    await another.leave()


async def test_others_pull_a_model_of_their_own(
    api: AsgiClient, bob: User, remote: FakeRegistry
) -> None:
    calls = [
        await pulling(each, remote, model="elsewhere/tiny")
        for each in (api, await sync_to_async(client_of)(bob))
    ]
    assert await Job.objects.acount() == 2
    for call in calls:
        await call.leave()


async def test_detached_pull_goes_on_when_its_client_leaves(
    api: AsgiClient, remote: FakeRegistry
) -> None:
    call = await pulling(api, remote, detached=True)
    await call.leave()
    row = await Job.objects.aget()
    assert (row.is_detached, row.is_cancel_asked) == (True, False)
    cancelled = await api.post(f"/api/jobs/{row.job_id}/cancel")
    assert cancelled.status == 200
    assert (await wait_for_end(row.job_id)).state == JobState.CANCELLED


async def test_pull_that_somebody_cancels_says_so_in_its_last_line(
    api: AsgiClient, remote: FakeRegistry
) -> None:
    call = await pulling(api, remote)
    await api.post(f"/api/jobs/{(await Job.objects.aget()).job_id}/cancel")
    assert (await call.answer()).lines()[-1] == {"error": "the job was cancelled"}


# ------------------------------------------------------------------ push


async def test_push_tells_what_the_contract_says(
    api: AsgiClient, alice: User, upload_to: UploadRegistry, make_model: MakeModel
) -> None:
    await sync_to_async(make_model)("tiny", alice)
    name = f"{upload_to.host}/lab/tiny"
    await sync_to_async(library.copy_model)(principal_for(alice), "tiny", name)
    answer = await api.post("/api/push", {"model": name})
    statuses = list(dict.fromkeys(line["status"] for line in answer.lines()))
    assert statuses[0] == "retrieving manifest"
    assert {status[:8] for status in statuses[1:-2]} == {"pushing "}
    assert statuses[-2:] == ["pushing manifest", "success"]
    assert list(upload_to.manifests) == ["/v2/lab/tiny/manifests/latest"]
    whole = await api.post("/api/push", {"model": name, "stream": False})
    assert whole.body == b'{"status":"success"}'


@pytest.mark.parametrize("body", [{}, {"model": ""}, {"name": "", "stream": False}])
async def test_push_of_nothing_is_refused(api: AsgiClient, body: dict[str, Any]) -> None:
    answer = await api.post("/api/push", body)
    assert (answer.status, answer.json()) == (400, {"error": "model is required"})
    assert answer.content_type == "application/json"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("alice/absent", "model 'alice/absent' not found"),
        (BAD_NAME, "unqualified name: a b"),
        ("a\0b" + "x" * 900, "unqualified name: a\ufffdb" + "x" * 900),
    ],
)
async def test_push_of_what_is_not_here_tells_it_in_its_stream(
    api: AsgiClient, upload_to: UploadRegistry, settings: Any, name: str, error: str
) -> None:
    settings.DEFAULT_REGISTRY = f"http://{upload_to.host}"
    streamed = await api.post("/api/push", {"model": name})
    assert streamed.lines() == [
        {"status": "retrieving manifest"},
        {"status": "couldn't retrieve manifest"},
        {"error": error},
    ]
    whole = await api.post("/api/push", {"model": name, "stream": False})
    assert (whole.status, whole.json()) == (500, {"error": error})


async def test_foreign_private_model_is_not_there_for_a_push(
    api: AsgiClient, bob: User, upload_to: UploadRegistry, settings: Any, make_model: MakeModel
) -> None:
    settings.DEFAULT_REGISTRY = f"http://{upload_to.host}"
    await sync_to_async(make_model)("bob/secret", bob)
    answer = await api.post("/api/push", {"model": "bob/secret"})
    assert answer.lines()[-1] == {"error": "model 'bob/secret' not found"}
    assert upload_to.asked == []


# ------------------------------------------------------------------ create


async def test_create_pulls_its_base_where_it_is_not_here(
    api: AsgiClient, alice: User, remote: FakeRegistry
) -> None:
    answer = await api.post("/api/create", {"model": "mine", "from": "tiny", "system": "Be."})
    statuses = [line["status"] for line in answer.lines()]
    assert statuses[0] == "pulling manifest"
    assert statuses[-1] == "success"
    # Clients stop reading there.
    assert statuses.count("success") == 1
    model = await sync_to_async(library.resolve)(principal_for(alice), "mine", Verb.READ)
    assert (model.system, model.template) == ("Be.", "{{ .Prompt }}")
    assert await Job.objects.acount() == 1


async def test_create_from_what_no_registry_has_ends_in_the_pulls_words(
    api: AsgiClient, remote: FakeRegistry
) -> None:
    answer = await api.post("/api/create", {"model": "mine", "from": "absent"})
    assert answer.lines()[-1] == {"error": "pull model manifest: file does not exist"}


async def test_create_from_the_private_model_of_another_asks_no_registry(
    api: AsgiClient, bob: User, remote: FakeRegistry, make_model: MakeModel
) -> None:
    await sync_to_async(make_model)("bob/secret", bob)
    answer = await api.post("/api/create", {"model": "mine", "from": "bob/secret"})
    assert (answer.status, answer.json()) == (404, {"error": "model 'bob/secret' not found"})
    assert remote.asked == []

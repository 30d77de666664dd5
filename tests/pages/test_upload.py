"""Bringing a GGUF file as the page's script does it: begun, sent in pieces, a model made of it.

The script itself is tried in a browser; here is what it asks for, and what is refused.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from pytest_django import Settings

from models_app.models import Job, LanguageModel, UploadSession, User
from registry.blobs import blob_store
from registry.digest import Digest
from tests.credentials import CSRF_TOKEN
from tests.fakes.http import Answer, AsgiClient
from tests.pages.catalogue import add_model

FORM = "application/x-www-form-urlencoded"
Speak = Callable[[User], AsgiClient]


@pytest.fixture
def speak(transactional_db: None) -> Speak:
    """Return what sends requests as a browser in which somebody is signed in."""

    def as_user(user: User) -> AsgiClient:
        browser = Client()
        browser.force_login(user)
        session = browser.cookies["ollamasite_session"].value
        cookie = f"ollamasite_session={session}; csrftoken={CSRF_TOKEN}"
        return AsgiClient({"cookie": cookie, "x-csrftoken": CSRF_TOKEN})

    return as_user


async def send(client: AsgiClient, path: str, **fields: object) -> Answer:
    headers = {"content-type": FORM}
    return await client.request("POST", path, body=urlencode(fields).encode(), headers=headers)


async def begin(client: AsgiClient, name: str, size: int) -> dict[str, str]:
    answer = await send(client, "/models/upload/begin", name=name, size=size)
    assert answer.status == 201, answer.text
    begun: dict[str, str] = answer.json()
    return begun


async def patch(client: AsgiClient, url: str, first: int, piece: bytes) -> Answer:
    told = {"content-range": f"{first}-{first + len(piece) - 1}"}
    told["content-length"] = str(len(piece))
    return await client.request("PATCH", url, body=piece, headers=told)


async def finish(client: AsgiClient, begun: dict[str, str], name: str, size: int) -> Answer:
    known = {"session": begun["session"], "repository": begun["repository"]}
    return await send(client, "/models/upload/finish", **known, name=name, size=size)


async def test_file_in_pieces_becomes_a_model(speak: Speak, bob: User, tiny_gguf: Path) -> None:
    body = tiny_gguf.read_bytes()
    client = await sync_to_async(speak)(bob)
    begun = await begin(client, "mine:q8", len(body))
    assert begun["url"] == f"/v2/bob/mine/blobs/uploads/{begun['session']}"
    assert begun["model"] == "bob/mine:q8"

    half = len(body) // 2
    first = await patch(client, begun["url"], 0, body[:half])
    assert (first.status, first.headers["x-upload-bytes"]) == (202, str(half))
    told = await client.get(begun["url"])
    assert (told.status, told.headers["x-upload-bytes"]) == (204, str(half))
    await patch(client, begun["url"], half, body[half:])
    answer = await finish(client, begun, "mine:q8", len(body))

    assert answer.status == 200, answer.text
    job = await Job.objects.aget()
    assert answer.json() == {"job": f"/jobs/{job.job_id}"}
    assert (job.kind, job.state, job.model_name) == ("create", "succeeded", "bob/mine:q8")
    assert await LanguageModel.objects.filter(namespace="bob", name="mine").acount() == 1
    assert blob_store().exists(Digest.of(body))
    assert not await UploadSession.objects.aexists()


async def test_piece_that_does_not_go_on_is_refused_with_the_place(speak: Speak, bob: User) -> None:
    client = await sync_to_async(speak)(bob)
    begun = await begin(client, "mine", 1000)
    await patch(client, begun["url"], 0, b"x" * 100)

    answer = await patch(client, begun["url"], 50, b"x" * 10)

    assert (answer.status, answer.headers["x-upload-bytes"]) == (416, "100")


async def test_file_that_is_not_whole_is_not_taken(speak: Speak, bob: User) -> None:
    client = await sync_to_async(speak)(bob)
    begun = await begin(client, "mine", 1000)
    await patch(client, begun["url"], 0, b"x" * 100)

    answer = await finish(client, begun, "mine", 1000)

    assert answer.status == 416
    assert await UploadSession.objects.acount() == 1


async def test_file_that_is_no_gguf_fails_in_words(speak: Speak, bob: User) -> None:
    client = await sync_to_async(speak)(bob)
    begun = await begin(client, "mine", 8)
    await patch(client, begun["url"], 0, b"GGUF" + b"\xff" * 4)

    answer = await finish(client, begun, "mine", 8)

    job = await Job.objects.aget()
    assert answer.json() == {"job": f"/jobs/{job.job_id}"}
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "invalid_gguf"


@pytest.mark.parametrize(
    "refusal", [("mine", 0, 503), ("alice/theirs", 16, 403)], ids=["jobs", "name"]
)
async def test_upload_that_no_model_can_be_made_of_now_stays(
    speak: Speak,
    bob: User,
    tiny_gguf: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[str, int, int],
) -> None:
    name, most_queued, status = refusal
    client, file = await sync_to_async(speak)(bob), await sync_to_async(tiny_gguf.read_bytes)()
    begun = await begin(client, "mine", len(file))
    assert (await patch(client, begun["url"], 0, file)).status == 202
    with monkeypatch.context() as patched:
        patched.setattr("registry.jobs.submit.MOST_QUEUED", most_queued)
        refused = await finish(client, begun, name, len(file))

    assert refused.status == status
    assert (await finish(client, begun, "mine", len(file))).status == 200
    assert await Job.objects.acount() == 1


async def test_others_upload_is_not_there(speak: Speak, bob: User, alice: User) -> None:
    own = await sync_to_async(speak)(bob)
    begun = await begin(own, "mine", 100)
    await patch(own, begun["url"], 0, b"x" * 100)
    other = await sync_to_async(speak)(alice)  # who runs the site, and is not whose it is

    assert (await other.get(begun["url"])).status == 404
    assert (await finish(other, begun, "mine", 100)).status == 404
    assert (await patch(other, begun["url"], 100, b"x")).status == 404
    assert await UploadSession.objects.acount() == 1


async def test_upload_is_given_up(speak: Speak, bob: User) -> None:
    client = await sync_to_async(speak)(bob)
    begun = await begin(client, "mine", 100)

    assert (await client.request("DELETE", begun["url"])).status == 204
    assert (await client.get(begun["url"])).status == 404


async def test_bytes_without_the_token_are_nobodys(speak: Speak, bob: User) -> None:
    client = await sync_to_async(speak)(bob)
    begun = await begin(client, "mine", 100)

    answer = await client.request(
        "PATCH", begun["url"], body=b"x", headers={"x-csrftoken": "b" * 32}
    )

    assert answer.status == 401


# ------------------------------------------------------------------ refused before a byte is sent


def post(client: Client, path: str, **fields: object) -> Any:
    page = client.get("/models/upload").content.decode()
    found = re.search(r'value="([^"]{64})"', page)
    assert found
    headers = {"accept": "*/*", "x-csrftoken": found[1]}
    return client.post(path, {name: str(value) for name, value in fields.items()}, headers=headers)


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"name": "mine", "size": 0}, 400, "the file is empty"),
        ({"name": "mine", "size": 2**40 + 1}, 413, "a file may have 1.0 TiB at most"),
        ({"name": "mine", "size": "many"}, 400, "size: Enter a whole number."),
        ({"name": "mine", "size": -1}, 400, "size: "),
        ({"name": "", "size": 9}, 400, "name: This field is required."),
        ({"name": "<script>", "size": 9}, 400, "invalid model name"),
        ({"name": "alice/theirs", "size": 9}, 403, "you may not write to the namespace 'alice'"),
        ({"name": "other.example/a/b", "size": 9}, 400, "leave its host out"),
    ],
)
def test_upload_is_refused_in_words_before_it_begins(
    as_bob: Client, fields: dict[str, object], status: int, told: str
) -> None:
    answer = post(as_bob, "/models/upload/begin", **fields)

    assert answer.status_code == status
    assert told in answer.json()["error"]
    assert not UploadSession.objects.exists()
    assert not LanguageModel.objects.exists()


def test_quota_is_told_before_it_begins(as_bob: Client, settings: Settings) -> None:
    settings.NAMESPACE_QUOTA_BYTES = 1024**2

    answer = post(as_bob, "/models/upload/begin", name="mine", size=1024**2 + 1)

    assert answer.status_code == 413
    assert answer.json()["error"] == "the namespace 'bob' may hold 1.0 MiB at most"
    assert not LanguageModel.objects.exists()


def test_full_disk_is_told_before_it_begins(
    as_bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.disk_space._LEFT_FREE_BYTES", 2**62)

    answer = post(as_bob, "/models/upload/begin", name="mine", size=9)

    assert answer.status_code == 507
    assert "not enough disk space" in answer.json()["error"]


def test_tag_that_stays_is_told_before_it_begins(
    as_bob: Client, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_model("bob/mine:v1", owner_id=bob.pk)
    monkeypatch.setattr("models_app.namespaces.is_immutable", lambda *_: True)

    assert post(as_bob, "/models/upload/begin", name="mine:v1", size=9).status_code == 403
    assert post(as_bob, "/models/upload/begin", name="mine:v2", size=9).status_code == 201


def test_too_many_uploads_are_told(as_bob: Client) -> None:
    for number in range(16):
        assert post(as_bob, "/models/upload/begin", name=f"m{number}", size=9).status_code == 201

    answer = post(as_bob, "/models/upload/begin", name="more", size=9)

    assert answer.status_code == 429
    assert "16 uploads at once" in answer.json()["error"]


@pytest.mark.parametrize("act", ["begin", "finish"])
def test_nothing_is_done_by_looking_or_without_the_token(as_bob: Client, act: str) -> None:
    assert as_bob.get(f"/models/upload/{act}").status_code == 405
    assert as_bob.post(f"/models/upload/{act}", {"name": "mine", "size": "9"}).status_code == 403
    assert not UploadSession.objects.exists()


def test_page_tells_what_a_file_may_have(as_bob: Client, settings: Settings) -> None:
    settings.MAX_BLOB_BYTES = 5 * 10**9

    text = as_bob.get("/models/upload").content.decode()

    assert "A file may have 5.0 GB." in text
    assert 'data-most="5000000000"' in text

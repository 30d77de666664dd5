"""`HEAD` and `POST /api/blobs/<digest>`: files come in, whole or not at all (contract 1.9, 2.5)."""

import asyncio
import errno
import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from models_app.keys import KeyRules, create_key
from models_app.models import Namespace, Upload, User
from models_app.permissions import Scope
from registry.blobs import BlobStore, Draft
from registry.digest import Digest
from tests.conftest import MakeModel
from tests.fakes.http import AsgiClient
from tests.model_layers import add_layer

pytestmark = pytest.mark.django_db(transaction=True)

BODY = b"hello world"
DIGEST = Digest.of(BODY)
PATH = f"/api/blobs/{DIGEST}"
MiB = 1024 * 1024


def speaking_for(user: User) -> AsgiClient:
    return AsgiClient({"authorization": f"Bearer {create_key(user, 'test key')[1]}"})


@pytest.fixture
def api(alice: User) -> AsgiClient:
    return speaking_for(alice)


@pytest.fixture
def bob_api(bob: User) -> AsgiClient:
    return speaking_for(bob)


def files_of(store: BlobStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir()) if store.root.exists() else []


async def test_new_file_is_stored(api: AsgiClient, store: BlobStore) -> None:
    answer = await api.post(PATH, body=BODY)

    assert (answer.status, answer.body) == (201, b"")
    assert "content-type" not in answer.headers
    assert store.path(DIGEST).read_bytes() == BODY


async def test_file_that_is_there_is_not_stored_again(api: AsgiClient, store: BlobStore) -> None:
    await api.post(PATH, body=BODY)
    inode = store.path(DIGEST).stat().st_ino
    answer = await api.post(PATH, body=BODY)

    assert (answer.status, answer.body) == (200, b"")
    assert store.path(DIGEST).stat().st_ino == inode


async def test_head_tells_whether_the_file_is_there(api: AsgiClient) -> None:
    before = await api.request("HEAD", PATH)
    await api.post(PATH, body=BODY)
    after = await api.request("HEAD", PATH)

    assert (before.status, after.status) == (404, 200)
    assert "content-type" not in after.headers


async def test_dash_reads_as_colon_where_the_file_is_there(api: AsgiClient) -> None:
    await api.post(PATH, body=BODY)
    path = PATH.replace(":", "-")

    assert (await api.request("HEAD", path)).status == 200
    assert (await api.post(path, body=BODY)).status == 200


@pytest.mark.parametrize(
    "text", [f"sha256-{DIGEST.hex}", f"sha256:{DIGEST.hex.upper()}", f"sha256:{'0' * 64}"]
)
async def test_bytes_of_another_digest_are_refused(
    api: AsgiClient, store: BlobStore, text: str
) -> None:
    answer = await api.post(f"/api/blobs/{text}", body=BODY)

    assert answer.status == 400
    assert answer.json() == {"error": f'digest mismatch, expected "{text}", got "{DIGEST}"'}
    assert files_of(store) == []


@pytest.mark.parametrize(
    "text", ["sha256:zz", "sha256:", "x", f"md5:{'0' * 64}", f"sha256:{'0' * 65}", "..", "%2e%2e"]
)
@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_bad_digest_is_refused(api: AsgiClient, method: str, text: str) -> None:
    answer = await api.request(method, f"/api/blobs/{text}", body=BODY)

    assert answer.status == 400
    if method == "POST":
        assert answer.json() == {"error": "invalid digest format"}
        assert answer.content_type == "application/json; charset=utf-8"


async def test_empty_file_is_a_file(api: AsgiClient) -> None:
    digest = Digest.of(b"")

    assert (await api.post(f"/api/blobs/{digest}")).status == 201
    assert (await api.request("HEAD", f"/api/blobs/{digest}")).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_refused(api: AsgiClient, method: str) -> None:
    answer = await api.request(method, PATH)

    assert (answer.status, answer.text) == (405, "405 method not allowed")
    assert answer.headers["allow"] == "HEAD, POST"


# ------------------------------------------------------------------ who may


async def test_no_key_no_upload(db: None, store: BlobStore) -> None:
    answer = await AsgiClient().post(PATH, body=BODY)

    assert (answer.status, answer.json()) == (401, {"error": "unauthorized"})
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert files_of(store) == []


async def test_key_needs_the_scope_to_write(alice: User, store: BlobStore) -> None:
    secret = (await sync_to_async(create_key)(alice, "reads", KeyRules(scopes=(Scope.READ,))))[1]
    answer = await AsgiClient({"x-api-key": secret}).post(PATH, body=BODY)

    assert (answer.status, answer.json()) == (403, {"error": "forbidden"})
    assert files_of(store) == []


@pytest.fixture
def session(alice: User) -> dict[str, str]:
    client = Client()
    client.force_login(alice)
    token = "a" * 32
    cookie = f"ollamasite_session={client.cookies['ollamasite_session'].value}; csrftoken={token}"
    return {"cookie": cookie, "x-csrftoken": token}


async def test_session_with_its_token_may_upload(session: dict[str, str]) -> None:
    headers = {**session, "content-type": "multipart/form-data"}

    assert (await AsgiClient(headers).post(PATH, body=BODY)).status == 201


async def test_cookie_without_its_token_is_nobody(session: dict[str, str]) -> None:
    headers = {"cookie": session["cookie"]}

    assert (await AsgiClient(headers).post(PATH, body=BODY)).status == 401


async def test_file_of_another_user_looks_absent(api: AsgiClient, bob_api: AsgiClient) -> None:
    await bob_api.post(PATH, body=BODY)

    assert (await api.request("HEAD", PATH)).status == 404


async def test_file_of_another_user_is_answered_as_if_it_were_new(
    api: AsgiClient, bob_api: AsgiClient
) -> None:
    await bob_api.post(PATH, body=BODY)
    statuses = [(await api.post(PATH, body=BODY)).status for _ in range(2)]

    assert statuses == [201, 200]
    assert (await api.request("HEAD", PATH)).status == 200


async def test_one_must_have_the_bytes_to_be_let_at_a_file(
    api: AsgiClient, bob_api: AsgiClient, store: BlobStore
) -> None:
    await bob_api.post(PATH, body=BODY)
    answer = await api.post(PATH, body=b"a guess")

    assert answer.status == 400
    assert (await api.request("HEAD", PATH)).status == 404
    assert store.path(DIGEST).read_bytes() == BODY


async def test_layers_of_a_model_are_there_for_those_who_may_see_it(
    api: AsgiClient, bob_api: AsgiClient, alice: User, make_model: MakeModel
) -> None:
    await sync_to_async(make_model)("secret", alice)
    layer = await sync_to_async(add_layer)("alice/secret", "application/x-test", BODY)

    assert (await api.request("HEAD", f"/api/blobs/sha256:{layer}")).status == 200
    assert (await bob_api.request("HEAD", f"/api/blobs/sha256:{layer}")).status == 404


# ------------------------------------------------------------------ what goes wrong on the way


def draft_bytes(store: BlobStore) -> int:
    return sum(path.stat().st_size for path in store.root.iterdir())


async def test_client_that_leaves_leaves_nothing(api: AsgiClient, store: BlobStore) -> None:
    call = api.open("POST", PATH, body=[b"x" * MiB] * 6, is_whole=False)
    while not store.root.exists() or draft_bytes(store) < 4 * MiB:
        await asyncio.sleep(0.01)
    await call.leave()

    assert call.chunks == ()
    assert files_of(store) == []
    assert not await Upload.objects.aexists()


async def test_client_that_falls_silent_is_told_to_go(
    api: AsgiClient, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.blob_app._IDLE_S", 0.1)
    call = api.open("POST", PATH, body=[b"hello "], is_whole=False)
    answer = await call.answer()

    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert files_of(store) == []


async def test_oversized_file_is_refused_before_it_is_read(
    api: AsgiClient, store: BlobStore, settings: Any
) -> None:
    settings.MAX_BLOB_BYTES = 10
    answer = await api.post(PATH, body=BODY, headers={"content-length": str(len(BODY))})

    assert (answer.status, answer.json()) == (413, {"error": "request body too large"})
    assert files_of(store) == []


async def test_file_that_grows_too_large_is_refused(
    api: AsgiClient, store: BlobStore, settings: Any
) -> None:
    settings.MAX_BLOB_BYTES = 2 * MiB
    answer = await api.post(PATH, body=[b"x" * MiB] * 4)

    assert (answer.status, answer.json()) == (413, {"error": "request body too large"})
    assert files_of(store) == []


async def test_file_may_be_larger_than_other_bodies(api: AsgiClient, settings: Any) -> None:
    settings.MAX_BODY_BYTES = 4

    assert (await api.post(PATH, body=BODY)).status == 201


async def test_disk_without_room_is_told_before_the_file_is_read(
    api: AsgiClient, store: BlobStore
) -> None:
    answer = await api.post(PATH, body=BODY, headers={"content-length": str(10**12)})

    assert answer.status == 507
    assert answer.json()["error"].startswith("not enough disk space")
    assert files_of(store) == []


async def test_file_of_unknown_size_leaves_the_site_some_room(
    api: AsgiClient, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than any disk has: what is free changes while other tests write and delete.
    monkeypatch.setattr("registry.disk_space._LEFT_FREE_BYTES", 2**62)
    answer = await api.post(PATH, body=BODY)

    assert answer.status == 507
    assert files_of(store) == []


async def test_quota_is_told_before_the_file_is_read(api: AsgiClient, store: BlobStore) -> None:
    await Namespace.objects.acreate(name="alice", quota_bytes=len(BODY) - 1)
    answer = await api.post(PATH, body=BODY, headers={"content-length": str(len(BODY))})

    assert answer.status == 413
    assert answer.json() == {"error": "the namespace 'alice' may hold 10 B at most"}
    assert files_of(store) == []


async def test_quota_holds_for_a_file_of_unknown_size(api: AsgiClient, store: BlobStore) -> None:
    await Namespace.objects.acreate(name="alice", quota_bytes=len(BODY) - 1)

    assert (await api.post(PATH, body=BODY)).status == 413
    assert files_of(store) == []


@pytest.mark.parametrize("length", ["9" * 5000, "0" * 5000 + "1", "-1", "\xb2"])
async def test_odd_length_is_no_failure(api: AsgiClient, length: str) -> None:
    answer = await api.post(PATH, body=BODY, headers={"content-length": length})

    assert answer.status in {201, 413}


async def test_disk_that_fills_up_is_told(
    api: AsgiClient, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, chunk: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    begin = Draft.__init__

    def begin_on_full_disk(self: Draft, store: BlobStore) -> None:
        begin(self, store)
        self._file = FullDisk(self._file)  # type: ignore[assignment]

    monkeypatch.setattr(Draft, "__init__", begin_on_full_disk)
    answer = await api.post(PATH, body=BODY)

    assert (answer.status, answer.json()) == (507, {"error": "not enough disk space"})
    assert files_of(store) == []


async def test_memory_stays_flat_while_a_large_file_comes(
    api: AsgiClient, store: BlobStore
) -> None:
    piece = b"x" * 65536
    count = 64 * MiB // len(piece)
    hasher = hashlib.sha256()
    for _ in range(count):
        hasher.update(piece)
    tracemalloc.start()
    answer = await api.post(f"/api/blobs/sha256:{hasher.hexdigest()}", body=[piece] * count)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert answer.status == 201
    assert store.size_bytes(Digest(hasher.hexdigest())) == 64 * MiB
    # Batches of 4 MiB: one that is gathered, the same put together, two that wait to be written.
    assert peak_bytes < 24 * MiB


async def test_two_may_send_the_same_file_at_once(
    api: AsgiClient, bob_api: AsgiClient, store: BlobStore
) -> None:
    calls = [client.open("POST", PATH, body=[b"hello ", b"world"]) for client in (api, bob_api)]
    answers = [await call.answer() for call in calls]

    assert [answer.status for answer in answers] == [201, 201]
    assert files_of(store) == [DIGEST.file_name]


# ------------------------------------------------------------------ what becomes of it


async def test_upload_becomes_a_model_and_goes_with_it(
    api: AsgiClient, store: BlobStore, tiny_gguf: Path
) -> None:
    body = tiny_gguf.read_bytes()
    digest = Digest.of(body)
    path = f"/api/blobs/{digest}"
    await api.post(path, body=body)
    create = {"model": "mine", "files": {"tiny.gguf": str(digest)}, "stream": False}
    created = await api.post("/api/create", create)
    assert (created.status, created.json()) == (200, {"status": "success"})
    assert (await api.request("HEAD", path)).status == 200
    await api.request("DELETE", "/api/delete", data={"model": "mine"})

    assert (await api.request("HEAD", path)).status == 404
    assert files_of(store) == []

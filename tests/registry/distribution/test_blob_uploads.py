"""`/v2/<name>/blobs/uploads/…`: files come into a repository (registry.md 1.5, 2.1, 2.3, 2.5)."""

import asyncio
import errno
import os
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from models_app.models import LanguageModel, Namespace, RepositoryBlob, UploadSession, User
from models_app.permissions import Scope
from registry import upload_sessions
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.raw_bodies import BATCH_BYTES
from tests.fakes.http import Answer, AsgiClient
from tests.registry.distribution.test_blobs import code_of, put_file, speaking_for

pytestmark = pytest.mark.django_db(transaction=True)

BODY = b"hello world"
DIGEST = Digest.of(BODY)
NAME = "alice/model"
START = f"/v2/{NAME}/blobs/uploads/"
FILE = f"/v2/{NAME}/blobs/{DIGEST}"
ORIGIN = "http://localhost:11434"
MiB = 1024 * 1024


@pytest.fixture
def api(alice: User) -> AsgiClient:
    return speaking_for(alice)


def files_of(store: BlobStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir()) if store.root.exists() else []


def path_of(answer: Answer) -> str:
    """Return where an answer leads; only absolute URLs are any good for a real Ollama."""
    location = answer.headers["location"]
    assert location.startswith(f"{ORIGIN}/v2/")
    return location.removeprefix(ORIGIN)


async def begin(api: AsgiClient, path: str = START) -> str:
    answer = await api.request("POST", path)
    assert (answer.status, answer.body) == (202, b"")
    return path_of(answer)


async def send(
    api: AsgiClient, session: str, body: bytes, chunk: str | None = None, **kwargs: Any
) -> Answer:
    headers = {"content-length": str(len(body))} | ({"content-range": chunk} if chunk else {})
    return await api.request("PATCH", session, body=body, headers=headers, **kwargs)


async def close(
    api: AsgiClient, session: str, digest: object = DIGEST, body: bytes = b""
) -> Answer:
    separator = "&" if "?" in session else "?"
    headers = {"content-length": str(len(body))}
    path = f"{session}{separator}digest={digest}"
    return await api.request("PUT", path, body=body, headers=headers)


async def received(api: AsgiClient, session: str) -> tuple[int, str, str]:
    answer = await api.get(session)
    assert path_of(answer) == session
    return answer.status, answer.headers["range"], answer.headers["x-upload-bytes"]


# ------------------------------------------------------------------ the ways to push a file


async def test_post_gives_a_session(api: AsgiClient) -> None:
    answer = await api.request("POST", START)
    session = path_of(answer)

    assert answer.status == 202
    assert session.startswith(START)
    assert answer.headers["docker-upload-uuid"] == session.rpartition("/")[2]
    assert (answer.headers["range"], answer.headers["x-upload-bytes"]) == ("0-0", "0")
    assert answer.headers["content-length"] == "0"


async def test_post_and_put_store_a_file(api: AsgiClient, store: BlobStore) -> None:
    answer = await close(api, await begin(api), body=BODY)

    assert answer.status == 201
    assert answer.headers["docker-content-digest"] == str(DIGEST)
    assert path_of(answer) == FILE
    assert (await api.get(FILE)).body == BODY
    assert files_of(store) == [DIGEST.file_name]
    assert not await UploadSession.objects.aexists()


async def test_single_post_stores_a_file(api: AsgiClient, store: BlobStore) -> None:
    headers = {"content-length": str(len(BODY))}
    path = f"{START}?digest={DIGEST}"
    answer = await api.request("POST", path, body=BODY, headers=headers)

    assert (answer.status, path_of(answer)) == (201, FILE)
    assert (await api.get(FILE)).body == BODY
    assert files_of(store) == [DIGEST.file_name]


async def test_post_that_names_a_digest_and_has_no_body_gives_a_session(api: AsgiClient) -> None:
    # As Ollama's second upload code asks whether the file is there (registry.md 1.7).
    session = await begin(api, f"{START}?digest={DIGEST}")

    assert (await close(api, session, body=BODY)).status == 201


@pytest.mark.parametrize("query", ["digest", "mount"])
async def test_file_that_the_repository_has_is_not_sent_again(api: AsgiClient, query: str) -> None:
    await close(api, await begin(api), body=BODY)
    answer = await api.request("POST", f"{START}?{query}={DIGEST}")

    assert (answer.status, path_of(answer)) == (201, FILE)
    assert not await UploadSession.objects.aexists()


@pytest.mark.parametrize("last_by_put", [False, True])
async def test_chunks_in_order_become_a_file(api: AsgiClient, *, last_by_put: bool) -> None:
    session = await begin(api)
    first = await send(api, session, b"hello ", "0-5")
    second = await send(api, path_of(first), b"wor", "6-8")

    assert (first.status, first.headers["range"]) == (202, "0-5")
    assert (second.status, second.headers["range"]) == (202, "0-8")
    if not last_by_put:
        assert (await send(api, path_of(second), b"ld", "9-10")).status == 202
    answer = await close(api, path_of(second), body=b"ld" if last_by_put else b"")
    assert answer.status == 201
    assert (await api.get(FILE)).body == BODY


async def test_stream_without_chunks_becomes_a_file(api: AsgiClient) -> None:
    session = await begin(api)
    answer = await api.request(
        "PATCH", session, body=[b"hello", b" world"], headers={"transfer-encoding": "chunked"}
    )

    assert (answer.status, answer.headers["x-upload-bytes"]) == (202, "11")
    assert (await close(api, session)).status == 201


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_tiny_files_are_files(api: AsgiClient, body: bytes) -> None:
    digest = Digest.of(body)
    answer = await close(api, await begin(api), digest, body)
    path = f"/v2/{NAME}/blobs/{digest}"
    head = await api.request("HEAD", path)

    assert (answer.status, head.status, head.headers["content-length"]) == (
        201,
        200,
        str(len(body)),
    )
    assert (await api.get(path)).body == body
    assert (await api.request("DELETE", path)).status == 202


async def test_empty_file_is_stored_by_a_single_post(api: AsgiClient) -> None:
    answer = await api.request("POST", f"{START}?digest={Digest.of(b'')}")

    assert answer.status == 201


async def test_ollama_pushes_as_it_does(api: AsgiClient) -> None:
    # registry.md 1.5: no "bytes", its own headers, an etag in the last request.
    ours = {"content-type": "application/octet-stream", "x-redirect-uploads": "1"}
    session = await begin(api)
    for part, chunk in ((b"hello ", "0-5"), (b"world", "6-10")):
        headers = {**ours, "content-range": chunk, "content-length": str(len(part))}
        answer = await api.request("PATCH", session, body=part, headers=headers)
        session = path_of(answer)
    path = f"{session}?digest={DIGEST}&etag=5eb63bbbe01eeda093cb22bb8f5acdc3-2"
    answer = await api.request("PUT", path, headers={"content-length": "0"})

    assert answer.status == 201


async def test_new_file_needs_no_repository_before(api: AsgiClient) -> None:
    await close(api, await begin(api), body=BODY)

    model = await LanguageModel.objects.aget()
    assert (model.namespace, model.name, model.visibility) == ("alice", "model", "private")


# ------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize("chunk", ["6-16", "1-11", "0-9", "0-11", "bytes 0-10/11", "abc", "9-0"])
async def test_chunk_out_of_order_is_refused_and_leaves_what_was_there(
    api: AsgiClient, chunk: str
) -> None:
    session = await begin(api)
    refused = await send(api, session, BODY, chunk)

    assert (refused.status, code_of(refused)) == (416, "BLOB_UPLOAD_INVALID")
    assert (path_of(refused), refused.headers["range"]) == (session, "0-0")
    assert await received(api, session) == (204, "0-0", "0")
    assert (await send(api, session, BODY, "0-10")).status == 202
    assert (await close(api, session)).status == 201


async def test_same_chunk_again_is_refused(api: AsgiClient) -> None:
    session = await begin(api)
    await send(api, session, b"hello ", "0-5")
    again = await send(api, session, b"hello ", "0-5")

    assert (again.status, again.headers["range"]) == (416, "0-5")
    assert await received(api, session) == (204, "0-5", "6")


async def test_put_with_a_chunk_out_of_order_is_refused(api: AsgiClient) -> None:
    session = await begin(api)
    await send(api, session, b"hello ")
    headers = {"content-range": "0-4", "content-length": "5"}
    path = f"{session}?digest={DIGEST}"
    refused = await api.request("PUT", path, body=b"world", headers=headers)

    assert refused.status == 416
    assert (await close(api, session, body=b"world")).status == 201


@pytest.mark.parametrize("sent", [b"hel", b"hello wo"])
async def test_chunk_of_another_length_than_it_says_is_refused(
    api: AsgiClient, sent: bytes
) -> None:
    session = await begin(api)
    headers = {"content-range": "0-5", "transfer-encoding": "chunked"}
    refused = await api.request("PATCH", session, body=sent, headers=headers)

    assert refused.status == 416
    assert int((await received(api, session))[2]) in {0, 3}


@pytest.mark.parametrize("way", ["put", "chunked", "stream", "last by put", "post"])
async def test_wrong_digest_is_refused_and_ends_the_upload(
    api: AsgiClient, store: BlobStore, way: str
) -> None:
    wrong = Digest.of(b"something else")
    length = {"content-length": str(len(BODY))}
    if way == "post":
        path = f"{START}?digest={wrong}"
        answer = await api.request("POST", path, body=BODY, headers=length)
    else:
        session = await begin(api)
        early = {"put": b"", "last by put": b"hello "}.get(way, BODY)
        if early:
            chunk = None if way == "stream" else f"0-{len(early) - 1}"
            assert (await send(api, session, early, chunk)).status == 202
        answer = await close(api, session, wrong, BODY[len(early) :])
        assert (await api.get(session)).status == 404

    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")
    assert files_of(store) == []
    assert (await api.get(f"/v2/{NAME}/blobs/{wrong}")).status == 404


BAD_DIGESTS = [
    "",
    "x",
    "../../../../etc/passwd",
    "sha256:..%2F..%2Fx",
    f"sha256:{DIGEST.hex.upper()}",
    f"sha256-{DIGEST.hex}",
    f"sha512:{'0' * 128}",
    f"sha256:{DIGEST.hex}%00",
    f"sha256:{DIGEST.hex}%0A",
    f"sha256:{'0' * 65}",
    f"sha256:{'0' * 4000}",
]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
async def test_bad_digest_is_refused_and_the_upload_goes_on(
    api: AsgiClient, store: BlobStore, digest: str
) -> None:
    session = await begin(api)
    before = sorted(store.root.parent.rglob("*"))
    answer = await close(api, session, digest, BODY)

    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")
    assert sorted(store.root.parent.rglob("*")) == before
    assert (await close(api, session, DIGEST, BODY)).status == 201


@pytest.mark.parametrize("digest", BAD_DIGESTS)
@pytest.mark.parametrize("query", ["digest={}", "mount={}&from=alice/other"])
async def test_bad_digest_begins_nothing(api: AsgiClient, query: str, digest: str) -> None:
    headers = {"content-length": str(len(BODY))}
    path = f"{START}?{query.format(digest)}"
    answer = await api.request("POST", path, body=BODY, headers=headers)

    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")
    assert not await UploadSession.objects.aexists()


async def test_put_without_a_digest_is_refused(api: AsgiClient) -> None:
    session = await begin(api)
    answer = await api.request("PUT", session, body=BODY)

    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")


async def test_other_algorithms_are_refused(api: AsgiClient) -> None:
    answer = await api.request("POST", f"{START}?digest-algorithm=sha512")

    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    "name", ["model", "a/b/c", "alice/../x", "alice/mo del", "alice/-x", "%2e/x"]
)
async def test_bad_name_is_refused(api: AsgiClient, store: BlobStore, name: str) -> None:
    answer = await api.request("POST", f"/v2/{name}/blobs/uploads/")

    assert (answer.status, code_of(answer)) == (400, "NAME_INVALID")
    assert files_of(store) == []


@pytest.mark.parametrize("name", ["0" * 32, "x", "..", "../../x", "%2e%2e%2fx", "\x00", "0" * 5000])
@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
async def test_unknown_upload_is_a_404(api: AsgiClient, method: str, name: str) -> None:
    await begin(api)
    query = f"?digest={DIGEST}" if method == "PUT" else ""
    answer = await api.request(method, f"{START}{name}{query}", body=BODY)

    assert answer.status == 404
    if "/" not in name:
        assert code_of(answer) == "BLOB_UPLOAD_UNKNOWN"


async def test_methods_that_a_place_does_not_know_are_refused(api: AsgiClient) -> None:
    start = await api.get(START)
    session = await api.request("POST", await begin(api))

    assert (start.status, start.headers["allow"]) == (405, "POST")
    assert (session.status, session.headers["allow"]) == (405, "GET, PATCH, PUT, DELETE")


# ------------------------------------------------------------------ mounting


async def put_in(api: AsgiClient, name: str, body: bytes = BODY) -> None:
    answer = await close(api, await begin(api, f"/v2/{name}/blobs/uploads/"), body=body)
    assert answer.status == 201


async def mount(api: AsgiClient, source: str, digest: Digest = DIGEST) -> Answer:
    return await api.request("POST", f"{START}?mount={digest}&from={source}")


async def test_file_of_an_own_repository_is_mounted(api: AsgiClient) -> None:
    await put_in(api, "alice/other")
    answer = await mount(api, "alice/other")

    assert (answer.status, path_of(answer)) == (201, FILE)
    assert answer.headers["docker-content-digest"] == str(DIGEST)
    assert (await api.get(FILE)).body == BODY
    await api.request("DELETE", f"/v2/alice/other/blobs/{DIGEST}")
    assert (await api.get(FILE)).body == BODY


async def test_file_of_a_repository_that_everyone_may_see_is_mounted(
    api: AsgiClient, bob: User, store: BlobStore
) -> None:
    await sync_to_async(put_file)(store, bob, "bob/open", BODY)
    await LanguageModel.objects.aupdate(visibility="everyone")

    assert (await mount(api, "bob/open")).status == 201


@pytest.mark.parametrize("source", ["bob/secret", "alice/nothing", "nonsense", "", "../x"])
async def test_what_cannot_be_mounted_has_to_be_sent(
    api: AsgiClient, bob: User, store: BlobStore, source: str
) -> None:
    await sync_to_async(put_file)(store, bob, "bob/secret", BODY)
    answer = await mount(api, source)

    assert answer.status == 202
    assert (await api.get(FILE)).status == 404
    assert (await close(api, path_of(answer), body=BODY)).status == 201


async def test_unknown_file_and_no_source_have_to_be_sent(api: AsgiClient) -> None:
    await put_in(api, "alice/other")
    unknown = await mount(api, "alice/other", Digest.of(b"unknown"))
    from_nowhere = await api.request("POST", f"{START}?mount={DIGEST}")

    assert (unknown.status, from_nowhere.status) == (202, 202)


# ------------------------------------------------------------------ going on after a cut


async def wait_until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_true():
            await asyncio.sleep(0.01)


async def cut(api: AsgiClient, session: str, body: list[bytes], method: str = "PATCH") -> None:
    query = f"?digest={DIGEST}" if method == "PUT" else ""
    headers = {"content-length": str(100 * MiB)}
    call = api.open(method, f"{session}{query}", body=body, headers=headers, is_whole=False)
    await call.wait_until_body_is_taken()
    await call.leave()
    assert call.chunks == ()


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_cut_upload_goes_on_where_it_was(api: AsgiClient, method: str) -> None:
    session = await begin(api)
    await cut(api, session, [b"hel", b"lo "], method)

    assert await received(api, session) == (204, "0-5", "6")
    assert (await send(api, session, b"world", "6-10")).status == 202
    assert (await close(api, session)).status == 201


@pytest.mark.parametrize("seed", range(3))
async def test_upload_is_whole_after_cuts_at_any_byte(api: AsgiClient, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - not a secret
    body = chance.randbytes(300_000)
    session = await begin(api)
    kept = 0
    for _ in range(5):
        end = chance.randint(kept, len(body))
        middle = chance.randint(kept, end)
        await cut(api, session, [body[kept:middle], body[middle:end]])
        kept = int((await received(api, session))[2])
        assert kept == end
    assert (await close(api, session, Digest.of(body), body[kept:])).status == 201
    assert (await api.get(f"/v2/{NAME}/blobs/{Digest.of(body)}")).body == body


async def test_every_byte_before_a_cut_stays(api: AsgiClient) -> None:
    session = await begin(api)
    pieces = [b"x" * 65536] * (2 * BATCH_BYTES // 65536) + [b"rest"]
    await cut(api, session, pieces)

    assert (await received(api, session))[2] == str(2 * BATCH_BYTES + 4)


@pytest.mark.parametrize("part", ["hello", "hello world"], ids=["lost answer", "cut"])
async def test_ollama_sends_a_part_again_from_its_first_byte(api: AsgiClient, part: str) -> None:
    # registry.md 1.5: the same part, the same address, no question how much is there.
    session = await begin(api)
    await cut(api, session, [b"hello"])
    headers = {"x-redirect-uploads": "1", "content-range": f"0-{len(part) - 1}"}
    again = await api.request("PATCH", session, body=[b"hel", part[3:].encode()], headers=headers)

    assert (again.status, again.headers["range"]) == (202, f"0-{len(part) - 1}")
    assert (await close(api, session, body=BODY[len(part) :])).status == 201
    assert (await api.get(FILE)).body == BODY


@pytest.mark.parametrize("chunk", ["6-10", "0-3"])
async def test_part_of_ollama_that_does_not_reach_what_is_there_is_refused(
    api: AsgiClient, chunk: str
) -> None:
    session = await begin(api)
    await send(api, session, b"hello", "0-4")
    headers = {"x-redirect-uploads": "1", "content-range": chunk}
    refused = await api.request("PATCH", session, body=b"x" * 5, headers=headers)

    assert (refused.status, refused.headers["range"]) == (416, "0-4")


async def test_one_byte_and_none_are_told_apart(api: AsgiClient) -> None:
    session = await begin(api)
    before = await received(api, session)
    await send(api, session, b"h")

    assert (before, await received(api, session)) == ((204, "0-0", "0"), (204, "0-0", "1"))


async def test_upload_goes_on_in_another_process(
    api: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await begin(api)
    await send(api, session, b"hello ", "0-5")
    monkeypatch.setattr(upload_sessions, "_hashes", upload_sessions._Hashes())

    assert (await close(api, session, body=b"world")).status == 201
    assert (await api.get(FILE)).body == BODY


async def test_hash_of_another_state_is_not_gone_on_with(api: AsgiClient, store: BlobStore) -> None:
    session = await begin(api)
    await send(api, session, b"hello", "0-4")
    # As another process would have done it meanwhile.
    with upload_sessions.path_of(session.rpartition("/")[2]).open("ab") as file:
        file.write(b" ")

    assert (await close(api, session, body=b"world")).status == 201


async def test_silent_sender_is_told_to_go_and_loses_nothing(
    api: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.distribution_app._SENDER_IDLE_S", 0.1)
    session = await begin(api)
    call = api.open("PATCH", session, body=[b"hello "], is_whole=False)
    answer = await call.answer()

    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert await received(api, session) == (204, "0-5", "6")


async def test_two_do_not_write_at_once(api: AsgiClient, store: BlobStore) -> None:
    session = await begin(api)
    path = upload_sessions.path_of(session.rpartition("/")[2])
    first = api.open("PATCH", session, body=[b"x" * BATCH_BYTES] * 2, is_whole=False)
    await wait_until(lambda: path.stat().st_size > 0)
    second = await send(api, session, BODY)
    cancelled = await api.request("DELETE", session)
    await first.leave()

    assert (second.status, code_of(second)) == (409, "BLOB_UPLOAD_INVALID")
    assert cancelled.status == 409
    assert (await received(api, session))[2] == str(2 * BATCH_BYTES)
    assert (await send(api, session, BODY)).status == 202


async def test_cancelled_upload_is_gone(api: AsgiClient, store: BlobStore) -> None:
    session = await begin(api)
    await send(api, session, BODY)
    answer = await api.request("DELETE", session)

    assert (answer.status, answer.body) == (204, b"")
    assert [(await api.request(method, session)).status for method in ("GET", "DELETE")] == [
        404
    ] * 2
    assert files_of(store) == []


async def test_end_that_is_asked_for_again_is_told_again(api: AsgiClient) -> None:
    session = await begin(api)
    first = await close(api, session, body=BODY)
    again = await close(api, session, body=BODY)
    other = await close(api, session, Digest.of(b"other"), body=BODY)

    assert (first.status, again.status, other.status) == (201, 201, 404)
    assert path_of(again) == path_of(first) == FILE


async def test_file_of_an_upload_that_is_gone_is_a_404(api: AsgiClient, store: BlobStore) -> None:
    session = await begin(api)
    upload_sessions.path_of(session.rpartition("/")[2]).unlink()

    assert (await send(api, session, BODY)).status == 404


async def test_repository_that_is_gone_takes_its_uploads_along(api: AsgiClient) -> None:
    session = await begin(api)
    await LanguageModel.objects.all().adelete()
    answer = await close(api, session, body=BODY)

    assert answer.status == 404
    assert not await RepositoryBlob.objects.aexists()


# ------------------------------------------------------------------ room


async def test_quota_is_told_before_the_bytes(api: AsgiClient, store: BlobStore) -> None:
    await Namespace.objects.acreate(name="Alice", quota_bytes=10)
    session = await begin(api)
    refused = await send(api, session, BODY)

    assert (refused.status, code_of(refused)) == (413, "DENIED")
    assert (await received(api, session))[2] == "0"
    assert (await send(api, session, BODY[:10])).status == 202


async def test_quota_holds_for_bytes_whose_number_is_not_told(api: AsgiClient) -> None:
    await Namespace.objects.acreate(name="alice", quota_bytes=BATCH_BYTES)
    session = await begin(api)
    pieces = [b"x" * BATCH_BYTES, b"x"]
    refused = await api.request("PATCH", session, body=pieces)

    assert refused.status == 413
    assert (await received(api, session))[2] == str(BATCH_BYTES)


async def test_uploads_that_are_under_way_count(api: AsgiClient) -> None:
    await Namespace.objects.acreate(name="alice", quota_bytes=15)
    first, second = await begin(api), await begin(api)
    await send(api, first, BODY)

    assert (await send(api, second, BODY)).status == 413
    assert (await close(api, first)).status == 201
    assert (await send(api, second, BODY[:4])).status == 202


async def test_file_that_the_namespace_has_takes_no_more_room(api: AsgiClient) -> None:
    await put_in(api, "alice/other")
    await Namespace.objects.acreate(name="alice", quota_bytes=2 * len(BODY))

    await put_in(api, NAME)
    assert (await api.get(FILE)).body == BODY


async def test_full_disk_is_told_before_the_bytes(
    api: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await begin(api)
    monkeypatch.setattr("registry.disk_space._LEFT_FREE_BYTES", 2**62)
    refused = await send(api, session, BODY)
    monkeypatch.undo()

    assert refused.status == 507
    assert refused.json()["errors"][0]["message"].startswith("not enough disk space")
    assert (await received(api, session))[2] == "0"


async def test_disk_that_fills_up_loses_no_earlier_byte(
    api: AsgiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await begin(api)
    await send(api, session, b"hello ")
    write = os.pwrite

    def write_some_and_fail(descriptor: int, part: memoryview, offset: int) -> int:
        if offset > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, part[:1], offset)

    monkeypatch.setattr("registry.upload_sessions.os.pwrite", write_some_and_fail)
    refused = await send(api, session, b"world")
    monkeypatch.undo()

    assert refused.status == 507
    assert await received(api, session) == (204, "0-5", "6")
    assert (await close(api, session, body=b"world")).status == 201


async def test_file_has_a_largest_size(api: AsgiClient, settings: Any) -> None:
    settings.MAX_BLOB_BYTES = 12
    session = await begin(api)
    await send(api, session, BODY)
    refused = await send(api, session, b"!!")

    assert (refused.status, code_of(refused)) == (413, "SIZE_INVALID")


async def test_nobody_has_more_than_some_uploads(api: AsgiClient) -> None:
    for _ in range(upload_sessions.MAX_PER_USER):
        await begin(api)
    refused = await api.request("POST", START)

    assert (refused.status, code_of(refused)) == (429, "TOOMANYREQUESTS")
    assert refused.headers["retry-after"]


async def test_forsaken_upload_makes_room(api: AsgiClient, store: BlobStore) -> None:
    sessions = [await begin(api) for _ in range(upload_sessions.MAX_PER_USER)]
    long_ago = timezone.now() - timedelta(hours=1)
    name = sessions[3].rpartition("/")[2]
    await UploadSession.objects.filter(session_id=name).aupdate(used_at=long_ago)

    assert (await begin(api)).startswith(START)
    assert (await api.get(sessions[3])).status == 404
    assert f"upload-{name}" not in files_of(store)


# ------------------------------------------------------------------ who may


async def test_nobody_pushes_without_a_credential(api: AsgiClient, store: BlobStore) -> None:
    answer = await AsgiClient().request("POST", START)

    assert (answer.status, code_of(answer)) == (401, "UNAUTHORIZED")
    assert not await LanguageModel.objects.aexists()


@pytest.mark.parametrize("name", ["bob/model", "library/model", "nobody/model"])
async def test_one_pushes_to_ones_own_namespace_only(api: AsgiClient, bob: User, name: str) -> None:
    answer = await api.request("POST", f"/v2/{name}/blobs/uploads/")

    assert (answer.status, code_of(answer)) == (403, "DENIED")
    assert not await LanguageModel.objects.aexists()


async def test_admin_pushes_to_the_library(admin: User, db: None) -> None:
    api = await sync_to_async(speaking_for)(admin)

    assert (await api.request("POST", "/v2/library/model/blobs/uploads/")).status == 202


async def test_key_to_read_pushes_nothing(alice: User) -> None:
    reader = await sync_to_async(speaking_for)(alice, Scope.READ)

    assert (await reader.request("POST", START)).status == 403


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
async def test_upload_of_another_user_is_not_there(
    api: AsgiClient, mallory: User, admin: User, method: str
) -> None:
    session = await begin(api)
    await LanguageModel.objects.aupdate(visibility="everyone")
    query = f"?digest={DIGEST}" if method == "PUT" else ""
    for user in (mallory, admin):
        other = await sync_to_async(speaking_for)(user)
        assert (await other.request(method, session + query, body=BODY)).status in {403, 404}

    assert await received(api, session) == (204, "0-0", "0")


async def test_upload_belongs_to_its_repository(api: AsgiClient) -> None:
    session = await begin(api)
    await begin(api, "/v2/alice/other/blobs/uploads/")
    elsewhere = session.replace("alice/model", "alice/other")

    assert (await send(api, elsewhere, BODY)).status == 404

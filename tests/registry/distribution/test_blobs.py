"""`/v2/<name>/blobs/<digest>`: files of a repository are read and removed (registry.md 2.5)."""

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app import principal_cache
from models_app.keys import KeyRules, create_key, revoke_key
from models_app.models import ApiKey, LanguageModel, RepositoryBlob, User, Visibility
from models_app.permissions import Scope
from registry import repositories
from registry.blobs import BlobStore
from registry.digest import Digest
from tests.conftest import principal_for
from tests.fakes.http import Answer, AsgiClient

pytestmark = pytest.mark.django_db(transaction=True)

BODY = bytes(range(250)) * 8  # 2000 bytes
DIGEST = Digest.of(BODY)
NAME = "alice/Some_Model.v1..2"
PATH = f"/v2/{NAME}/blobs/{DIGEST}"
MISSING = f"/v2/{NAME}/blobs/{Digest.of(b'missing')}"
MiB = 1024 * 1024


def speaking_for(user: User, *scopes: Scope) -> AsgiClient:
    key = create_key(user, "test key", KeyRules(scopes=scopes))[1]
    return AsgiClient({"authorization": f"Bearer {key}"})


def put_file(store: BlobStore, owner: User, name: str, body: bytes) -> None:
    repository = repositories.open_repository(principal_for(owner), name)
    repositories.link_blob(repository, store.write_bytes(body).digest, len(body))


@pytest.fixture
def api(alice: User, store: BlobStore) -> AsgiClient:
    """Alice, whose repository has the file."""
    put_file(store, alice, NAME, BODY)
    return speaking_for(alice)


def code_of(answer: Answer) -> str:
    assert answer.content_type == "application/json; charset=utf-8"
    code: str = answer.json()["errors"][0]["code"]
    return code


# ------------------------------------------------------------------ reading


async def test_file_is_sent_with_its_digest(api: AsgiClient) -> None:
    answer = await api.get(PATH)

    assert (answer.status, answer.body) == (200, BODY)
    assert answer.headers["docker-content-digest"] == str(DIGEST)
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == "2000"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


async def test_head_tells_the_same_without_the_file(api: AsgiClient) -> None:
    head, get = await api.request("HEAD", PATH), await api.get(PATH)

    assert (head.status, head.body) == (200, b"")
    without = {"location", "x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in without} == {
        k: v for k, v in get.headers.items() if k not in without
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", [MISSING, f"/v2/alice/nothing/blobs/{DIGEST}"])
async def test_missing_file_is_a_404(api: AsgiClient, method: str, path: str) -> None:
    answer = await api.request(method, path)

    assert answer.status == 404
    assert code_of(answer) in {"BLOB_UNKNOWN", "NAME_UNKNOWN"}


async def test_missing_file_is_named(api: AsgiClient) -> None:
    [error] = (await api.get(MISSING)).json()["errors"]

    assert (error["code"], error["detail"]) == ("BLOB_UNKNOWN", MISSING.rpartition("/")[2])


async def test_file_of_another_repository_is_not_there(
    api: AsgiClient, alice: User, store: BlobStore
) -> None:
    await sync_to_async(put_file)(store, alice, "alice/other", b"other")
    answer = await api.get(f"/v2/{NAME}/blobs/{Digest.of(b'other')}")

    assert (answer.status, code_of(answer)) == (404, "BLOB_UNKNOWN")


async def test_file_that_the_disk_has_lost_is_not_there(api: AsgiClient, store: BlobStore) -> None:
    store.path(DIGEST).unlink()

    assert (await api.get(PATH)).status == 404


async def test_name_is_found_in_any_case(api: AsgiClient) -> None:
    assert (await api.get(PATH.replace("alice/Some", "ALICE/some"))).body == BODY


async def test_model_may_be_called_blobs(api: AsgiClient, alice: User, store: BlobStore) -> None:
    await sync_to_async(put_file)(store, alice, "alice/blobs", BODY)

    assert (await api.get(f"/v2/alice/blobs/blobs/{DIGEST}")).body == BODY


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("500-1499", 500, 1499),
        ("500-", 500, 1999),
        ("-500", 1500, 1999),
        ("1000-5000", 1000, 1999),
    ],
)
async def test_part_of_a_file_is_sent(api: AsgiClient, asked: str, first: int, last: int) -> None:
    answer = await api.get(PATH, headers={"range": f"bytes={asked}"})

    assert (answer.status, answer.body) == (206, BODY[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/2000"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", ["500-0", "5000-10000", "2000-"])
async def test_part_that_is_not_there_is_a_well_formed_416(api: AsgiClient, asked: str) -> None:
    answer = await api.get(PATH, headers={"range": f"bytes={asked}"})

    assert answer.status == 416
    assert answer.headers["content-range"] == "bytes */2000"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert code_of(answer) == "SIZE_INVALID"


async def test_several_parts_at_once_are_the_whole_file(api: AsgiClient) -> None:
    answer = await api.get(PATH, headers={"range": "bytes=0-1,5-9"})

    assert (answer.status, answer.body) == (200, BODY)


async def test_who_has_the_file_is_told_so(api: AsgiClient) -> None:
    answer = await api.get(PATH, headers={"if-none-match": f'W/"x", "{DIGEST}"'})

    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["etag"] == f'"{DIGEST}"'


async def test_part_of_another_file_is_not_gone_on_with(api: AsgiClient) -> None:
    asked = {"range": "bytes=500-"}
    same = await api.get(PATH, headers={**asked, "if-range": f'"{DIGEST}"'})
    other = await api.get(PATH, headers={**asked, "if-range": '"sha256:other"'})

    assert (same.status, other.status) == (206, 200)


async def test_empty_file_is_sent(api: AsgiClient, alice: User, store: BlobStore) -> None:
    await sync_to_async(put_file)(store, alice, NAME, b"")
    answer = await api.get(f"/v2/{NAME}/blobs/{Digest.of(b'')}")

    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


class Watched(AsgiClient):
    """Looks at every event, and keeps none; its server may offer extensions."""

    def __init__(self, key: str, watch: Callable[[dict[str, Any]], None], *offered: str) -> None:
        super().__init__({"authorization": f"Bearer {key}"})
        serve = self._application

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            async def note(event: dict[str, Any]) -> None:
                watch(event)
                await send({**event, "body": b""})

            await serve({**scope, "extensions": {name: {} for name in offered}}, receive, note)

        self._application = watched  # type: ignore[assignment] # wrapped once more


async def test_server_that_can_sends_the_whole_file_by_itself(
    api: AsgiClient, alice: User, store: BlobStore
) -> None:
    events: list[dict[str, Any]] = []
    key = (await sync_to_async(create_key)(alice, "another"))[1]
    await Watched(key, events.append, "http.response.pathsend").get(PATH)

    assert events[1:] == [{"type": "http.response.pathsend", "path": str(store.path(DIGEST))}]


async def test_memory_stays_flat_while_a_large_file_goes(alice: User, store: BlobStore) -> None:
    body = bytes(48 * MiB)
    await sync_to_async(put_file)(store, alice, NAME, body)
    key = (await sync_to_async(create_key)(alice, "another"))[1]
    sizes: list[int] = []
    client = Watched(key, lambda event: sizes.append(len(event.get("body", b""))))
    tracemalloc.start()
    await client.get(f"/v2/{NAME}/blobs/{Digest.of(body)}")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sum(sizes) == 48 * MiB
    assert peak_bytes < 16 * MiB, "a few pieces of 4 MiB, and not the file"


async def test_reader_who_leaves_is_read_for_no_longer(
    api: AsgiClient, alice: User, store: BlobStore
) -> None:
    body = bytes(32 * MiB)
    await sync_to_async(put_file)(store, alice, NAME, body)
    call = api.open("GET", f"/v2/{NAME}/blobs/{Digest.of(body)}")
    while not call.chunks:
        await asyncio.sleep(0)
    await call.leave()

    assert sum(map(len, call.chunks)) < 32 * MiB


# ------------------------------------------------------------------ who may


async def test_nobody_reads_without_a_credential(api: AsgiClient) -> None:
    answer = await AsgiClient().get(PATH)

    assert (answer.status, code_of(answer)) == (401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_private_repository_looks_absent(
    api: AsgiClient, mallory: User, admin: User, method: str
) -> None:
    for user in (mallory, admin):
        answer = await (await sync_to_async(speaking_for)(user)).request(method, PATH)
        assert (answer.status, code_of(answer)) == (404, "NAME_UNKNOWN")


async def test_others_read_what_everyone_may_see_and_remove_nothing(
    api: AsgiClient, mallory: User
) -> None:
    await LanguageModel.objects.aupdate(visibility=Visibility.EVERYONE)
    other = await sync_to_async(speaking_for)(mallory)

    assert (await other.get(PATH)).body == BODY
    refused = await other.request("DELETE", PATH)
    assert (refused.status, code_of(refused)) == (403, "DENIED")


async def test_key_to_read_removes_nothing(api: AsgiClient, alice: User) -> None:
    reader = await sync_to_async(speaking_for)(alice, Scope.READ)
    refused = await reader.request("DELETE", PATH)

    assert (await reader.get(PATH)).status == 200
    assert (refused.status, code_of(refused)) == (403, "DENIED")


async def with_token(api: AsgiClient, scope: str) -> AsgiClient:
    answer = await api.get(f"/v2/token?service=localhost&scope={scope}")
    return AsgiClient({"authorization": f"Bearer {answer.json()['token']}"})


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", PATH), ("POST", f"/v2/{NAME}/blobs/uploads/")]
)
async def test_token_to_read_does_nothing_else(api: AsgiClient, method: str, path: str) -> None:
    reader = await with_token(api, f"repository:{NAME}:pull")
    refused = await reader.request(method, path)

    assert (await reader.get(PATH)).body == BODY
    assert (refused.status, code_of(refused)) == (401, "UNAUTHORIZED")
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]


async def test_token_for_another_repository_reads_nothing(api: AsgiClient) -> None:
    reader = await with_token(api, "repository:alice/other:pull")

    assert (await reader.get(PATH)).status == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_other_methods_are_refused(api: AsgiClient, method: str) -> None:
    answer = await api.request(method, PATH)

    assert (answer.status, code_of(answer)) == (405, "UNSUPPORTED")
    assert answer.headers["allow"] == "GET, HEAD, DELETE"


@pytest.mark.parametrize(
    "digest",
    [
        f"sha256:{DIGEST.hex.upper()}",
        f"sha256-{DIGEST.hex}",
        f"sha512:{'0' * 128}",
        f"sha256:{'0' * 63}",
        f"sha256:{'0' * 65}",
        f"sha256:{'0' * 5000}",
        f"sha256:{DIGEST.hex[:-1]}\x00",
        f"sha256:{DIGEST.hex}\n",
        "sha256:..",
        "..",
        "x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_bad_digest_is_refused(api: AsgiClient, method: str, digest: str) -> None:
    answer = await api.request(method, f"/v2/{NAME}/blobs/{digest}")

    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")


# ------------------------------------------------------------------ signed URLs


async def location_of(api: AsgiClient, method: str = "GET", **headers: str) -> str:
    answer = await api.request(method, PATH, headers=headers)
    origin, path = "http://localhost:11434", answer.headers["location"]
    assert path.startswith(f"{origin}{PATH}?sig=")
    return path.removeprefix(origin)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_location_is_read_without_a_credential(api: AsgiClient, method: str) -> None:
    url = await location_of(api, method)
    part = await AsgiClient().get(url, headers={"range": "bytes=10-19"})
    head = await AsgiClient().request("HEAD", url)

    assert (part.status, part.body) == (206, BODY[10:20])
    assert (head.status, head.headers["location"].endswith(url)) == (200, True)


async def test_location_is_what_a_trusted_proxy_says(api: AsgiClient, settings: Any) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1/32"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    headers = {"host": "models.local", "x-forwarded-proto": "https"}
    answer = await api.get(PATH, headers=headers)

    assert answer.headers["location"].startswith(f"https://models.local{PATH}?sig=")


async def test_forged_signature_is_nobody(api: AsgiClient) -> None:
    url = await location_of(api)
    for bad in (url[:-1] + ("0" if url[-1] != "0" else "1"), f"{PATH}?sig=", f"{PATH}?sig=x"):
        answer = await AsgiClient().get(bad)
        assert (answer.status, code_of(answer)) == (401, "UNAUTHORIZED")


async def test_signature_opens_no_other_file_and_no_other_method(
    api: AsgiClient, alice: User, store: BlobStore
) -> None:
    await sync_to_async(put_file)(store, alice, NAME, b"other")
    url = await location_of(api)
    other = url.replace(str(DIGEST), str(Digest.of(b"other")))

    assert (await AsgiClient().get(other)).status == 401
    assert (await AsgiClient().request("DELETE", url)).status == 401
    upload = url.replace(f"{DIGEST}?", "uploads/?")
    assert (await AsgiClient().request("POST", upload)).status == 401


async def test_signature_ends_with_its_users_right(api: AsgiClient, alice: User) -> None:
    url = await location_of(api)
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
    principal_cache.forget_all()

    assert (await AsgiClient().get(url)).status == 401


async def test_signature_ends_with_the_key_that_it_was_given_to(
    api: AsgiClient, alice: User
) -> None:
    url = await location_of(api)
    by_token = await location_of(await with_token(api, f"repository:{NAME}:pull"))
    await sync_to_async(revoke_key)(await ApiKey.objects.aget(owner=alice))

    assert [(await AsgiClient().get(each)).status for each in (url, by_token)] == [401, 401]


async def test_open_download_ends_with_the_key_that_its_url_was_given_to(
    api: AsgiClient, alice: User
) -> None:
    sleeper = AsgiClient()
    serve = sleeper._application

    async def served(scope: Any, receive: Any, send: Any) -> None:
        async def take_one(event: dict[str, Any]) -> None:
            await send(event)
            if event.get("body"):
                await asyncio.Event().wait()  # the reader has fallen asleep

        await serve(scope, receive, take_one)

    sleeper._application = served  # type: ignore[assignment] # wrapped once more
    call = sleeper.open("GET", await location_of(api))
    await call.wait_for_text(BODY[:9].decode())
    await sync_to_async(revoke_key)(await ApiKey.objects.aget(owner=alice))

    assert (await call.answer()).status == 200  # it is over, long before the reader is given up


async def test_signature_reads_nothing_that_is_private_by_now(
    api: AsgiClient, mallory: User
) -> None:
    await LanguageModel.objects.aupdate(visibility=Visibility.EVERYONE)
    url = await location_of(await sync_to_async(speaking_for)(mallory))
    await LanguageModel.objects.aupdate(visibility=Visibility.PRIVATE)

    assert (await AsgiClient().get(url)).status == 404


# ------------------------------------------------------------------ removing


async def test_removed_file_is_gone_from_repository_and_disk(
    api: AsgiClient, store: BlobStore
) -> None:
    answers = [await api.request("DELETE", PATH) for _ in range(2)]

    assert [answer.status for answer in answers] == [202, 404]
    assert (await api.get(PATH)).status == 404
    assert not store.exists(DIGEST)
    assert not await RepositoryBlob.objects.aexists()


async def test_file_that_another_repository_has_stays_there(
    api: AsgiClient, alice: User, store: BlobStore
) -> None:
    await sync_to_async(put_file)(store, alice, "alice/other", BODY)
    await api.request("DELETE", PATH)

    assert (await api.get(f"/v2/alice/other/blobs/{DIGEST}")).body == BODY

"""`/v2/<name>/manifests/<reference>`: push, pull, delete (contract/registry.md 2.1, 2.5)."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from pytest_django.fixtures import Settings

from models_app.models import LanguageModel, Manifest, Namespace, User
from registry.manifests import MANIFEST_TYPE
from tests.registry.distribution.conftest import OCI_MANIFEST, Caller, digest_of, encoded

MISSING = f"sha256:{'0' * 64}"


async def image(owner: Caller, **fields: Any) -> dict[str, Any]:
    config = await owner.add(b"{}", "application/vnd.oci.image.config.v1+json")
    layer = await owner.add(b"layer", "application/vnd.oci.image.layer.v1.tar")
    base = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    return {**base, **fields}


def code_of(answer: Any) -> str:
    return str(answer.json()["errors"][0]["code"])


# ------------------------------------------------------------------ push


@pytest.mark.parametrize("reference", ["v1", ""], ids=["tag", "digest"])
async def test_push_tells_the_absolute_url_of_the_manifest(owner: Caller, reference: str) -> None:
    document = await image(owner)
    answer = await owner.put(document, reference)
    digest = digest_of(encoded(document))
    assert (answer.status, answer.body) == (201, b"")
    assert answer.headers["docker-content-digest"] == digest
    url = f"http://localhost:11434/v2/alice/thing/manifests/{digest}"
    assert answer.headers["location"] == url


@pytest.mark.parametrize("told", ["application/json", MANIFEST_TYPE])
async def test_content_type_must_be_the_media_type(owner: Caller, told: str) -> None:
    answer = await owner.put(await image(owner), "v1", media_type=told)
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_INVALID")


async def test_manifest_without_a_media_type_has_that_of_the_header(owner: Caller) -> None:
    document = await image(owner)
    del document["mediaType"]
    await owner.put(document, "v1", media_type=OCI_MANIFEST)
    assert (await owner.ask("GET", "manifests/v1")).content_type == OCI_MANIFEST


async def test_wrong_digest_is_refused(owner: Caller) -> None:
    answer = await owner.put(await image(owner), MISSING)
    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    "reference",
    ["sha256:zzz", f"sha256:{'A' * 64}", f"sha512:{'0' * 128}", "md5:1", "sha256:", ":"],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
async def test_digest_that_is_none_is_refused(owner: Caller, method: str, reference: str) -> None:
    document = encoded(await image(owner))
    answer = await owner.ask(method, f"manifests/{reference}", body=document)
    assert answer.status == 400
    assert code_of(answer) == "DIGEST_INVALID"


@pytest.mark.parametrize("tag", ["-x", ".x", "x" * 81, "a b", "ü", "local"])
async def test_tag_that_is_none_is_refused(owner: Caller, tag: str) -> None:
    answer = await owner.put(await image(owner), tag)
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize("tag", ["_", "V1.0-rc_2", "x" * 80, f"sha256-{'0' * 64}"])
async def test_tag_of_any_sort_is_taken(owner: Caller, tag: str) -> None:
    answer = await owner.put(await image(owner), tag)
    assert answer.status == 201
    assert await owner.tags() == [tag]


@pytest.mark.parametrize("path", ["thing", "alice/a/b", "alice/..", "al.ice/x", "alice/a%20b"])
async def test_name_that_is_none_is_refused(owner: Caller, path: str) -> None:
    document = await image(owner)
    answer = await owner.about(path).put(document, "v1")
    assert (answer.status, code_of(answer)) == (400, "NAME_INVALID")


@pytest.mark.parametrize("path", ["alice/Thing_2..x", "alice/_x", "ALICE/UPPER"])
async def test_names_of_ollama_are_names(owner: Caller, path: str) -> None:
    other = owner.about(path)
    await other.put(await image(other), "v1")
    assert (await other.ask("GET", "tags/list")).json() == {"name": path, "tags": ["v1"]}


async def test_file_that_is_not_there_is_named(owner: Caller) -> None:
    layer = {"mediaType": "x/y", "digest": MISSING, "size": 5}
    answer = await owner.put(await image(owner, layers=[layer]), "v1")
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert answer.json()["errors"][0]["detail"] == MISSING


async def test_file_of_another_repository_is_not_there(owner: Caller) -> None:
    layer = await owner.about("alice/other").add(b"of the other")
    answer = await owner.put(await image(owner, layers=[layer]), "v1")
    assert code_of(answer) == "MANIFEST_BLOB_UNKNOWN"


async def test_wrong_size_of_a_file_is_refused(owner: Caller) -> None:
    layer = await owner.add(b"layer")
    answer = await owner.put(await image(owner, layers=[{**layer, "size": 6}]), "v1")
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize(
    "body", [b"", b"junk", b"[]", b"null", b'{"schemaVersion":1}', b"[" * 5000, b"\xff"]
)
async def test_what_is_no_manifest_is_refused(owner: Caller, body: bytes) -> None:
    answer = await owner.put(body, "v1")
    assert (answer.status, code_of(answer)) == (400, "MANIFEST_INVALID")
    assert not await LanguageModel.objects.aexists()


async def test_manifest_that_is_too_large_is_refused(owner: Caller) -> None:
    answer = await owner.put(b" " * (4 * 1024 * 1024 + 1), "v1")
    assert (answer.status, code_of(answer)) == (413, "SIZE_INVALID")


async def test_several_tags_come_with_one_push(owner: Caller) -> None:
    answer = await owner.put(await image(owner), query="?tag=a&tag=b")
    assert (answer.status, answer.headers["oci-tag"]) == (201, "a, b")
    assert await owner.tags() == ["a", "b"]


async def test_more_tags_than_one_push_may_have_are_refused(owner: Caller) -> None:
    query = "?" + "&".join(f"tag=t{number}" for number in range(33))
    answer = await owner.put(await image(owner), query=query)
    assert (answer.status, await LanguageModel.objects.filter(tags__isnull=False).acount()) == (
        400,
        0,
    )


async def test_push_beyond_the_quota_is_refused(owner: Caller, settings: Settings) -> None:
    document = await image(owner)
    settings.NAMESPACE_QUOTA_BYTES = 10
    answer = await owner.put(document, "v1")
    assert (answer.status, code_of(answer)) == (413, "DENIED")
    assert not await Manifest.objects.aexists()


async def test_subject_is_told(owner: Caller) -> None:
    subject = {"mediaType": OCI_MANIFEST, "digest": MISSING, "size": 1}
    answer = await owner.put(await image(owner, subject=subject), "v1")
    assert answer.headers["oci-subject"] == MISSING


# ------------------------------------------------------------------ pull


@pytest.mark.parametrize("accept", ["*/*", "text/html", MANIFEST_TYPE, OCI_MANIFEST])
@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_bytes_are_exactly_those_that_came(owner: Caller, accept: str, by: str) -> None:
    document = await image(owner, unknown="kept")
    await owner.put(document, "v1")
    body = encoded(document)
    reference = "v1" if by == "tag" else digest_of(body)
    answer = await owner.ask("GET", f"manifests/{reference}", headers={"accept": accept})
    assert (answer.status, answer.body) == (200, body)
    assert answer.content_type == OCI_MANIFEST
    assert answer.headers["docker-content-digest"] == digest_of(body)
    assert answer.headers["etag"] == f'"{digest_of(body)}"'
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


async def test_head_has_the_headers_of_get(owner: Caller) -> None:
    document = await image(owner)
    await owner.put(document, "v1")
    got = (await owner.ask("GET", "manifests/v1")).headers
    head = (await owner.ask("HEAD", "manifests/v1")).headers
    names = ("content-type", "content-length", "docker-content-digest", "etag")
    assert [head[name] for name in names] == [got[name] for name in names]


async def test_known_manifest_is_not_sent_again(owner: Caller) -> None:
    document = await image(owner)
    await owner.put(document, "v1")
    etag = f'"{digest_of(encoded(document))}"'
    answer = await owner.ask("GET", "manifests/v1", headers={"if-none-match": etag})
    assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    changed = await owner.ask("GET", "manifests/v1", headers={"if-none-match": '"other"'})
    assert changed.status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("reference", ["v2", MISSING, "a%20b"])
async def test_missing_manifest_is_unknown(owner: Caller, method: str, reference: str) -> None:
    await owner.put(await image(owner), "v1")
    answer = await owner.ask(method, f"manifests/{reference}")
    assert (answer.status, code_of(answer)) == (404, "MANIFEST_UNKNOWN")


async def test_missing_tag_is_named(owner: Caller) -> None:
    await owner.put(await image(owner), "v1")
    answer = await owner.ask("GET", "manifests/v2")
    assert answer.json()["errors"][0]["detail"] == {"Tag": "v2"}


async def test_manifest_of_another_repository_is_unknown(owner: Caller) -> None:
    other = owner.about("alice/other")
    document = await image(other)
    await other.put(document, "v1")
    await owner.put(await image(owner, annotations={"other": "one"}), "v1")
    answer = await owner.ask("GET", f"manifests/{digest_of(encoded(document))}")
    assert answer.status == 404


async def test_tag_is_found_in_any_case_and_keeps_its_spelling(owner: Caller) -> None:
    await owner.put(await image(owner), "V1")
    assert (await owner.ask("GET", "manifests/v1")).status == 200
    await owner.put(await image(owner, annotations={"a": "new one"}), "v1")
    assert await owner.tags() == ["V1"]


async def test_digest_is_readable_after_its_tag_was_moved(owner: Caller) -> None:
    old = await image(owner)
    await owner.put(old, "v1")
    await owner.put(await image(owner, annotations={"a": "new one"}), "v1")
    assert (await owner.ask("GET", f"manifests/{digest_of(encoded(old))}")).status == 200


@pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS"])
async def test_other_methods_are_told_what_there_is(owner: Caller, method: str) -> None:
    answer = await owner.ask(method, "manifests/v1")
    assert (answer.status, code_of(answer)) == (405, "UNSUPPORTED")
    assert answer.headers["allow"] == "GET, HEAD, PUT, DELETE"


# ------------------------------------------------------------------ delete


async def test_deleted_tag_leaves_the_manifest(owner: Caller) -> None:
    document = await image(owner)
    await owner.put(document, "v1")
    await owner.put(document, "v2")
    answer = await owner.ask("DELETE", "manifests/v1")
    assert (answer.status, answer.body) == (202, b"")
    assert await owner.tags() == ["v2"]
    assert (await owner.ask("GET", f"manifests/{digest_of(encoded(document))}")).status == 200


async def test_last_tag_leaves_the_manifest_too(owner: Caller) -> None:
    document = await image(owner)
    await owner.put(document, "v1")
    await owner.ask("DELETE", "manifests/v1")
    assert await owner.tags() == []
    assert (await owner.ask("GET", f"manifests/{digest_of(encoded(document))}")).status == 200


async def test_deleted_manifest_takes_its_tags_along(owner: Caller) -> None:
    document = await image(owner)
    await owner.put(document, query="?tag=a&tag=b")
    await owner.put(await image(owner, annotations={"a": "other"}), "c")
    digest = digest_of(encoded(document))
    statuses = [(await owner.ask("DELETE", f"manifests/{digest}")).status for _ in range(2)]
    assert statuses == [202, 404]
    assert await owner.tags() == ["c"]
    assert (await owner.ask("GET", f"manifests/{digest}")).status == 404


async def test_repository_without_anything_is_gone(owner: Caller) -> None:
    document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    await owner.put({**document, "manifests": []}, "v1")
    digest = (await owner.ask("HEAD", "manifests/v1")).headers["docker-content-digest"]
    await owner.ask("DELETE", f"manifests/{digest}")
    assert (await owner.ask("GET", "tags/list")).status == 404
    assert not await LanguageModel.objects.aexists()
    assert not await Manifest.objects.aexists()


# ------------------------------------------------------------------ immutable tags


@pytest.fixture
async def fixed(owner: Caller) -> dict[str, Any]:
    """A manifest under a tag that stays what it is."""
    document = await image(owner)
    await owner.put(document, "V1.0")
    await sync_to_async(Namespace.objects.create)(name="Alice", immutable_tags="v* release-?")
    return document


async def test_immutable_tag_is_not_moved(owner: Caller, fixed: dict[str, Any]) -> None:
    other = await image(owner, annotations={"a": "other"})
    answer = await owner.put(other, "v1.0")
    assert (answer.status, code_of(answer)) == (403, "DENIED")
    assert (await owner.ask("GET", "manifests/V1.0")).body == encoded(fixed)
    assert (await owner.ask("GET", f"manifests/{digest_of(encoded(other))}")).status == 404


async def test_immutable_tag_may_be_pushed_again_and_be_new(
    owner: Caller, fixed: dict[str, Any]
) -> None:
    assert (await owner.put(fixed, "V1.0")).status == 201
    assert (await owner.put(fixed, "v2")).status == 201


async def test_immutable_tag_is_not_deleted(owner: Caller, fixed: dict[str, Any]) -> None:
    answers = [
        await owner.ask("DELETE", f"manifests/{reference}")
        for reference in ("v1.0", digest_of(encoded(fixed)))
    ]
    assert [answer.status for answer in answers] == [403, 403]
    assert await owner.tags() == ["V1.0"]


async def test_other_tags_are_moved_and_deleted(
    owner: Caller, fixed: dict[str, Any], alice: User
) -> None:
    await owner.put(fixed, "latest")
    moved = await owner.put(await image(owner, annotations={"a": "other"}), "latest")
    deleted = await owner.ask("DELETE", "manifests/latest")
    assert (moved.status, deleted.status) == (201, 202)

"""Every sort of data that the conformance suite of the distribution spec pushes, pulls and deletes.

The names are the suite's own (contract/registry-conformance.txt). Those of sha512 are left out:
digests of other algorithms are refused here (`test_manifests.py`).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from tests.registry.distribution.conftest import (
    OCI_INDEX,
    OCI_MANIFEST,
    Caller,
    digest_of,
    encoded,
)

CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
ELSEWHERE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
MISSING = f"sha256:{'0' * 64}"
# What is pushed in order; the last one gets the tag.
Documents = list[dict[str, Any]]
Make = Callable[[Caller], Awaitable[Documents]]


def descriptor(document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    body = encoded(document)
    found = {"mediaType": document["mediaType"], "digest": digest_of(body), "size": len(body)}
    return {**found, **fields}


async def image_of(owner: Caller, number: int = 0, **fields: Any) -> dict[str, Any]:
    config = await owner.add(b'{"number":%d}' % number, CONFIG)
    layers = [await owner.add(b"layer %d" % part, LAYER) for part in range(2)]
    base = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    return {**base, **fields}


def index_of(*children: dict[str, Any], **fields: Any) -> dict[str, Any]:
    manifests = [descriptor(child) for child in children]
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests, **fields}


async def artifact_of(owner: Caller, kind: str = "application/x.test", **fields: Any) -> Any:
    config = await owner.add(b"{}", EMPTY)
    document = await image_of(owner, artifactType=kind, config=config, **fields)
    return {**document, "layers": [await owner.add(kind.encode(), "text/plain")]}


async def image(owner: Caller) -> Documents:
    return [await image_of(owner)]


async def image_uncompressed(owner: Caller) -> Documents:
    layer = await owner.add(b"tar", "application/vnd.oci.image.layer.v1.tar")
    return [await image_of(owner, layers=[layer])]


async def large_manifest(owner: Caller) -> Documents:
    return [await image_of(owner, annotations={"a": "x" * (4 * 1024 * 1024 - 2000)})]


async def index(owner: Caller) -> Documents:
    images = [await image_of(owner, number) for number in range(2)]
    return [*images, index_of(*images)]


async def nested_index(owner: Caller) -> Documents:
    first = await index(owner)
    second = [await image_of(owner, 2), await image_of(owner, 3)]
    inner = index_of(*second)
    return [*first, *second, inner, index_of(first[-1], inner)]


async def empty_index(owner: Caller) -> Documents:
    del owner
    return [index_of()]


async def artifact(owner: Caller) -> Documents:
    return [await artifact_of(owner)]


async def artifact_index(owner: Caller) -> Documents:
    parts = [await artifact_of(owner, f"application/x.{number}") for number in range(2)]
    return [*parts, index_of(*parts, artifactType="application/x.all")]


async def artifact_without_layers(owner: Caller) -> Documents:
    config = await owner.add(b"{}", EMPTY)
    return [await image_of(owner, artifactType="application/x.a", config=config, layers=[config])]


async def artifacts_with_subject(owner: Caller) -> Documents:
    subject = await image_of(owner)
    about = descriptor(subject)
    parts = [await artifact_of(owner, f"application/x.{n}", subject=about) for n in range(3)]
    return [subject, *parts]


async def index_with_subject(owner: Caller) -> Documents:
    documents = await index(owner)
    about = descriptor(documents[-1])
    parts = [await artifact_of(owner, f"application/x.{n}") for n in range(2)]
    return [*documents, *parts, index_of(*parts, subject=about, artifactType="application/x.all")]


async def missing_subject(owner: Caller) -> Documents:
    about = {"mediaType": OCI_MANIFEST, "digest": MISSING, "size": 123}
    return [await artifact_of(owner, subject=about)]


async def data_field(owner: Caller) -> Documents:
    config = await owner.add(b"{}", EMPTY)
    return [await image_of(owner, config={**config, "data": "e30="})]


async def non_distributable_layers(owner: Caller) -> Documents:
    away = {"mediaType": ELSEWHERE, "digest": MISSING, "size": 1, "urls": ["https://x.test/a"]}
    return [await image_of(owner, layers=[away])]


async def custom_fields(owner: Caller) -> Documents:
    document = await image_of(owner, custom={"of": ["nobody's", 1.5, None]})
    return [document, index_of(document, custom="too")]


async def no_layers(owner: Caller) -> Documents:
    return [await image_of(owner, layers=[])]


DATA: dict[str, Make] = {
    make.__name__.replace("_", "-"): make
    for make in (
        image,
        image_uncompressed,
        large_manifest,
        index,
        nested_index,
        empty_index,
        artifact,
        artifact_index,
        artifact_without_layers,
        artifacts_with_subject,
        index_with_subject,
        missing_subject,
        data_field,
        non_distributable_layers,
        custom_fields,
        no_layers,
    )
}


@pytest.mark.parametrize("name", DATA)
async def test_data_is_pushed_listed_pulled_and_deleted(owner: Caller, name: str) -> None:
    documents = await DATA[name](owner)
    digests = {digest_of(encoded(document)): document for document in documents}
    for digest, document in digests.items():
        pushed = await owner.put(document, digest)
        assert pushed.status == 201, pushed.text
        subject = document.get("subject", {}).get("digest")
        assert pushed.headers.get("oci-subject") == subject
        url = pushed.headers["location"].removeprefix("http://localhost:11434")
        assert (await owner.client.get(url)).body == encoded(document)
    assert (await owner.put(documents[-1], "tagged")).status == 201
    assert await owner.tags() == ["tagged"]
    await _is_pulled(owner, {**digests, "tagged": documents[-1]})
    await _have_referrers(owner, digests)
    await _is_deleted(owner, list(digests))
    await _have_referrers(owner, {}, *(_subject_of(document) for document in documents))
    await _are_files_deleted(owner, documents)


async def _is_pulled(owner: Caller, documents: dict[str, dict[str, Any]]) -> None:
    for reference, document in documents.items():
        for method in ("HEAD", "GET"):
            answer = await owner.ask(method, f"manifests/{reference}")
            assert (answer.status, answer.content_type) == (200, document["mediaType"])
            assert answer.headers["docker-content-digest"] == digest_of(encoded(document))
            assert answer.headers["content-length"] == str(len(encoded(document)))
        assert answer.body == encoded(document)
    for file in _files_of(documents.values()):
        for method in ("HEAD", "GET"):
            answer = await owner.ask(method, f"blobs/{file['digest']}")
            assert (answer.status, answer.headers["content-length"]) == (200, str(file["size"]))
        assert digest_of(answer.body) == file["digest"]


def _files_of(documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    files = [[it["config"], *it["layers"]] for it in documents if "config" in it]
    by_digest = {file["digest"]: file for each in files for file in each if "urls" not in file}
    return list(by_digest.values())


def _subject_of(document: dict[str, Any]) -> str:
    return str(document.get("subject", {}).get("digest", ""))


async def _have_referrers(
    owner: Caller, digests: dict[str, dict[str, Any]], *subjects: str
) -> None:
    """See that each subject has exactly those of the manifests that name it, by type too."""
    expected: dict[str, dict[str, str]] = {subject: {} for subject in subjects if subject}
    for digest, document in digests.items():
        if subject := _subject_of(document):
            expected.setdefault(subject, {})[digest] = document["artifactType"]
    for subject, types in expected.items():
        for kind in ("", *types.values()):
            query = f"?artifactType={kind}" if kind else ""
            answer = await owner.ask("GET", f"referrers/{subject}{query}")
            assert (answer.status, answer.content_type) == (200, OCI_INDEX)
            told = {it["digest"]: it["artifactType"] for it in answer.json()["manifests"]}
            assert told == {key: value for key, value in types.items() if kind in ("", value)}


async def _are_files_deleted(owner: Caller, documents: Documents) -> None:
    for file in _files_of(documents):
        path = f"blobs/{file['digest']}"
        assert (await owner.ask("DELETE", path)).status == 202
        assert (await owner.ask("GET", path)).status == 404


async def _is_deleted(owner: Caller, digests: list[str]) -> None:
    references = ["tagged", *reversed(digests)]
    for reference in references:
        assert (await owner.ask("DELETE", f"manifests/{reference}")).status == 202
        assert (await owner.ask("GET", f"manifests/{reference}")).status == 404
    answer = await owner.ask("GET", "tags/list")
    assert answer.status == 404 or answer.json()["tags"] == []


async def test_bad_digest_image_is_not_there(owner: Caller) -> None:
    answer = await owner.put(await image_of(owner), MISSING)
    assert answer.status == 400
    assert (await owner.ask("GET", f"manifests/{MISSING}")).status == 404


@pytest.mark.parametrize("reference", [MISSING, "latest"], ids=["by-digest", "by-tag"])
async def test_missing_manifest_of_no_repository_is_a_404(owner: Caller, reference: str) -> None:
    assert (await owner.ask("GET", f"manifests/{reference}")).status == 404


async def test_unused_repository_has_no_tags_and_no_referrers(owner: Caller) -> None:
    tags = await owner.ask("GET", "tags/list")
    referrers = await owner.ask("GET", f"referrers/{MISSING}")
    assert (tags.status, tags.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")
    assert (referrers.status, referrers.content_type) == (200, OCI_INDEX)
    assert referrers.json()["manifests"] == []


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_registry_says_that_it_is_one(owner: Caller, path: str) -> None:
    answer = await owner.client.get(path)
    assert (answer.status, answer.json()) == (200, {})
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"

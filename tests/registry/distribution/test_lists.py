"""Tags, catalog and referrers: sorted, in pages, filtered (contract/registry.md 2.1)."""

from typing import Any

import pytest

from tests.registry.distribution.conftest import (
    OCI_INDEX,
    OCI_MANIFEST,
    Caller,
    digest_of,
    encoded,
)

EMPTY_INDEX = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
SUBJECT = f"sha256:{'5' * 64}"
EMPTY = "application/vnd.oci.empty.v1+json"


@pytest.fixture
async def tagged(owner: Caller) -> Caller:
    """A repository with five tags."""
    for tag in ("b", "_", "C", "a", "1"):
        await owner.put(EMPTY_INDEX, tag)
    return owner


# ------------------------------------------------------------------ tags


async def test_tags_are_in_the_order_of_their_bytes(tagged: Caller) -> None:
    assert await tagged.tags() == ["1", "C", "_", "a", "b"]


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("?n=2", ["1", "C"]),
        ("?n=2&last=C", ["_", "a"]),
        ("?last=_", ["a", "b"]),
        ("?last=D", ["_", "a", "b"]),
        ("?last=z", []),
        ("?n=0", []),
        ("?n=99999999999999999999999", ["1", "C", "_", "a", "b"]),
    ],
)
async def test_query_says_which_tags(tagged: Caller, query: str, tags: list[str]) -> None:
    assert await tagged.tags(query) == tags


async def test_link_leads_through_all_tags(tagged: Caller) -> None:
    found, url = [], "/v2/alice/thing/tags/list?n=2"
    for _ in range(3):
        answer = await tagged.client.get(url)
        found.append(answer.json()["tags"])
        url = answer.headers.get("link", "<>").split(">")[0].removeprefix("<")
    assert (found, url) == ([["1", "C"], ["_", "a"], ["b"]], "")


@pytest.mark.parametrize("query", ["?n=0", "?n=5", "", "?n=2&last=a"])
async def test_last_page_has_no_link(owner: Caller, query: str) -> None:
    for tag in ("a", "b"):
        await owner.put(EMPTY_INDEX, tag)
    assert "link" not in (await owner.ask("GET", f"tags/list{query}")).headers


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "%C2%B2", "+1"])
async def test_number_that_is_none_is_refused(owner: Caller, number: str) -> None:
    await owner.put(EMPTY_INDEX, "a")
    answer = await owner.ask("GET", f"tags/list?n={number}")
    assert answer.status == 400
    assert "errors" in answer.json()


@pytest.mark.parametrize("what", ["tags/list", f"referrers/{SUBJECT}"])
async def test_lists_are_read_only(owner: Caller, what: str) -> None:
    answer = await owner.ask("POST", what)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


# ------------------------------------------------------------------ catalog


async def test_catalog_is_in_order_and_in_pages(owner: Caller) -> None:
    for path in ("alice/b", "alice/Z", "alice/a"):
        await owner.about(path).put(EMPTY_INDEX, "v1")
    whole = await owner.client.get("/v2/_catalog")
    first = await owner.client.get("/v2/_catalog?n=2")
    assert whole.json() == {"repositories": ["alice/Z", "alice/a", "alice/b"]}
    assert first.json() == {"repositories": ["alice/Z", "alice/a"]}
    assert first.headers["link"] == '</v2/_catalog?n=2&last=alice%2Fa>; rel="next"'
    rest = await owner.client.get("/v2/_catalog?n=2&last=alice%2Fa")
    assert rest.json() == {"repositories": ["alice/b"]}


async def test_catalog_leaves_out_what_holds_only_files(owner: Caller) -> None:
    await owner.add(b"on the way")
    assert (await owner.client.get("/v2/_catalog")).json() == {"repositories": []}


async def test_catalog_has_what_was_pushed_without_a_tag(owner: Caller) -> None:
    await owner.put(EMPTY_INDEX)
    assert (await owner.client.get("/v2/_catalog")).json() == {"repositories": ["alice/thing"]}


# ------------------------------------------------------------------ referrers


async def refer(owner: Caller, kind: str, **fields: Any) -> dict[str, Any]:
    """Push an artifact about the subject and return the descriptor that is expected of it."""
    config = await owner.add(b"{}", EMPTY)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config,
        "layers": [config],
        "subject": {"mediaType": OCI_MANIFEST, "digest": SUBJECT, "size": 1},
        **({"artifactType": kind} if kind else {}),
        **fields,
    }
    assert (await owner.put(document)).status == 201
    body = encoded(document)
    told = {"annotations": fields["annotations"]} if "annotations" in fields else {}
    return {
        "mediaType": OCI_MANIFEST,
        "digest": digest_of(body),
        "size": len(body),
        "artifactType": kind or EMPTY,
        **told,
    }


def by_digest(descriptors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(descriptors, key=lambda entry: str(entry["digest"]))


async def test_referrers_are_told_as_an_index(owner: Caller) -> None:
    expected = [await refer(owner, "x/a", annotations={"k": "v"}), await refer(owner, "")]
    answer = await owner.ask("GET", f"referrers/{SUBJECT}")
    assert (answer.status, answer.content_type) == (200, OCI_INDEX)
    assert "oci-filters-applied" not in answer.headers
    assert answer.json() == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": by_digest(expected),
    }


@pytest.mark.parametrize("value", [b"1e999", b'"\xff"', b"9" * 5000, b"1", b"[{}]"])
async def test_annotations_that_make_no_sense_are_left_out(owner: Caller, value: bytes) -> None:
    body = b'{"schemaVersion":2,"mediaType":"%s","manifests":[],"annotations":{"a":%s},' % (
        OCI_INDEX.encode(),
        value,
    )
    subject = {"mediaType": OCI_MANIFEST, "digest": SUBJECT, "size": 1}
    body += b'"subject":%s}' % encoded(subject)
    assert (await owner.put(body, media_type=OCI_INDEX)).status == 201
    answer = await owner.ask("GET", f"referrers/{SUBJECT}")
    assert answer.status == 200
    assert answer.json()["manifests"] == [
        {"mediaType": OCI_INDEX, "digest": digest_of(body), "size": len(body)}
    ]


async def test_referrers_are_filtered_by_their_type(owner: Caller) -> None:
    expected = await refer(owner, "application/x.a+json")
    await refer(owner, "x/b")
    answer = await owner.ask("GET", f"referrers/{SUBJECT}?artifactType=application%2Fx.a%2Bjson")
    assert answer.headers["oci-filters-applied"] == "artifactType"
    assert answer.json()["manifests"] == [expected]


async def test_referrers_of_another_repository_are_not_told(owner: Caller) -> None:
    await refer(owner.about("alice/other"), "x/a")
    await owner.put(EMPTY_INDEX, "v1")
    assert (await owner.ask("GET", f"referrers/{SUBJECT}")).json()["manifests"] == []


async def test_deleted_referrer_is_told_no_longer(owner: Caller) -> None:
    gone = await refer(owner, "x/a")
    kept = await refer(owner, "x/b")
    await owner.ask("DELETE", f"manifests/{gone['digest']}")
    assert (await owner.ask("GET", f"referrers/{SUBJECT}")).json()["manifests"] == [kept]


async def test_many_bytes_of_referrers_come_in_pages(owner: Caller) -> None:
    long = {"text": "x" * 1_500_000}
    expected = [await refer(owner, f"x/{number}", annotations=long) for number in range(3)]
    first = await owner.ask("GET", f"referrers/{SUBJECT}?artifactType=")
    url = first.headers["link"].split(">")[0].removeprefix("<")
    second = await owner.client.get(url)
    found = [*first.json()["manifests"], *second.json()["manifests"]]
    assert (found, "link" in second.headers) == (by_digest(expected), False)
    assert len(first.json()["manifests"]) == 2


@pytest.mark.parametrize("digest", ["latest", "sha256:0", f"sha512:{'0' * 128}", "SHA256:x"])
async def test_referrers_of_no_digest_are_refused(owner: Caller, digest: str) -> None:
    answer = await owner.ask("GET", f"referrers/{digest}")
    assert (answer.status, answer.json()["errors"][0]["code"]) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("path", ["thing", "a/b/c"])
async def test_referrers_of_no_name_are_refused(owner: Caller, path: str) -> None:
    answer = await owner.about(path).ask("GET", f"referrers/{SUBJECT}")
    assert (answer.status, answer.json()["errors"][0]["code"]) == (400, "NAME_INVALID")

"""Whatever is sent to `/v2`, the answer is one of the registry's: never a 500, never no JSON."""

import copy
import json
import random
from typing import Any, Final
from urllib.parse import quote

import pytest

from registry import manifests
from tests.registry.distribution.conftest import OCI_INDEX, OCI_MANIFEST, Caller

ROUNDS: Final = 150
DIGEST: Final = f"sha256:{'0' * 64}"
STRANGE: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1.5, 2**63, 2**64, 10**30, 1e308, "", "x", "\0", "\ud800", "ü" * 300),
    *(
        [],
        {},
        [[]],
        [None],
        {"mediaType": "x"},
        "sha256:",
        DIGEST,
        f"sha512:{'0' * 128}",
        OCI_INDEX,
    ),
)
TEXTS: Final = (
    *("..", ".", "%00", "%0a", "%2e%2e", "\0", "\n", "ü", "'", '"', "a" * 300, "sha256:", ":", " "),
    *("library", "alice/thing", "alice//thing", "/alice/thing", "alice/thing:v1", "http://x/y"),
    *("hub.lab/a/b", "_catalog", "%", "?", "#", "\ud7ff", DIGEST, "-1", "9" * 30, "*", "a\\b"),
)
CODES: Final = frozenset(
    {
        *("DENIED", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID"),
        *("MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "UNKNOWN", "UNSUPPORTED"),
    }
)


def mutate(chance: random.Random, value: Any) -> None:
    """Replace or remove something in a document."""
    places = [(box, key) for box in _boxes(value) for key in _keys(box)]
    box, key = chance.choice(places)
    if chance.random() < 0.2:
        del box[key]
    else:
        box[key] = copy.deepcopy(chance.choice(STRANGE))


def _keys(box: Any) -> list[Any]:
    return list(box) if isinstance(box, dict) else list(range(len(box)))


def _boxes(value: Any) -> list[Any]:
    if not isinstance(value, dict | list):
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(box for item in inner for box in _boxes(item))]


def assert_told(answer: Any) -> None:
    if answer.status < 300:
        return
    assert 400 <= answer.status < 500, answer.text
    error = answer.json()["errors"][0]
    assert error["code"] in CODES, answer.text
    assert error["message"]


@pytest.mark.parametrize("seed", range(3))
async def test_no_manifest_is_the_servers_fault(owner: Caller, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a seed, no secret
    layer = await owner.add(b"layer", manifests.SYSTEM)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "x/y",
        "config": await owner.add(b"{}", manifests.CONFIG_TYPE),
        "layers": [layer, await owner.add(b"no weights", manifests.MODEL)][: 1 + seed % 2],
        "subject": layer,
        "annotations": {"a": "b"},
    }
    for _ in range(ROUNDS):
        changed = copy.deepcopy(document)
        for _ in range(chance.randint(1, 2)):
            mutate(chance, changed)
        body = json.dumps(changed).encode()
        assert_told(await owner.put(body, "v1", media_type=chance.choice([OCI_MANIFEST, "", "x"])))
    for what in ("manifests/v1", "tags/list", f"referrers/{layer['digest']}"):
        assert_told(await owner.ask("GET", what))


@pytest.mark.parametrize("text", TEXTS)
async def test_no_path_and_no_query_is_the_servers_fault(owner: Caller, text: str) -> None:
    # The server's own part: paths reach the application decoded, queries as they are.
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert_told(await owner.ask(method, f"manifests/{text}", body=b"{}"))
        assert_told(await owner.about(text).ask(method, "manifests/v1", body=b"{}"))
    await owner.put({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, "v1")
    value = quote(text)
    for what in (
        *(f"referrers/{text}", f"tags/list?n={value}", f"tags/list?last={value}"),
        *(f"referrers/{DIGEST}?last={value}", f"referrers/{DIGEST}?artifactType={value}"),
    ):
        assert_told(await owner.ask("GET", what))
    assert_told(await owner.about(text).ask("GET", "tags/list"))
    assert_told(await owner.about(text).ask("GET", f"referrers/{DIGEST}"))
    assert_told(await owner.client.get(f"/v2/_catalog?last={value}&n={value}"))

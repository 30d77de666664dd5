"""Naming somebody's file does not bring it: manifests whose files need not be in a registry."""

from pathlib import Path
from typing import Any

import pytest

from registry import manifests
from registry.blobs import BlobStore
from registry.manifests import CONFIG_TYPE, MANIFEST_TYPE
from tests.registry.distribution.conftest import OCI_MANIFEST, Caller, digest_of

SECRET = b"what is Alice's alone"
ELSEWHERE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
EMPTY = "application/vnd.oci.empty.v1+json"


def secret_entry() -> dict[str, Any]:
    return {"mediaType": ELSEWHERE, "digest": digest_of(SECRET), "size": len(SECRET)}


@pytest.fixture
def bobs(other: Caller) -> Caller:
    """Bob, about a repository of his own."""
    return other.about("bob/thing")


async def test_model_has_all_its_files_whatever_their_type(
    owner: Caller, bobs: Caller, tiny_gguf: Path, store: BlobStore
) -> None:
    await owner.add(SECRET)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": await bobs.add(b'{"model_format":"gguf"}', CONFIG_TYPE),
        "layers": [await bobs.add(tiny_gguf.read_bytes(), manifests.MODEL), secret_entry()],
    }
    pushed = await bobs.put(document, "v1")
    # Else /api/create would make it a layer of Bob's, and /api/push would send it away.
    assert pushed.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"


async def test_manifest_that_is_here_already_brings_no_file_with_it(
    owner: Caller, bobs: Caller, store: BlobStore
) -> None:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": await owner.add(b"{}", EMPTY),
        "layers": [await owner.add(SECRET, ELSEWHERE)],
    }
    assert (await owner.put(document, "v1")).status == 201
    await bobs.add(b"{}", EMPTY)
    assert (await bobs.put(document, "v1")).status == 201
    assert (await bobs.ask("GET", f"blobs/{digest_of(SECRET)}")).status == 404
    assert (await owner.ask("GET", f"blobs/{digest_of(SECRET)}")).body == SECRET

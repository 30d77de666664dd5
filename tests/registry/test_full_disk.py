"""A disk that is really full: a small one of its own, which only root may mount.

Whoever brings a file is told, what had come stays, and with more room it goes on from there.
"""

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from models_app.models import Blob, Upload, UploadSession, User
from registry import garbage, manifests
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import GgufError, StorageFull
from registry.pull import PullArguments, pull_model
from registry.remote.client import RetryPolicy
from tests.conftest import principal_for
from tests.fakes.http import AsgiClient
from tests.fakes.registry import FakeRegistry, fake_registry
from tests.registry.distribution.test_blobs import speaking_for

pytestmark = pytest.mark.django_db(transaction=True)

MiB = 1024 * 1024
DATA = random.Random(3).randbytes(12 * MiB)  # noqa: S311 - not a secret
DIGEST = Digest.of(DATA)
QUICK = RetryPolicy(tries=3, base_s=0.001, stall_s=2, part_bytes=2 * MiB)
GrowDisk = Callable[[], None]


@pytest.fixture
def grow(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrowDisk]:
    """Put the store on a disk of 8 MiB; gives what makes it larger."""
    store.make_root()
    mounted = _mount("size=8m", "tmpfs", str(store.root))
    if mounted.returncode:
        pytest.skip(f"a disk of one's own may not be mounted here: {mounted.stderr.strip()}")
    # Nothing is kept free for others: the bytes themselves are to find no room.
    monkeypatch.setattr("registry.disk_space._LEFT_FREE_BYTES", -(2**40))
    try:
        yield lambda: _mount("remount,size=64m", str(store.root)).check_returncode()
    finally:
        line = ["umount", "--lazy", str(store.root)]
        subprocess.run(line, check=True)


def _mount(options: str, *where: str) -> "subprocess.CompletedProcess[str]":
    line = ["mount", "-t", "tmpfs", "-o", options, *where]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def files_of(store: BlobStore) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in store.root.iterdir()}


@pytest.fixture
def remote(settings: Any) -> Iterator[FakeRegistry]:
    """A registry whose model does not fit, nor is it one."""
    with fake_registry() as registry:
        settings.ALLOWED_REGISTRIES = [f"http://{registry.host}"]
        registry.add_manifest("ns/large", [(manifests.MODEL, DATA)])
        yield registry


def test_pull_keeps_what_has_come_and_goes_on_with_more_room(
    grow: GrowDisk,
    store: BlobStore,
    remote: FakeRegistry,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.remote.download._SAVED_EVERY_S", 0.0)
    remote.pause_s = 0.02
    arguments = PullArguments(name=f"{remote.host}/ns/large")

    def pull() -> None:
        pull_model(principal_for(alice), arguments, lambda _: None, policy=QUICK)

    with pytest.raises(StorageFull):
        pull()
    assert not list(store.root.glob("sha256-*"))
    assert not Blob.objects.exists()
    came = max(path.stat().st_blocks * 512 for path in store.root.glob("partial-*"))
    assert came > 4 * MiB
    remote.pause_s = 0.0
    before = len(remote.gets_of(str(DIGEST)))

    grow()
    with pytest.raises(GgufError):  # it has come whole by then, and is no model
        pull()

    assert store.verify(DIGEST)
    spans = [asked.headers["range"] for asked in remote.gets_of(str(DIGEST))[before:]]
    assert sum(map(_length, spans)) < len(DATA) - MiB


def _length(span: str) -> int:
    first, _, last = span.removeprefix("bytes=").partition("-")
    return int(last) - int(first) + 1


@pytest.mark.parametrize("is_told", [True, False], ids=["length", "chunked"])
async def test_upload_keeps_what_has_come_and_goes_on_with_more_room(
    grow: GrowDisk, store: BlobStore, alice: User, *, is_told: bool
) -> None:
    api = await sync_to_async(speaking_for)(alice)
    start = "/v2/alice/model/blobs/uploads/"
    session = (await api.request("POST", start)).headers["location"].partition("11434")[2]
    pieces = [DATA[place : place + MiB] for place in range(0, len(DATA), MiB)]
    told = {"content-length": str(len(DATA))} if is_told else {"transfer-encoding": "chunked"}

    refused = await api.request("PATCH", session, body=pieces, headers=told)

    assert refused.status == 507
    assert json.loads(refused.body)["errors"][0]["message"]
    came = int((await api.get(session)).headers["x-upload-bytes"])
    assert 4 * MiB <= came <= 8 * MiB
    assert list(files_of(store).values()) == [came]

    grow()
    rest = await api.request("PATCH", session, body=DATA[came:])
    assert rest.status == 202
    assert (await api.request("PUT", f"{session}?digest={DIGEST}")).status == 201
    assert (await api.get(f"/v2/alice/model/blobs/{DIGEST}")).body == DATA


async def test_upload_in_one_request_leaves_nothing(
    grow: GrowDisk, store: BlobStore, alice: User
) -> None:
    api = await sync_to_async(speaking_for)(alice)
    pieces = [DATA[place : place + MiB] for place in range(0, len(DATA), MiB)]
    told = {"content-length": str(len(DATA))}
    path = f"/v2/alice/model/blobs/uploads/?digest={DIGEST}"

    assert (await api.request("POST", path, body=pieces, headers=told)).status == 507
    assert (await api.request("POST", f"/api/blobs/{DIGEST}", body=pieces)).status == 507
    assert files_of(store) == {}
    assert not await UploadSession.objects.aexists()
    assert not await Upload.objects.aexists()


def test_garbage_is_collected_on_a_full_disk(grow: GrowDisk, store: BlobStore) -> None:
    path = store.root / f"sha256-{'a' * 64}"
    with pytest.raises(OSError, match="No space left"):
        path.write_bytes(DATA)
    os.utime(path, (0, 0))

    assert garbage.collect().files == 1
    assert files_of(store) == {}


async def test_models_are_listed_and_deleted_on_a_full_disk(
    grow: GrowDisk, store: BlobStore, alice: User, make_model: Any
) -> None:
    api: AsgiClient = await sync_to_async(speaking_for)(alice)
    await sync_to_async(make_model)("alice/tiny:v1", alice)
    with pytest.raises(OSError, match="No space left"):
        (store.root / "other").write_bytes(DATA)

    assert (await api.get("/api/tags")).json()["models"]
    assert (await api.request("DELETE", "/api/delete", data={"model": "tiny:v1"})).status == 200
    assert not list(store.root.glob("sha256-*"))

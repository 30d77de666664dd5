"""Files of other registries: in parts, resumed to the byte, shared, and never wrong."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from models_app.names import ModelName
from ollamasite.errors import OutboundRefused
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import JobCancelled, RegistryFailed, StorageFull
from registry.remote import partial
from registry.remote.client import RegistryClient, RetryPolicy
from registry.remote.download import fetch
from registry.remote.partial import HeldByAnother, PartialFile
from registry.remote.reference import RemoteModel
from registry.remote.tokens import Credentials
from tests.fakes.registry import Answer, Asked, FakeRegistry, fake_registry

KIB = 1024
DATA = random.Random(6).randbytes(900 * KIB)  # noqa: S311 - not a secret
QUICK = RetryPolicy(base_s=0.001, stall_s=0.2, stalls=3, part_bytes=200 * KIB)


@pytest.fixture
def remote(settings: Any) -> Iterator[FakeRegistry]:
    """A registry that this site may ask."""
    with fake_registry() as registry:
        settings.ALLOWED_REGISTRIES = [f"http://{registry.host}"]
        yield registry


@contextlib.asynccontextmanager
async def client_of(
    registry: FakeRegistry, *, policy: RetryPolicy = QUICK
) -> AsyncIterator[RegistryClient]:
    name = ModelName.parse(f"{registry.host}/ns/model")
    async with RegistryClient(RemoteModel.parse(name), Credentials(), policy=policy) as client:
        yield client


class Fetching:
    """Fetches files from a registry into a store, and notes what it is told."""

    def __init__(self, registry: FakeRegistry, store: BlobStore) -> None:
        self.registry = registry
        self.store = store
        self.told: list[int] = []

    async def fetch(
        self, digest: str, size: int = len(DATA), *, policy: RetryPolicy = QUICK
    ) -> bytes:
        """Fetch a file, make it a blob, return it."""
        parsed = Digest.parse(digest)
        async with client_of(self.registry, policy=policy) as client:
            file = await fetch(client, self.store, parsed, size, self.told.append)
        if file is not None:
            file.keep(self.store)
            file.release()
        return self.store.path(parsed).read_bytes()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.store.root.iterdir())

    def partial(self, digest: str) -> Path:
        origin = f"http://{self.registry.host}"
        return partial.path_of(self.store, Digest.parse(digest), origin)


@pytest.fixture
def fetching(remote: FakeRegistry, store: BlobStore) -> Fetching:
    return Fetching(remote, store)


def ranges(registry: FakeRegistry, digest: str) -> list[str]:
    return [asked.headers.get("range", "") for asked in registry.gets_of(digest)]


# ---------------------------------------------------------------- whole


async def test_file_comes_in_parts_and_nothing_else_stays(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)

    assert await fetching.fetch(digest) == DATA

    assert len(ranges(remote, digest)) == 5
    assert "bytes=0-204799" in ranges(remote, digest)
    assert fetching.files() == [Digest.parse(digest).file_name]
    assert fetching.told[-1] == len(DATA)


@pytest.mark.parametrize("data", [b"", b"x", DATA[: 200 * KIB]])
async def test_file_of_one_part_is_asked_for_whole(
    remote: FakeRegistry, fetching: Fetching, data: bytes
) -> None:
    digest = remote.add_blob(data)

    assert await fetching.fetch(digest, len(data)) == data

    assert ranges(remote, digest) == ([""] if data else [])


async def test_file_without_a_told_size_is_fetched_by_the_manifest(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.scripts.append(lambda asked: Answer(405) if asked.method == "HEAD" else None)

    assert await fetching.fetch(digest) == DATA


# ---------------------------------------------------------------- cuts, stalls, refusals


@pytest.mark.parametrize("seed", range(6))
async def test_file_is_whole_after_cuts_at_any_byte(
    remote: FakeRegistry, fetching: Fetching, seed: int
) -> None:
    digest = remote.add_blob(DATA)
    chance = random.Random(seed)  # noqa: S311 - not a secret
    remote.cuts = [chance.randrange(200 * KIB) for _ in range(5)]

    assert await fetching.fetch(digest) == DATA


async def test_part_goes_on_at_the_very_byte(remote: FakeRegistry, fetching: Fetching) -> None:
    digest = remote.add_blob(DATA)
    remote.cuts = [123_457]
    policy = RetryPolicy(base_s=0.001, part_bytes=len(DATA))

    assert await fetching.fetch(digest, policy=policy) == DATA

    assert ranges(remote, digest) == ["", f"bytes=123457-{len(DATA) - 1}"]


async def test_stall_is_tried_again_and_not_counted(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.stalls = [1000, 0]
    policy = RetryPolicy(tries=1, base_s=0.001, stall_s=0.2, stalls=3, part_bytes=200 * KIB)

    assert await fetching.fetch(digest, policy=policy) == DATA


async def test_stalls_without_end_are_given_up(remote: FakeRegistry, fetching: Fetching) -> None:
    digest = remote.add_blob(DATA)
    remote.stalls = [0] * 40

    with pytest.raises(RegistryFailed, match="in time"):
        await fetching.fetch(digest)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_registry_that_is_busy_is_asked_again(
    remote: FakeRegistry, fetching: Fetching, status: int
) -> None:
    digest = remote.add_blob(DATA)
    remote.statuses = [status, status]

    assert await fetching.fetch(digest) == DATA


async def test_registry_that_stays_broken_is_given_up(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.scripts.append(
        lambda asked: Answer(500) if asked.method == "GET" and "/blobs/" in asked.path else None
    )
    policy = RetryPolicy(tries=3, base_s=0.001, part_bytes=len(DATA))

    with pytest.raises(RegistryFailed, match="status 500"):
        await fetching.fetch(digest, policy=policy)
    assert len(remote.gets_of(digest)) == 3


async def test_file_that_is_refused_is_asked_for_once(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.statuses = [403] * 20
    policy = RetryPolicy(base_s=0.001, part_bytes=len(DATA))

    with pytest.raises(RegistryFailed, match="access denied"):
        await fetching.fetch(digest, policy=policy)
    assert len(remote.gets_of(digest)) == 1


async def test_file_that_is_not_there_is_told_so(remote: FakeRegistry, fetching: Fetching) -> None:
    with pytest.raises(RegistryFailed, match="not found"):
        await fetching.fetch(str(Digest.of(b"nothing")))
    assert not fetching.store.root.exists()


# ---------------------------------------------------------------- ranges


async def test_registry_without_ranges_sends_one_stream(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.ignores_ranges = True

    assert await fetching.fetch(digest) == DATA
    assert ranges(remote, digest)[-1] == ""


async def test_cut_stream_without_ranges_begins_anew(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.ignores_ranges = True
    remote.cuts = [500_000]
    policy = RetryPolicy(base_s=0.001, part_bytes=len(DATA))

    assert await fetching.fetch(digest, policy=policy) == DATA


async def test_streams_that_are_always_cut_are_given_up(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.ignores_ranges = True
    remote.cuts = [500_000] * 50

    with pytest.raises(RegistryFailed, match="whole files"):
        await fetching.fetch(digest)


@pytest.mark.parametrize(
    "told", ["", "bytes 1-204800/921600", "bytes 0-204799/921601", "bytes 0-9999999/921600", "x"]
)
async def test_other_range_than_asked_is_refused(
    remote: FakeRegistry, fetching: Fetching, told: str
) -> None:
    digest = remote.add_blob(DATA)

    def script(asked: Asked) -> Answer | None:
        headers = {"Content-Range": told} if told else {}
        return Answer(206, headers, DATA) if "range" in asked.headers else None

    remote.scripts.append(script)
    with pytest.raises(RegistryFailed, match="another part"):
        await fetching.fetch(digest)


async def test_range_that_is_not_there_asks_for_the_size_again(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    heads: list[Asked] = []

    def script(asked: Asked) -> Answer | None:
        if asked.method == "HEAD":
            heads.append(asked)
            return Answer(body=DATA if len(heads) == 1 else DATA[:1000])
        return Answer(416, body=b"?") if "range" in asked.headers else None

    remote.scripts.append(script)
    with pytest.raises(RegistryFailed, match="1000 bytes by now"):
        await fetching.fetch(digest)


async def test_more_bytes_than_asked_for_are_not_written(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)

    def script(asked: Asked) -> Answer | None:
        if asked.method != "GET" or "/blobs/" not in asked.path:
            return None
        return Answer(headers={"Content-Length": str(len(DATA) + 1)}, body=DATA + b"!")

    remote.scripts.append(script)
    policy = RetryPolicy(base_s=0.001, part_bytes=len(DATA))
    with pytest.raises(RegistryFailed, match="more bytes"):
        await fetching.fetch(digest, policy=policy)
    assert fetching.partial(digest).stat().st_size <= len(DATA)


async def test_compressed_file_is_refused(remote: FakeRegistry, fetching: Fetching) -> None:
    digest = remote.add_blob(DATA)
    remote.scripts.append(
        lambda asked: (
            Answer(206, {"Content-Encoding": "gzip"}, b"x") if asked.method == "GET" else None
        )
    )
    with pytest.raises(RegistryFailed, match="compressed"):
        await fetching.fetch(digest)


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
async def test_lying_manifest_is_found_before_any_byte(
    remote: FakeRegistry, fetching: Fetching, size: int
) -> None:
    digest = remote.add_blob(DATA)

    with pytest.raises(RegistryFailed, match="the manifest says"):
        await fetching.fetch(digest, size)
    assert not remote.gets_of(digest)


async def test_file_larger_than_the_disk_is_refused_before_any_byte(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    size = 1 << 60
    remote.scripts.append(
        lambda asked: (
            Answer(headers={"Content-Length": str(size)}) if asked.method == "HEAD" else None
        )
    )
    with pytest.raises(StorageFull, match="not enough disk space"):
        await fetching.fetch(digest, size)
    assert not remote.gets_of(digest)
    assert fetching.files() == []


# ---------------------------------------------------------------- digests


async def test_file_with_another_digest_is_removed(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.blobs[digest] = DATA[:-1] + b"\0"

    with pytest.raises(RegistryFailed, match="file must be downloaded again: want sha256:"):
        await fetching.fetch(digest)
    assert fetching.files() == []


async def test_bytes_that_an_earlier_attempt_spoilt_are_fetched_anew(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    await interrupted(fetching, digest)
    with fetching.partial(digest).open("r+b") as file:
        file.write(b"power cut")

    assert await fetching.fetch(digest) == DATA


# ---------------------------------------------------------------- resume


async def interrupted(fetching: Fetching, digest: str, *, cut_at: int = 50_000) -> int:
    """Fetch a part of a file; return how many bytes have come."""
    fetching.registry.cuts = [cut_at] * 10
    policy = RetryPolicy(tries=1, base_s=0.001, part_bytes=200 * KIB)
    with pytest.raises(RegistryFailed):
        await fetching.fetch(digest, policy=policy)
    fetching.registry.cuts = []
    fetching.registry.asked.clear()
    return partial.completed_bytes(fetching.partial(digest))


async def test_next_attempt_goes_on_where_the_last_one_ended(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    done = await interrupted(fetching, digest)
    assert 50_000 <= done <= 4 * 50_000

    assert await fetching.fetch(digest) == DATA

    lengths = [
        1 + int(b) - int(a) for text in ranges(remote, digest) for a, b in [text[6:].split("-")]
    ]
    assert sum(lengths) == len(DATA) - done


async def test_what_another_has_fetched_whole_is_not_had_without_the_registrys_leave(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    fetching.store.make_root()
    left = PartialFile.hold(fetching.partial(digest), len(DATA))
    left.write(memoryview(DATA), 0)
    for part in left.parts:
        part.done = part.end - part.start
    left.save()
    left.release()
    statuses = {"HEAD": 405, "GET": 403}
    remote.scripts.append(lambda asked: Answer(statuses[asked.method]))

    with pytest.raises(RegistryFailed, match="access denied"):
        await fetching.fetch(digest)


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"{",
        b"[]",
        b'{"size":1,"completed":1,"parts":[[0,1,1]]}',
        b'{"size":921600,"completed":9,"parts":[[0,921600,921601]]}',
        b'{"size":921600,"completed":9,"parts":[[0,921600,-1]]}',
        b'{"size":921600,"completed":9,"parts":[[5,921600,1]]}',
        b'{"size":921600,"completed":9,"parts":[[0,900,1],[901,921600,0]]}',
        b'{"size":921600,"completed":9,"parts":[[0,921600,921600]]}',
        b'{"size":921600,"completed":9,"parts":[]}',
    ],
)
async def test_state_that_cannot_be_right_begins_the_file_anew(
    remote: FakeRegistry, fetching: Fetching, state: bytes
) -> None:
    digest = remote.add_blob(DATA)
    await interrupted(fetching, digest)
    fetching.partial(digest).with_name(f"{fetching.partial(digest).name}.json").write_bytes(state)

    assert await fetching.fetch(digest) == DATA


async def test_cancelled_fetch_keeps_what_has_come(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.pause_s = 0.05

    def tell(completed: int) -> None:
        if completed > 100_000:
            raise JobCancelled

    async with client_of(remote) as client:
        with pytest.raises(JobCancelled):
            await fetch(client, fetching.store, Digest.parse(digest), len(DATA), tell)
    assert partial.completed_bytes(fetching.partial(digest)) > 100_000
    remote.pause_s = 0

    assert await fetching.fetch(digest) == DATA


async def test_state_is_saved_while_the_file_comes(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.pause_s = 0.3
    policy = RetryPolicy(part_bytes=200 * KIB)
    going = asyncio.create_task(fetching.fetch(digest, policy=policy))
    path = fetching.partial(digest)
    async with asyncio.timeout(60):
        while not partial.completed_bytes(path):
            await asyncio.sleep(0.05)
    # What a killed process leaves: nothing is saved at its end.
    state = json.loads(path.with_name(f"{path.name}.json").read_bytes())
    assert 0 < state["completed"] < len(DATA)
    remote.pause_s = 0
    assert await going == DATA


# ---------------------------------------------------------------- sharing


async def test_second_who_wants_a_file_waits_for_the_first(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.pause_s = 0.05
    second = Fetching(remote, fetching.store)

    one, other = await asyncio.gather(fetching.fetch(digest), second.fetch(digest))

    assert one == other == DATA
    assert len(remote.gets_of(digest)) == 5


async def test_second_takes_over_when_the_first_leaves(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    remote.pause_s = 0.1
    first = asyncio.create_task(fetching.fetch(digest))
    while not remote.gets_of(digest):
        await asyncio.sleep(0.01)
    second = asyncio.create_task(Fetching(remote, fetching.store).fetch(digest))
    await asyncio.sleep(0.3)
    first.cancel()
    await asyncio.wait([first])
    remote.pause_s = 0

    assert await second == DATA
    assert fetching.files() == [Digest.parse(digest).file_name]


async def test_same_file_of_another_registry_is_not_shared(
    remote: FakeRegistry, fetching: Fetching, settings: Any
) -> None:
    digest = remote.add_blob(DATA)
    with fake_registry() as other:
        other.add_blob(DATA)
        settings.ALLOWED_REGISTRIES = [*settings.ALLOWED_REGISTRIES, f"http://{other.host}"]
        both = fetching.fetch(digest), Fetching(other, fetching.store).fetch(digest)
        assert set(await asyncio.gather(*both)) == {DATA}
        assert len(other.gets_of(digest)) == 5


def test_file_is_held_by_one(tmp_path: Path) -> None:
    file = PartialFile.hold(tmp_path / "partial-x", 10)
    with pytest.raises(HeldByAnother):
        PartialFile.hold(tmp_path / "partial-x", 10)
    file.release()
    PartialFile.hold(tmp_path / "partial-x", 10).release()


def test_symlink_in_the_place_of_a_file_leads_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "partial-x").symlink_to(outside)

    file = PartialFile.hold(tmp_path / "partial-x", 4)
    file.write(memoryview(b"your"), 0)
    file.release()

    assert outside.read_bytes() == b"mine"


# ---------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_another_registry_of_the_list_carries_no_credential(
    remote: FakeRegistry, fetching: Fetching, settings: Any, status: int
) -> None:
    digest = remote.add_blob(DATA)
    remote.challenge = (
        'Bearer realm="http://HOST/token",service="s",scope="repository:ns/model:pull"'
    )
    with fake_registry() as elsewhere:
        settings.ALLOWED_REGISTRIES = [*settings.ALLOWED_REGISTRIES, f"http://{elsewhere.host}"]
        elsewhere.add_blob(DATA)

        def script(asked: Asked) -> Answer | None:
            is_known = "authorization" in asked.headers
            location = f"http://{elsewhere.host}/signed/blobs/{digest}"
            is_blob = is_known and "/blobs/" in asked.path
            return Answer(status, {"Location": location}) if is_blob else None

        remote.scripts.append(script)
        assert await fetching.fetch(digest) == DATA
        assert all("authorization" not in asked.headers for asked in elsewhere.asked)
        assert len(elsewhere.gets_of(digest)) == 5


async def test_redirect_to_an_address_inside_is_refused(
    remote: FakeRegistry, fetching: Fetching
) -> None:
    digest = remote.add_blob(DATA)
    with fake_registry() as inside:
        location = f"https://127.0.0.1:{inside.port}/v2/x"
        remote.scripts.append(
            lambda asked: Answer(307, {"Location": location}) if "/blobs/" in asked.path else None
        )
        with pytest.raises(OutboundRefused):
            await fetching.fetch(digest)
        assert not inside.asked

"""A file on its way to another registry: in parts, through cuts, and never where it may not go."""

import asyncio
import contextlib
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollamasite.errors import OutboundRefused
from registry.digest import Digest
from registry.errors import RegistryFailed
from registry.remote import upload
from registry.remote.client import RegistryClient, RetryPolicy
from registry.remote.reference import Origin, RemoteModel
from registry.remote.tokens import Credentials
from registry.remote.upload import OutgoingBlob, upload_blob
from tests.fakes.upload_registry import Answer, UploadRegistry, upload_registry

BODY = hashlib.shake_128(b"body").digest(1_000_000)
DIGEST = str(Digest.of(BODY))
POLICY = RetryPolicy(base_s=0.001, most_s=0.002, stall_s=5.0)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "SMALL_BYTES", 1000)
    monkeypatch.setattr(upload, "PART_BYTES", 400_000)
    monkeypatch.setattr(upload, "_PIECE_BYTES", 50_000)


@contextlib.asynccontextmanager
async def client_of(
    registry: UploadRegistry,
    settings: Any,
    *,
    credentials: Credentials | None = None,
    policy: RetryPolicy = POLICY,
) -> AsyncIterator[RegistryClient]:
    settings.ALLOWED_REGISTRIES = [f"http://{registry.host}"]
    remote = RemoteModel(Origin("http", "127.0.0.1", registry.port), "lab/tiny", "latest")
    async with RegistryClient(remote, credentials or Credentials(), policy=policy) as client:
        yield client


def outgoing(folder: Path, body: bytes = BODY, *, source: str = "") -> OutgoingBlob:
    path = folder / "blob"
    path.write_bytes(body)
    return OutgoingBlob(digest=Digest.of(body), path=path, size_bytes=len(body), source=source)


async def push(
    registry: UploadRegistry, settings: Any, blob: OutgoingBlob, **options: Any
) -> list[int]:
    """Upload a file and return what was told about how far it is."""
    told: list[int] = []
    async with client_of(registry, settings, **options) as client:
        await upload_blob(client, blob, told.append)
    return told


async def test_file_that_is_there_is_not_sent(settings: Any, tmp_path: Path) -> None:
    async with upload_registry(blobs={DIGEST: BODY}) as registry:
        told = await push(registry, settings, outgoing(tmp_path))

    assert [request.method for request in registry.asked] == ["HEAD"]
    assert told == [len(BODY)]


async def test_large_file_goes_in_parts_at_the_newest_address(
    settings: Any, tmp_path: Path
) -> None:
    async with upload_registry() as registry:
        told = await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}
    patches = registry.requests("PATCH")
    ranges = [request.headers["content-range"] for request in patches]
    assert ranges == ["0-399999", "400000-799999", "800000-999999"]
    assert [request.query["state"] for request in patches] == ["2", "3", "4"]
    assert told == sorted(told)
    assert told[-1] == len(BODY)


@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_small_file_goes_in_one_request(settings: Any, tmp_path: Path, size: int) -> None:
    async with upload_registry() as registry:
        await push(registry, settings, outgoing(tmp_path, BODY[:size]))

    assert list(registry.blobs.values()) == [BODY[:size]]
    assert [request.method for request in registry.asked] == ["HEAD", "POST", "PUT"]


async def test_relative_location_is_followed(settings: Any, tmp_path: Path) -> None:
    async with upload_registry(tells_relative=True) as registry:
        await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}


async def test_docker_upload_location_comes_first(settings: Any, tmp_path: Path) -> None:
    async with upload_registry() as registry:
        registry.sessions["own"] = bytearray()
        place = {"Location": "/nowhere", "Docker-Upload-Location": "/v2/lab/tiny/blobs/uploads/own"}
        registry.instead["POST"] = [Answer(202, place)]
        await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}


@pytest.mark.parametrize("cut", [0, 1, 2, 399_999, 123_456])
async def test_cut_upload_goes_on_at_the_very_byte(settings: Any, tmp_path: Path, cut: int) -> None:
    async with upload_registry(cuts=[cut]) as registry:
        await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}
    assert registry.requests("PATCH")[1].headers["content-range"].startswith(f"{cut}-")
    assert len(registry.requests("POST")) == 1


@pytest.mark.parametrize(("size", "stall"), [(1_000_000, 400_000), (24_000_000, 77)])
async def test_stalled_upload_goes_on_at_the_very_byte(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, stall: int
) -> None:
    # All of a part has gone and no answer comes; or the connection takes nothing more.
    monkeypatch.setattr(upload, "PART_BYTES", max(400_000, size // 2))
    body = BODY * (size // len(BODY))
    policy = replace(POLICY, stall_s=0.3)
    async with upload_registry(stalls=[stall, 5]) as registry:
        await push(registry, settings, outgoing(tmp_path, body), policy=policy)

    assert registry.blobs == {str(Digest.of(body)): body}
    starts = [asked.headers["content-range"] for asked in registry.requests("PATCH")]
    assert starts[1].startswith(f"{stall}-")
    assert starts[2].startswith(f"{stall + 5}-")


async def test_stalls_without_end_are_given_up(settings: Any, tmp_path: Path) -> None:
    policy = replace(POLICY, stall_s=0.05)
    async with upload_registry(stalls=[0] * 20) as registry:
        with pytest.raises(RegistryFailed, match="in time"):
            await push(registry, settings, outgoing(tmp_path), policy=policy)
        assert len(registry.requests("PATCH")) == policy.tries


@pytest.mark.parametrize("cut", [0, 1])
async def test_range_that_may_mean_no_byte_begins_anew(
    settings: Any, tmp_path: Path, cut: int
) -> None:
    async with upload_registry(cuts=[cut], tells_exactly=False) as registry:
        await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}
    assert len(registry.requests("POST")) == 2
    assert not registry.sessions


async def test_lost_session_begins_anew(settings: Any, tmp_path: Path) -> None:
    async with upload_registry(cuts=[500], keeps_cut_bytes=False) as registry:
        told = await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}
    assert told.count(0) > 1
    assert len(registry.requests("POST")) == 2


async def test_any_number_of_cuts_is_survived_while_bytes_arrive(
    settings: Any, tmp_path: Path
) -> None:
    cuts = [20_000] * 20
    async with upload_registry(cuts=cuts) as registry:
        await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}


async def test_upload_that_does_not_move_is_given_up(settings: Any, tmp_path: Path) -> None:
    async with upload_registry(cuts=[0] * 100) as registry:
        with pytest.raises(RegistryFailed, match=f"push {DIGEST}"):
            await push(registry, settings, outgoing(tmp_path))

    assert len(registry.requests("PATCH")) == POLICY.tries
    assert not registry.sessions, "the other side was told to forget it"


@pytest.mark.parametrize("status", [416, 404, 429, 500, 503])
async def test_part_that_is_refused_for_now_is_sent_again(
    settings: Any, tmp_path: Path, status: int
) -> None:
    async with upload_registry(instead={"PATCH": [Answer(status)]}) as registry:
        await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}


async def test_end_whose_answer_is_lost_is_not_sent_again(settings: Any, tmp_path: Path) -> None:
    async with upload_registry() as registry:
        registry.instead["PUT blob"] = [Answer(502)]
        registry.instead["GET"] = [Answer(404)]
        registry.instead["HEAD"] = [Answer(404), Answer(200)]
        await push(registry, settings, outgoing(tmp_path))

    assert len(registry.requests("POST")) == 1


@pytest.mark.parametrize("method", ["PATCH", "PUT blob", "POST"])
async def test_final_refusal_is_told_in_the_registrys_words(
    settings: Any, tmp_path: Path, method: str
) -> None:
    refusal = Answer(413, body=b'{"errors":[{"code":"DENIED","message":"no more room"}]}')
    async with upload_registry(instead={method: [refusal]}) as registry:
        with pytest.raises(RegistryFailed, match="no more room"):
            await push(registry, settings, outgoing(tmp_path))


async def test_wrong_digest_after_a_resume_begins_anew_once(settings: Any, tmp_path: Path) -> None:
    async with upload_registry(cuts=[1000]) as registry:
        registry.instead["PUT blob"] = [Answer(400)]
        await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}
    assert len(registry.requests("POST")) == 2


async def test_wrong_digest_without_a_resume_is_final(settings: Any, tmp_path: Path) -> None:
    blob = outgoing(tmp_path)
    blob.path.write_bytes(BODY[::-1])
    async with upload_registry() as registry:
        with pytest.raises(RegistryFailed, match="another digest"):
            await push(registry, settings, blob)


async def test_file_of_another_size_is_not_sent(settings: Any, tmp_path: Path) -> None:
    blob = outgoing(tmp_path)
    blob.path.write_bytes(BODY[1:])
    async with upload_registry() as registry:
        with pytest.raises(RegistryFailed, match="not the size"):
            await push(registry, settings, blob)

    assert not registry.asked


# ------------------------------------------------------------------ where it goes on later


def noted(folder: Path) -> OutgoingBlob:
    return replace(outgoing(folder), note=folder / "note")


async def test_upload_that_failed_goes_on_at_the_very_byte_next_time(
    settings: Any, tmp_path: Path
) -> None:
    async with upload_registry(cuts=[123_456, *[0] * POLICY.tries]) as registry:
        with pytest.raises(RegistryFailed):
            await push(registry, settings, noted(tmp_path))
        kept = len(registry.sessions["s1"])
        registry.asked.clear()
        registry.cuts.clear()

        await push(registry, settings, noted(tmp_path))

    assert registry.blobs == {DIGEST: BODY}
    assert not registry.requests("POST")
    assert registry.requests("PATCH")[0].headers["content-range"].startswith(f"{kept}-")
    assert not (tmp_path / "note").exists()


async def test_session_that_the_other_side_forgot_begins_anew(
    settings: Any, tmp_path: Path
) -> None:
    blob = noted(tmp_path)
    async with upload_registry() as registry:
        (tmp_path / "note").write_text(f"http://{registry.host}/v2/lab/tiny/blobs/uploads/old\n")
        await push(registry, settings, blob)

    assert registry.blobs == {DIGEST: BODY}
    assert [request.method for request in registry.asked[:3]] == ["GET", "HEAD", "POST"]


@pytest.mark.parametrize("text", ["", "half a li", "\n", "http://[\n", "\x00\xff\n"])
async def test_note_that_is_spoilt_is_of_no_account(
    settings: Any, tmp_path: Path, text: str
) -> None:
    blob = noted(tmp_path)
    (tmp_path / "note").write_text(text)
    async with upload_registry() as registry:
        await push(registry, settings, blob)

    assert registry.blobs == {DIGEST: BODY}


async def test_two_uploads_of_a_file_do_not_share_a_session(settings: Any, tmp_path: Path) -> None:
    blob = noted(tmp_path)
    async with upload_registry() as registry, client_of(registry, settings) as client:
        nothing = lambda _: None  # noqa: E731
        await asyncio.gather(*(upload_blob(client, blob, nothing) for _ in range(2)))

    assert registry.blobs == {DIGEST: BODY}
    assert len(registry.requests("POST")) == 2


async def test_session_that_somebody_is_still_at_is_asked_again(
    settings: Any, tmp_path: Path
) -> None:
    async with upload_registry(instead={"PATCH": [Answer(409)]}) as registry:
        await push(registry, settings, outgoing(tmp_path))

    assert len(registry.requests("POST")) == 1
    assert registry.blobs == {DIGEST: BODY}


# ------------------------------------------------------------------ mounts


async def test_file_that_can_be_mounted_is_not_sent(settings: Any, tmp_path: Path) -> None:
    async with upload_registry(mounts={"library/base": 201}) as registry:
        await push(registry, settings, outgoing(tmp_path, source="library/base"))

    assert [request.method for request in registry.asked] == ["HEAD", "POST"]
    assert registry.asked[1].query == {"mount": DIGEST, "from": "library/base"}


@pytest.mark.parametrize("status", [202, 401, 403])
async def test_mount_that_is_not_granted_becomes_an_upload(
    settings: Any, tmp_path: Path, status: int
) -> None:
    async with upload_registry(mounts={"library/base": status}) as registry:
        await push(registry, settings, outgoing(tmp_path, source="library/base"))

    assert registry.blobs == {DIGEST: BODY}


# ------------------------------------------------------------------ where it may lead


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/x", "http://127.0.0.1:9/x", "https://127.0.0.1:9/x", "ftp://a/x"],
)
async def test_location_inside_is_refused(settings: Any, tmp_path: Path, location: str) -> None:
    async with upload_registry(instead={"POST": [Answer(202, {"Location": location})]}) as registry:
        with pytest.raises((OutboundRefused, RegistryFailed)):
            await push(registry, settings, outgoing(tmp_path))

    assert not registry.blobs


async def test_redirected_part_is_sent_again_where_it_leads(settings: Any, tmp_path: Path) -> None:
    async with upload_registry() as registry:
        registry.sessions["other"] = bytearray()
        further = {"Location": "/v2/lab/tiny/blobs/uploads/other"}
        registry.instead["PATCH"] = [Answer(307, further)]
        await push(registry, settings, outgoing(tmp_path))

    assert registry.blobs == {DIGEST: BODY}


async def test_no_password_goes_to_another_registry_that_the_site_knows(
    settings: Any, tmp_path: Path
) -> None:
    login = Credentials(login=("lab", "sesame"))
    async with upload_registry() as elsewhere, upload_registry() as registry:
        elsewhere.sessions["there"] = bytearray()
        challenge = Answer(401, {"WWW-Authenticate": 'Basic realm="lab"'})
        there = f"http://{elsewhere.host}/v2/lab/tiny/blobs/uploads/there"
        registry.instead["HEAD"] = [challenge]
        registry.instead["POST"] = [Answer(202, {"Location": there})]
        settings.ALLOWED_REGISTRIES = [f"http://{registry.host}", f"http://{elsewhere.host}"]
        remote = RemoteModel(Origin("http", "127.0.0.1", registry.port), "lab/tiny", "latest")
        async with RegistryClient(remote, login, policy=POLICY) as client:
            await upload_blob(client, outgoing(tmp_path), lambda _: None)

    assert "authorization" in registry.requests("POST")[0].headers
    assert elsewhere.requests("PATCH")
    assert not any("authorization" in request.headers for request in elsewhere.asked)


# ------------------------------------------------------------------ leaving, and memory


async def test_cancelled_upload_is_forgotten_on_the_other_side(
    settings: Any, tmp_path: Path
) -> None:
    async with upload_registry() as registry, client_of(registry, settings) as client:
        has_begun = asyncio.Event()
        blob = outgoing(tmp_path)
        sent = lambda count: has_begun.set() if count else None  # noqa: E731
        uploading = asyncio.create_task(upload_blob(client, blob, sent))
        await has_begun.wait()
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading

        assert len(registry.requests("DELETE")) == 1
    assert not registry.blobs


async def test_memory_stays_flat(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PART_BYTES", 64 * 1024 * 1024)
    blob = outgoing(tmp_path, bytes(32 * 1024 * 1024))
    drained = [Answer(202, {"Range": f"0-{blob.size_bytes - 1}"})]
    peaks: list[int] = []

    def note(_: int) -> None:
        peaks.append(tracemalloc.get_traced_memory()[0])

    faults = {"PATCH": drained, "PUT blob": [Answer(201)]}
    async with (
        upload_registry(instead=faults) as registry,
        client_of(registry, settings) as client,
    ):
        tracemalloc.start()
        try:
            await upload_blob(client, blob, note)
        finally:
            tracemalloc.stop()

    # The fake holds a whole body: what is above that is the client's.
    assert max(peaks) < blob.size_bytes + 8 * 1024 * 1024

"""`verify` finds every file that is not what it should be, and nothing else."""

from io import StringIO

import pytest
from django.core.management import call_command

from models_app.models import LanguageModel, Manifest, RepositoryManifest, Tag, User
from models_app.services import record_upload
from registry import manifests
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import JobCancelled, StoreDamaged
from registry.jobs.context import JobContext
from registry.progress import Progress
from registry.verification import VerifyArguments, run, verify_store
from tests.conftest import MakeModel
from tests.registry.store_files import names_of

pytestmark = pytest.mark.django_db


def spoil(store: BlobStore, digest: Digest) -> None:
    path = store.path(digest)
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def weights_of(name: str) -> Digest:
    body = bytes(Tag.objects.get(model__name=name).manifest.body)
    return manifests.parse_manifest(body).of_type(manifests.MODEL)[0].blob


def verify() -> tuple[list[str], int]:
    out = StringIO()
    try:
        call_command("verify", stdout=out)
    except SystemExit as end:
        return out.getvalue().splitlines(), int(end.code or 0)
    return out.getvalue().splitlines(), 0


def test_nothing_is_wrong_with_a_good_store(make_model: MakeModel, store: BlobStore) -> None:
    make_model("tiny", system="Fine.")
    store.write_bytes(b"nobody's")

    assert verify() == (["every file is what it should be"], 0)


def test_damaged_file_is_told_with_the_models_that_need_it(
    make_model: MakeModel, store: BlobStore, alice: User
) -> None:
    make_model("tiny")
    make_model("mine", alice)
    digest = weights_of("tiny")
    spoil(store, digest)

    assert verify() == ([f"{digest} is damaged: needed by alice/mine:latest, tiny:latest"], 1)
    assert store.exists(digest)


def test_missing_file_is_told_with_the_manifest_that_needs_it(
    make_model: MakeModel, store: BlobStore, alice: User
) -> None:
    make_model("tiny")
    digest = weights_of("tiny")
    manifest = Manifest.objects.get()
    model = LanguageModel.objects.create(namespace="alice", name="pushed", owner=alice)
    RepositoryManifest.objects.create(model=model, manifest=manifest)
    Tag.objects.all().delete()
    store.path(digest).unlink()

    assert verify() == (
        [f"{digest} is missing: needed by alice/pushed@sha256:{manifest.digest}"],
        1,
    )


def test_file_that_was_only_uploaded_is_verified_too(store: BlobStore, alice: User) -> None:
    digest = store.write_bytes(b"brought").digest
    record_upload(alice.pk, digest.hex, 7)
    spoil(store, digest)

    assert verify() == ([f"{digest} is damaged: no model needs it"], 1)


def test_file_that_was_let_go_of_meanwhile_is_not_missed(
    make_model: MakeModel, store: BlobStore
) -> None:
    def delete_all(event: Progress) -> None:
        del event
        Tag.objects.all().delete()
        call_command("gc", stdout=StringIO())

    make_model("tiny", system="Gone soon.")

    assert verify_store(delete_all) == []
    assert names_of(store) == set()


def test_damaged_file_is_set_aside_if_asked_and_mended_by_the_next_who_brings_it(
    store: BlobStore,
) -> None:
    digest = store.write_bytes(b"good").digest
    spoil(store, digest)
    verify_store(set_aside=True)

    assert names_of(store) == {f"damaged-{digest.hex}"}
    store.write_bytes(b"good")
    assert store.verify(digest)


def test_file_that_was_mended_meanwhile_is_not_set_aside(store: BlobStore) -> None:
    digest = store.write_bytes(b"good").digest
    spoil(store, digest)
    inode = store.path(digest).stat().st_ino
    with store.draft() as draft:
        draft.add(b"good")
        draft.keep(digest)

    assert not store.set_aside(digest, inode)
    assert store.verify(digest)


def test_bytes_are_told_as_they_are_read(store: BlobStore) -> None:
    data = b"x" * (2 * 1024 * 1024 + 5)
    digest = store.write_bytes(data).digest
    events: list[Progress] = []
    verify_store(events.append)

    assert {event.digest for event in events} == {str(digest)}
    assert {event.total for event in events} == {len(data)}
    assert [event.completed for event in events] == [0, 1 << 20, 2 << 20, len(data)]


def test_job_fails_where_something_is_wrong(store: BlobStore) -> None:
    spoil(store, store.write_bytes(b"good").digest)
    events: list[Progress] = []
    context = JobContext(job_id="1", principal=None, report=events.append)
    with pytest.raises(StoreDamaged, match="damaged or missing: 1; the first is sha256:"):
        run(context, VerifyArguments(set_aside=True))

    assert "is damaged" in events[-1].status
    assert {name.partition("-")[0] for name in names_of(store)} == {"damaged"}


def test_job_can_be_cancelled_within_a_file(store: BlobStore) -> None:
    def report(event: Progress) -> None:
        if event.completed:
            raise JobCancelled

    store.write_bytes(b"x" * (2 * 1024 * 1024))
    with pytest.raises(JobCancelled):
        run(JobContext(job_id="1", principal=None, report=report), VerifyArguments())


def test_job_succeeds_with_a_good_store(store: BlobStore) -> None:
    events: list[Progress] = []
    run(JobContext(job_id="1", principal=None, report=events.append), VerifyArguments())

    assert events == [Progress(status="success")]

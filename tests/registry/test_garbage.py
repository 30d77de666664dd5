"""Garbage collection: each kind of thing goes when nobody needs it, and not before."""

import fcntl
from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.core.management import call_command
from django.utils import timezone
from pytest_django.fixtures import Settings

from models_app import revisions
from models_app.models import (
    Job,
    JobKind,
    JobState,
    JobWatcher,
    LanguageModel,
    Manifest,
    RepositoryBlob,
    RepositoryManifest,
    Tag,
    Upload,
    UploadSession,
    UsedSignature,
    User,
)
from models_app.names import ModelName
from models_app.namespaces import NamespaceRules, set_rules
from models_app.services import NewManifest, push_manifest, record_upload
from registry.blobs import BlobStore
from registry.errors import JobCancelled
from registry.garbage import GarbageArguments, collect, run
from registry.jobs.context import JobContext
from registry.progress import Progress
from tests.conftest import MakeModel
from tests.registry.store_files import make_older, names_of, write_blob, write_part

pytestmark = pytest.mark.django_db

DAY_S = 86400.0
OLD = timedelta(days=8)


def repository_of(owner: User, name: str = "pushed", *, age: timedelta = OLD) -> LanguageModel:
    return LanguageModel.objects.create(
        namespace=owner.username, name=name, owner=owner, created_at=timezone.now() - age
    )


def push(
    model: LanguageModel,
    hex_digit: str,
    *,
    age: timedelta = OLD,
    children: tuple[str, ...] = (),
    subject: str = "",
) -> Manifest:
    manifest = Manifest.objects.create(
        digest=hex_digit * 64, body=b"{}", is_model=False, children=children, subject=subject
    )
    RepositoryManifest.objects.create(
        model=model, manifest=manifest, last_named_at=timezone.now() - age
    )
    return manifest


def rules_for(owner: User, *, immutable: str = "", kept: int | None = None) -> None:
    set_rules(
        NamespaceRules(
            name=owner.username, quota_bytes=None, immutable_tags=immutable, kept_tags=kept
        )
    )


def pushed_digests() -> set[str]:
    return {row.manifest.digest[0] for row in RepositoryManifest.objects.all()}


# ------------------------------------------------------------------ uploads


@pytest.mark.parametrize(("age_h", "stays"), [(23, True), (25, False)])
def test_upload_to_a_repository_goes_when_nobody_has_used_it_for_a_day(
    store: BlobStore, alice: User, age_h: int, *, stays: bool
) -> None:
    used_at = timezone.now() - timedelta(hours=age_h)
    UploadSession.objects.create(
        session_id="a" * 32, model=repository_of(alice), user=alice, used_at=used_at
    )
    name = write_part(store, f"upload-{'a' * 32}", age_s=3 * DAY_S)

    assert collect().uploads == (0 if stays else 1)
    assert (name in names_of(store)) == stays
    assert UploadSession.objects.exists() == stays


def test_upload_that_is_being_sent_stays(store: BlobStore, alice: User) -> None:
    UploadSession.objects.create(
        session_id="a" * 32,
        model=repository_of(alice),
        user=alice,
        used_at=timezone.now() - OLD,
    )
    name = write_part(store, f"upload-{'a' * 32}", age_s=3 * DAY_S)
    with (store.root / name).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        collect()

    assert name in names_of(store)
    assert UploadSession.objects.exists()


def test_upload_that_one_request_has_sent_for_days_stays_when_it_is_there(
    store: BlobStore, alice: User
) -> None:
    model, used_at = repository_of(alice), timezone.now() - OLD
    UploadSession.objects.create(session_id="a" * 32, model=model, user=alice, used_at=used_at)
    RepositoryBlob.objects.create(model=model, digest="b" * 64, size_bytes=1, linked_at=used_at)
    name = write_part(store, f"upload-{'a' * 32}", age_s=60)
    collect()

    assert name in names_of(store)
    assert UploadSession.objects.exists()
    assert RepositoryBlob.objects.exists()


@pytest.mark.parametrize("name", ["draft-abc", "upload-unknown", f"partial-{'a' * 64}-b"])
def test_file_in_part_goes_when_it_has_lain_there_for_long(store: BlobStore, name: str) -> None:
    old = write_part(store, name, age_s=1.1 * DAY_S)
    young = write_part(store, f"{name}2", age_s=0.9 * DAY_S)

    collected = collect()

    assert names_of(store) == {young}
    assert collected.uploads == 1
    assert collected.freed_bytes > 0
    assert old != young


def test_state_of_a_file_in_part_goes_with_it(store: BlobStore) -> None:
    part = write_part(store, f"partial-{'a' * 64}-b", age_s=2 * DAY_S)
    write_part(store, f"{part}.json")
    write_part(store, f"partial-{'c' * 64}-b.json", age_s=2 * DAY_S)
    collect()

    assert names_of(store) == set()


def test_state_stays_with_a_file_in_part_that_stays(store: BlobStore) -> None:
    part = write_part(store, f"partial-{'a' * 64}-b")
    state = write_part(store, f"{part}.json", age_s=2 * DAY_S)
    collect()

    assert names_of(store) == {part, state}


def test_file_in_part_that_is_being_fetched_stays(store: BlobStore) -> None:
    name = write_part(store, f"partial-{'a' * 64}-b", age_s=2 * DAY_S)
    with (store.root / name).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        collect()

    assert names_of(store) == {name}


def test_file_that_nothing_was_made_of_goes_after_a_day(store: BlobStore, alice: User) -> None:
    old = write_blob(store, b"old", age_s=2 * DAY_S)
    young = write_blob(store, b"young", age_s=2 * DAY_S)
    for digest in (old, young):
        record_upload(alice.pk, digest.hex, 3)
    created_at = timezone.now() - timedelta(days=2)
    Upload.objects.filter(digest=old.hex).update(created_at=created_at)
    collect()

    assert names_of(store) == {young.file_name}


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.QUEUED])
def test_uploads_of_somebody_whose_job_is_under_way_stay(
    alice: User, bob: User, state: JobState
) -> None:
    for user in (alice, bob):
        record_upload(user.pk, "a" * 64, 3)
    Upload.objects.update(created_at=timezone.now() - timedelta(days=2))
    Job.objects.create(job_id="1", kind=JobKind.PULL, owner=alice, share_key="1", state=state)
    collect()

    assert [upload.user for upload in Upload.objects.all()] == [alice]


def test_file_that_was_pushed_and_never_named_goes_after_a_day(
    store: BlobStore, alice: User
) -> None:
    digest = write_blob(store, b"pushed", age_s=2 * DAY_S)
    linked_at = timezone.now() - timedelta(days=2)
    RepositoryBlob.objects.create(
        model=repository_of(alice), digest=digest.hex, size_bytes=6, linked_at=linked_at
    )
    collect()

    assert names_of(store) == set()
    assert not LanguageModel.objects.exists()


def test_old_files_stay_while_others_are_pushed_to_the_same_repository(alice: User) -> None:
    model = repository_of(alice)
    for digest, age in (("a" * 64, timedelta(days=2)), ("b" * 64, timedelta(minutes=30))):
        RepositoryBlob.objects.create(
            model=model, digest=digest, size_bytes=6, linked_at=timezone.now() - age
        )
    collect()

    assert RepositoryBlob.objects.count() == 2


def test_old_files_stay_while_one_is_on_its_way(alice: User) -> None:
    model = repository_of(alice)
    UploadSession.objects.create(session_id="a" * 32, model=model, user=alice)
    RepositoryBlob.objects.create(
        model=model, digest="a" * 64, size_bytes=6, linked_at=timezone.now() - OLD
    )
    collect()

    assert RepositoryBlob.objects.exists()


# ------------------------------------------------------------------ retention


def test_the_newest_tags_of_each_model_stay(make_model: MakeModel, alice: User) -> None:
    for tag in ("one", "two", "three"):
        make_model(f"first:{tag}", alice, system=tag)
    make_model("second:one", alice)
    rules_for(alice, kept=2)

    assert collect().tags == 1
    assert {str(tag) for tag in Tag.objects.all()} == {
        "alice/first:two",
        "alice/first:three",
        "alice/second:one",
    }


def test_immutable_tags_stay_whatever_their_number(make_model: MakeModel, alice: User) -> None:
    for tag in ("V1", "old", "new"):
        make_model(f"first:{tag}", alice, system=tag)
    rules_for(alice, immutable="v*", kept=1)
    collect()

    assert {tag.name for tag in Tag.objects.all()} == {"V1", "new"}


def test_tags_of_other_namespaces_stay(make_model: MakeModel, alice: User, bob: User) -> None:
    for tag in ("one", "two"):
        make_model(f"first:{tag}", bob, system=tag)
    rules_for(alice, kept=1)

    assert collect().tags == 0


@pytest.mark.parametrize(("age_days", "stays"), [(6, True), (8, False)])
def test_pushed_manifest_without_a_tag_goes_after_a_week(
    alice: User, age_days: int, *, stays: bool
) -> None:
    push(repository_of(alice), "a", age=timedelta(days=age_days))

    assert collect().manifests == (0 if stays else 1)
    assert Manifest.objects.exists() == stays


def test_pushed_manifest_with_a_tag_stays(alice: User) -> None:
    model = repository_of(alice)
    Tag.objects.create(model=model, name="latest", manifest=push(model, "a"))
    collect()

    assert pushed_digests() == {"a"}


def test_what_an_index_that_stays_names_stays(alice: User) -> None:
    model = repository_of(alice)
    push(model, "a")
    push(model, "b", children=("a" * 64,))
    index = push(model, "c", children=("b" * 64,))
    Tag.objects.create(model=model, name="latest", manifest=index)
    push(model, "d", children=("a" * 64,))
    collect()

    assert pushed_digests() == {"a", "b", "c"}


def test_what_refers_to_a_manifest_that_stays_stays(alice: User) -> None:
    model = repository_of(alice)
    Tag.objects.create(model=model, name="latest", manifest=push(model, "a"))
    push(model, "b", subject="a" * 64)
    push(model, "c", subject="b" * 64)
    push(model, "d", subject="e" * 64)
    collect()

    assert pushed_digests() == {"a", "b", "c"}


def test_index_that_was_pushed_lately_keeps_what_it_names(alice: User) -> None:
    model = repository_of(alice)
    push(model, "a")
    push(model, "b", age=timedelta(days=1), children=("a" * 64,))
    collect()

    assert pushed_digests() == {"a", "b"}


def test_index_in_another_repository_keeps_nothing(alice: User) -> None:
    push(repository_of(alice), "a")
    other = repository_of(alice, "other")
    index = push(other, "b", children=("a" * 64,))
    Tag.objects.create(model=other, name="latest", manifest=index)
    collect()

    assert pushed_digests() == {"b"}


@pytest.mark.parametrize(("age", "stays"), [(timedelta(minutes=50), True), (OLD, False)])
def test_repository_without_anything_goes(alice: User, age: timedelta, *, stays: bool) -> None:
    repository_of(alice, age=age)
    collect()

    assert LanguageModel.objects.exists() == stays


# ------------------------------------------------------------------ files


@pytest.mark.parametrize(("age_s", "stays"), [(3500, True), (3700, False)])
def test_file_that_no_row_names_goes_after_an_hour(
    store: BlobStore, db: None, age_s: int, *, stays: bool
) -> None:
    digest = write_blob(store, b"nobody's", age_s=age_s)
    collected = collect()

    assert store.exists(digest) == stays
    assert collected.files == (0 if stays else 1)
    assert (collected.freed_bytes > 0) != stays


def test_many_files_go_in_one_run(store: BlobStore) -> None:
    for number in range(40):
        write_blob(store, f"file {number}".encode(), age_s=DAY_S)

    assert collect().files == 40
    assert names_of(store) == set()


def test_files_of_models_stay_however_old_they_are(
    store: BlobStore, make_model: MakeModel, alice: User
) -> None:
    make_model("tiny", alice, system="Stay.")
    for name in names_of(store):
        make_older(store, name, 400 * DAY_S)
    before = names_of(store)
    collect()

    assert names_of(store) == before


def test_files_stay_while_the_store_is_in_use(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.blobs._PATIENCE_S", 0.1)
    digest = write_blob(store, b"nobody's", age_s=DAY_S)
    with store.in_use():
        collected = collect()

    assert store.exists(digest)
    assert collected.files == 0


def test_file_that_somebody_brings_again_meanwhile_stays(
    store: BlobStore, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = write_blob(store, b"again", age_s=DAY_S)
    remove = BlobStore.remove

    def brought_before(*args: object, **kwargs: object) -> bool:
        with store.in_use():
            record_upload(alice.pk, digest.hex, 5)
        return remove(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(BlobStore, "remove", brought_before)
    collect()

    assert store.exists(digest)


def test_what_is_no_file_of_the_store_is_left_alone(store: BlobStore) -> None:
    names = {"notes.txt", "sha256-short", f"sha256-{'A' * 64}", f"damaged-{'a' * 64}"}
    for name in names:
        write_part(store, name, age_s=400 * DAY_S)
    (store.root / f"sha256-{'b' * 64}").mkdir()
    (store.root / "upload-link").symlink_to(store.root / "notes.txt")
    collect()

    assert names_of(store) == names


# ------------------------------------------------------------------ records


def test_records_of_the_past_go(alice: User) -> None:
    long_ago = timezone.now() - timedelta(days=31)
    UsedSignature.objects.create(digest="a" * 64, used_at=timezone.now() - timedelta(minutes=16))
    UsedSignature.objects.create(digest="b" * 64, used_at=timezone.now() - timedelta(minutes=14))
    ended = {"kind": JobKind.PULL, "owner": alice, "state": JobState.SUCCEEDED}
    Job.objects.create(job_id="1", share_key="1", ended_at=long_ago, **ended)
    young = Job.objects.create(job_id="2", share_key="2", ended_at=timezone.now(), **ended)
    JobWatcher.objects.create(job=young, watcher_id="1", seen_at=long_ago)
    JobWatcher.objects.create(job=young, watcher_id="2")

    assert collect().records == 3
    assert [signature.digest[0] for signature in UsedSignature.objects.all()] == ["b"]
    assert [job.job_id for job in Job.objects.all()] == ["2"]
    assert [watcher.watcher_id for watcher in JobWatcher.objects.all()] == ["2"]


@pytest.mark.parametrize("setting", ["UPLOADS_KEPT_S", "UNTAGGED_KEPT_S", "JOBS_KEPT_S"])
def test_what_is_kept_for_ever_stays(
    store: BlobStore, alice: User, settings: Settings, setting: str
) -> None:
    setattr(settings, setting, float("inf"))
    push(repository_of(alice), "a", age=timedelta(days=4000))
    record_upload(alice.pk, "a" * 64, 3)
    Upload.objects.update(created_at=timezone.now() - timedelta(days=4000))
    write_part(store, "upload-unknown", age_s=4000 * DAY_S)
    Job.objects.create(
        job_id="1",
        kind=JobKind.PULL,
        share_key="1",
        state=JobState.FAILED,
        ended_at=timezone.now() - timedelta(days=4000),
    )
    collect()
    there = {
        "UPLOADS_KEPT_S": Upload.objects.exists() and "upload-unknown" in names_of(store),
        "UNTAGGED_KEPT_S": RepositoryManifest.objects.exists(),
        "JOBS_KEPT_S": Job.objects.exists(),
    }

    assert [name for name, stays in there.items() if stays] == [setting]


# ------------------------------------------------------------------ job and command


def test_job_tells_of_its_steps(store: BlobStore) -> None:
    write_blob(store, b"nobody's", age_s=DAY_S)
    events: list[Progress] = []
    run(JobContext(job_id="1", principal=None, report=events.append), GarbageArguments())
    told = [event.status for event in events]

    assert told[0] == "removing uploads that were left"
    assert "1 files" in told[-2]
    assert told[-1] == "success"


def test_job_can_be_cancelled_between_files(store: BlobStore) -> None:
    def report(event: Progress) -> None:
        if event.status == "removing unused files":
            raise JobCancelled

    digest = write_blob(store, b"nobody's", age_s=DAY_S)
    with pytest.raises(JobCancelled):
        collect(report)

    assert store.exists(digest)


def test_command_tells_what_has_gone(store: BlobStore) -> None:
    write_blob(store, b"nobody's", age_s=DAY_S)
    out = StringIO()
    call_command("gc", stdout=out)

    assert "1 files" in out.getvalue()


# ------------------------------------------------------------------ tags that have gone


def moved(model: LanguageModel, owner: User) -> None:
    """Push something else under a tag that names "a", which was pushed long ago."""
    Tag.objects.create(model=model, name="latest", manifest=push(model, "a"))
    name = ModelName.parse(f"{owner.username}/{model.name}")
    newer = NewManifest(digest="b" * 64, body=b"{}", layers=[], is_model=False)
    push_manifest(name, newer, tags=["latest"], owner_id=owner.pk)


def test_manifest_whose_tag_has_moved_stays_for_a_week(alice: User) -> None:
    moved(repository_of(alice), alice)
    collect()
    assert pushed_digests() == {"a", "b"}

    with time_machine.travel(timezone.now() + OLD):
        collect()
        assert pushed_digests() == {"b"}


def test_manifest_whose_tag_was_deleted_stays_for_a_week(alice: User) -> None:
    model = repository_of(alice)
    Tag.objects.create(model=model, name="latest", manifest=push(model, "a"))
    revisions.delete_tag(model.pk, "LATEST")
    collect()

    assert pushed_digests() == {"a"}


def test_manifest_whose_tag_was_one_too_many_stays_for_a_week(alice: User) -> None:
    model = repository_of(alice)
    for digit in ("a", "b"):
        Tag.objects.create(model=model, name=digit, manifest=push(model, digit))
    rules_for(alice, kept=1)

    assert collect().tags == 1
    assert pushed_digests() == {"a", "b"}

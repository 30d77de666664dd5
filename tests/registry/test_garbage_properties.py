"""Whatever happens in whatever order, garbage collection takes nothing that anybody needs.

Steps of pushes, pulls, creates and deletions are done in turns, with collections between any two
of them and time going by; `World` remembers what must be there.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from models_app import audit, models, repositories, revisions, selectors, services, stored_files
from models_app import upload_sessions as session_rows
from models_app.accounts import create_user
from models_app.models import User
from models_app.names import ModelName
from models_app.namespaces import NamespaceRules, set_rules
from models_app.repositories import RepositoryRecord
from models_app.services import NewLayer, NewManifest
from registry import removal, upload_sessions
from registry.blobs import BlobStore, blob_store
from registry.digest import Digest
from registry.garbage import collect
from tests.conftest import PASSWORD, principal_for
from tests.registry.store_files import make_older, names_of

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
FILES = [f"file {number}".encode() for number in range(4)]
DIGESTS = [Digest.of(data) for data in FILES]
REPOSITORIES = ["alice/a", "alice/b", "bob/c"]
# Alice keeps the newest tag of each model only, Bob all.
KEEPING_ONE = "alice"
TABLES: list[Any] = [
    *(models.Tag, models.Manifest, models.Blob, models.LanguageModel, models.Upload),
    *(models.RepositoryBlob, models.RepositoryManifest, models.UploadSession),
]

numbers = st.integers(0, 3)
some_files = st.sets(numbers, min_size=1, max_size=3).map(sorted)
repository_names = st.sampled_from(REPOSITORIES)
tag_names = st.sampled_from(["v1", "latest"])
steps = st.one_of(
    st.tuples(st.just("begin_upload"), repository_names, numbers),
    st.tuples(st.just("finish_upload")),
    st.tuples(st.just("link"), repository_names, numbers),
    st.tuples(st.just("put"), repository_names, some_files, st.none() | tag_names),
    st.tuples(st.just("put_index"), repository_names, st.none() | tag_names),
    st.tuples(st.just("keep_with_index"), repository_names, some_files),
    st.tuples(st.just("keep_with_subject"), repository_names, some_files),
    st.tuples(st.just("open"), repository_names, numbers, st.booleans()),
    st.tuples(st.just("keep_untagged"), repository_names, some_files),
    st.tuples(st.just("move"), repository_names, some_files, some_files, tag_names, tag_names),
    st.tuples(st.just("upload"), st.sampled_from(["alice", "bob"]), numbers),
    st.tuples(st.just("push"), repository_names, some_files, st.none() | tag_names),
    st.tuples(st.just("push"), repository_names, some_files, tag_names),
    st.tuples(st.just("create"), repository_names, some_files, tag_names),
    st.tuples(st.just("pull"), st.sampled_from(["alice", "bob"]), some_files, st.booleans()),
    st.tuples(st.just("delete"), repository_names, tag_names),
    st.tuples(st.just("delete_pushed"), repository_names),
    st.tuples(st.just("wait"), st.sampled_from([5, 70, 60 * 25, 60 * 24 * 8])),
    st.tuples(st.just("collect_after"), st.sampled_from([5, 70, 60 * 25, 60 * 24 * 8])),
    st.tuples(st.just("collect_after"), st.sampled_from([0, 70, 60 * 25])),
)


def split(path: str) -> tuple[str, ModelName]:
    return path.split("/")[0], ModelName.parse(f"{path}:latest")


def manifest_of(numbers: list[int]) -> NewManifest:
    layers = [
        NewLayer(digest=DIGESTS[number].hex, size_bytes=len(FILES[number]), media_type="type")
        for number in numbers
    ]
    body = repr(numbers).encode()
    return NewManifest(digest=Digest.of(body).hex, body=body, layers=layers)


def other_manifest(*, children: Sequence[str] = (), subject: str = "") -> NewManifest:
    """A manifest without files that names others, or refers to one; never one that was pushed."""
    body = repr(("other", sorted(children), subject)).encode()
    return NewManifest(
        digest=Digest.of(body).hex,
        body=body,
        layers=[],
        is_model=False,
        children=children,
        subject=subject,
    )


@dataclass
class World:
    """A site, and what has been promised to those who use it."""

    clock: Any
    users: dict[str, User]
    store: BlobStore = field(default_factory=blob_store)
    uploading: list[tuple[str, str, int]] = field(default_factory=list)
    uploads: dict[tuple[str, int], datetime] = field(default_factory=dict)
    sessions: dict[str, datetime] = field(default_factory=dict)
    links: dict[tuple[str, int], datetime] = field(default_factory=dict)
    pushed: dict[tuple[str, str], datetime] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)  # manifests, by digest

    def do(self, name: str, *arguments: Any) -> None:
        getattr(self, name)(*arguments)
        self.check()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    # -------------------------------------------------------------- steps

    def wait(self, minutes: int) -> None:
        self.clock.shift(timedelta(minutes=minutes))

    def collect_after(self, minutes: int) -> None:
        self.wait(minutes)
        collect()

    def begin_upload(self, path: str, number: int) -> None:
        owner, name = split(path)
        model = services.open_model(name, owner_id=self.users[owner].pk)
        session_id = session_rows.begin(model.pk, self.users[owner].pk)
        assert session_id is not None
        self._write(upload_sessions.path_of(session_id), FILES[number])
        self.uploading.append((session_id, path, number))
        self.sessions[session_id] = self.now

    def finish_upload(self) -> None:
        """What `upload_sessions.Upload.finish` does at the end; it may come too late."""
        if not self.uploading:
            return
        session_id, path, number = self.uploading.pop()
        owner = self.users[split(path)[0]]
        row = models.UploadSession.objects.filter(session_id=session_id).first()
        if row is None or not session_rows.use(session_id, row.model_id, owner.pk):
            return
        with self.store.in_use():
            self.store.adopt(upload_sessions.path_of(session_id), DIGESTS[number])
            self._link(path, number)
        session_rows.forget(session_id)
        del self.sessions[session_id]

    def link(self, path: str, number: int) -> None:
        """A file that is pushed in one request."""
        owner, name = split(path)
        services.open_model(name, owner_id=self.users[owner].pk)
        with self.store.in_use():
            self._store(number)
            self._link(path, number)

    def push(self, path: str, numbers: list[int], tag: str | None) -> None:
        """All of a push, with collections between its parts."""
        for number in numbers:
            self.link(path, number)
            collect()
        self.put(path, numbers, tag)
        assert tag is None or self.tags[path, tag] == manifest_of(numbers).digest

    def put(self, path: str, numbers: list[int], tag: str | None) -> None:
        model = self._model(path)
        if model is None:
            return
        with self.store.in_use():
            sizes = repositories.file_sizes(model.pk)
            if any(DIGESTS[number].hex not in sizes for number in numbers):
                return  # refused: a file is unknown
            self._push(path, manifest_of(numbers), tag)

    def put_index(self, path: str, tag: str | None) -> None:
        model = self._model(path)
        children = [row.manifest.digest for row in model.revisions.all()] if model else []
        if children:
            self._push(path, other_manifest(children=children), tag)

    def keep_with_index(self, path: str, numbers: list[int]) -> None:
        """What a tagged index names needs no tag, however old it is."""
        self._push_files(path, numbers, None)
        self.put_index(path, "latest")
        self.collect_after(60 * 24 * 8)

    def keep_with_subject(self, path: str, numbers: list[int]) -> None:
        """What refers to a tagged manifest needs no tag, however old it is."""
        self._push_files(path, numbers, "latest")
        referrer = other_manifest(subject=manifest_of(numbers).digest)
        self._push(path, referrer, None)
        self.deleted.discard(referrer.digest)
        self.collect_after(60 * 24 * 8)
        model = self._model(path)
        assert model is not None
        assert model.revisions.filter(manifest__digest=referrer.digest).exists()

    def keep_untagged(self, path: str, numbers: list[int]) -> None:
        """What was pushed without a tag stays longer than its files would alone."""
        self._push_files(path, numbers, None)
        self.collect_after(60 * 26)

    def move(
        self, path: str, numbers: list[int], newer: list[int], tag: str, newer_tag: str
    ) -> None:
        """What has lost its tag stays for a while, however old it is."""
        self._push_files(path, numbers, tag)
        self.wait(60 * 24 * 8)
        self._push_files(path, newer, newer_tag)
        self.collect_after(70)

    def open(self, path: str, number: int, in_one: bool) -> None:
        """A push that comes to its first file, and from there to the next, only after a while."""
        owner, name = split(path)
        row = services.open_model(name, owner_id=self.users[owner].pk)
        if row.created_at == self.now:
            self.collect_after(59)
        if in_one:
            self.link(path, number)
        else:
            self.begin_upload(path, number)
        self.collect_after(70)

    def upload(self, owner: str, number: int) -> None:
        with self.store.in_use():
            self._store(number)
            services.record_upload(self.users[owner].pk, DIGESTS[number].hex, 6)
            self.uploads[owner, number] = self.now

    def create(self, path: str, numbers: list[int], tag: str) -> None:
        owner, _ = split(path)
        principal = principal_for(self.users[owner])
        self.upload(owner, numbers[0])
        with self.store.in_use():
            for number in numbers:
                may_use = selectors.may_use_blob(principal, DIGESTS[number].hex)
                if not may_use or not self.store.exists(DIGESTS[number]):
                    return  # refused: a file is unknown
            self._leave(path, tag, manifest_of(numbers).digest)
            self._write_tag(f"{path}:{tag}", owner, numbers)
            self.tags[path, tag] = manifest_of(numbers).digest
        removal.remove_unused()

    def pull(self, owner: str, numbers: list[int], is_whole: bool) -> None:
        for number in numbers:
            self.upload(owner, number)
        if is_whole:
            with self.store.in_use():
                self._write_tag(f"hf.co/x/{owner}:latest", owner, numbers)
            removal.remove_unused()

    def delete(self, path: str, tag: str) -> None:
        model = self._model(path)
        row = model.tags.filter(name=tag).first() if model else None
        if row is None:
            return
        digest = row.manifest.digest
        services.delete_tag(row.pk)
        removal.remove_unused()
        del self.tags[path, tag]
        if not self._is_pushed(path, digest):
            self.pushed.pop((path, digest), None)
            self.deleted.add(digest)
        self._forget_if_gone(path)

    def delete_pushed(self, path: str) -> None:
        model = self._model(path)
        row = model.revisions.first() if model else None
        if model is None or row is None:
            return
        digest = row.manifest.digest
        revisions.delete_manifest(model.pk, digest)
        self.deleted.add(digest)
        removal.remove_unused()
        self.tags = {
            key: named for key, named in self.tags.items() if key[0] != path or named != digest
        }
        self.pushed.pop((path, digest), None)
        self._forget_if_gone(path)

    # -------------------------------------------------------------- promises

    def check(self) -> None:
        for digest in stored_files.needed_digests():
            assert self.store.exists(Digest(digest)), "a file that a row names is gone"
        self._check_tags()
        self._check_young()
        self._check_indexes()

    def _check_tags(self) -> None:
        stored = {
            (f"{tag.model.namespace}/{tag.model.name}", tag.name): tag.manifest.digest
            for tag in models.Tag.objects.filter(model__is_mirror=False)
        }
        # What retention has taken away is promised to nobody.
        for path in [path for path in REPOSITORIES if path.startswith(KEEPING_ONE)]:
            kept = {key for key in stored if key[0] == path}
            there = {key for key in self.tags if key[0] == path}
            assert kept <= there
            assert bool(kept) == bool(there)
            for key in there - kept:
                self._leave(*key, "")
            self.tags = {key: self.tags[key] for key in self.tags if key not in there - kept}
        assert stored == self.tags

    def _check_young(self) -> None:
        """What was brought lately is there, though nothing was made of it yet."""
        for (owner, number), at in self.uploads.items():
            if self.now - at < DAY:
                principal = principal_for(self.users[owner])
                assert selectors.may_use_blob(principal, DIGESTS[number].hex)
        for (path, number), at in self.links.items():
            if self.now - at < DAY:
                model = self._model(path)
                assert model is not None
                assert DIGESTS[number].hex in repositories.file_sizes(model.pk)
        for (path, digest), at in self.pushed.items():
            if self.now - at < WEEK:
                assert self._is_pushed(path, digest)
        self.pushed = {key: at for key, at in self.pushed.items() if self._is_pushed(*key)}
        there = set(models.UploadSession.objects.values_list("session_id", flat=True))
        for session_id, at in self.sessions.items():
            assert session_id in there or self.now - at >= DAY

    def _check_indexes(self) -> None:
        """What a tagged index names is there, unless somebody has deleted that."""
        indexes = models.Tag.objects.exclude(manifest__children=[])
        for tag in indexes.select_related("manifest", "model"):
            path = f"{tag.model.namespace}/{tag.model.name}"
            for child in set(tag.manifest.children) - self.deleted:
                assert tag.model.revisions.filter(manifest__digest=child).exists(), path

    def end(self) -> None:
        """Delete all, wait, and see that nothing is left."""
        for tag in models.Tag.objects.all():
            services.delete_tag(tag.pk)
        self.clock.shift(timedelta(days=9))
        for _ in range(2):
            collect()
        assert names_of(self.store) == set()
        assert [table.__name__ for table in TABLES if table.objects.exists()] == []

    # -------------------------------------------------------------- parts of steps

    def _store(self, number: int) -> None:
        digest = DIGESTS[number]
        if not self.store.exists(digest):
            self.store.write_bytes(FILES[number])
            make_older(self.store, digest.file_name, 0)

    def _write(self, path: Path, data: bytes) -> None:
        self.store.make_root()
        path.write_bytes(data)
        make_older(self.store, path.name, 0)

    def _link(self, path: str, number: int) -> None:
        model = self._model(path)
        assert model is not None
        record = RepositoryRecord(model.pk, model.namespace, model.name)
        repositories.link_blob(record, DIGESTS[number].hex, len(FILES[number]))
        self.links[path, number] = self.now

    def _push_files(self, path: str, numbers: list[int], tag: str | None) -> None:
        for number in numbers:
            self.link(path, number)
        self.put(path, numbers, tag)

    def _push(self, path: str, manifest: NewManifest, tag: str | None) -> None:
        owner, name = split(path)
        tags = [tag] if tag else []
        if tag:
            self._leave(path, tag, manifest.digest)
        services.push_manifest(name, manifest, tags=tags, owner_id=self.users[owner].pk)
        self.pushed[path, manifest.digest] = self.now
        if tag:
            self.tags[path, tag] = manifest.digest

    def _leave(self, path: str, tag: str, digest: str) -> None:
        """A tag goes from one manifest to another: what was pushed stays for a week from now."""
        before = self.tags.get((path, tag), digest)
        if before != digest and (path, before) in self.pushed:
            self.pushed[path, before] = self.now

    def _write_tag(self, text: str, owner: str, numbers: list[int]) -> None:
        owner_id = self.users[owner].pk
        services.write_tag(ModelName.parse(text), manifest_of(numbers), owner_id=owner_id)
        # From now on they are layers, and stay as long as the tag.
        for number in numbers:
            self.uploads.pop((owner, number), None)

    def _model(self, path: str) -> models.LanguageModel | None:
        namespace, name = path.split("/")
        return models.LanguageModel.objects.filter(
            namespace=namespace, name=name, is_mirror=False
        ).first()

    def _is_pushed(self, path: str, digest: str) -> bool:
        model = self._model(path)
        return model is not None and model.revisions.filter(manifest__digest=digest).exists()

    def _forget_if_gone(self, path: str) -> None:
        """With its last tag, a model goes with all that was pushed to it."""
        if self._model(path) is None:
            self.links = {key: at for key, at in self.links.items() if key[0] != path}
            self.pushed = {key: at for key, at in self.pushed.items() if key[0] != path}
            there = set(models.UploadSession.objects.values_list("session_id", flat=True))
            self.sessions = {key: at for key, at in self.sessions.items() if key in there}


class Undone(Exception):
    """The next example begins with an empty database."""


@pytest.mark.django_db
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(done=st.lists(steps, min_size=5, max_size=20))
def test_nothing_that_is_needed_is_ever_missing(
    done: list[tuple[Any, ...]],
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings.BLOBS_DIR = tmp_path_factory.mktemp("blobs")
    with time_machine.travel(START, tick=False) as clock, suppress(Undone), audit.act():
        users = {name: create_user(name, PASSWORD) for name in ("alice", "bob")}
        set_rules(
            NamespaceRules(name=KEEPING_ONE, quota_bytes=None, immutable_tags="", kept_tags=1)
        )
        world = World(clock, users)
        for step in done:
            world.do(*step)
        world.end()
        raise Undone

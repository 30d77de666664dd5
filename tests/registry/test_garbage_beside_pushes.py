"""Garbage is collected while others push, in threads of their own: nothing of theirs is missing."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from models_app import repositories, selectors, services
from models_app.errors import ModelNotFound
from models_app.models import Tag, User
from models_app.names import ModelName
from models_app.repositories import RepositoryRecord
from models_app.services import NewLayer, NewManifest
from registry import garbage, removal
from registry.blobs import BlobStore
from registry.digest import Digest
from tests.conftest import principal_for
from tests.registry.store_files import make_older

pytestmark = pytest.mark.django_db(transaction=True)

PUSHES = 12
# All pushes have some of the same few files, so that what one lets go of another needs.
FILES = [f"file {number}".encode() for number in range(3)]


@pytest.fixture(autouse=True)
def _everything_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """What protects the files is only what the rows and the locks say."""
    monkeypatch.setattr(garbage, "GRACE_S", 0.0)


def begin(store: BlobStore, owner: User, name: ModelName, data: bytes) -> RepositoryRecord:
    """Push the first file. A repository that holds nothing may be gone before: it is made anew."""
    while True:
        model = services.open_model(name, owner_id=owner.pk)
        record = RepositoryRecord(model.pk, model.namespace, model.name)
        with contextlib.suppress(ModelNotFound):
            link(store, record, data)
            return record


def link(store: BlobStore, record: RepositoryRecord, data: bytes) -> None:
    """Push a file."""
    with store.in_use():
        stored = store.write_bytes(data)
        make_older(store, stored.digest.file_name, 60)
        repositories.link_blob(record, stored.digest.hex, len(data))


def push(store: BlobStore, owner: User, tag: str, round_number: int) -> None:
    """Push two files and a manifest, and move or delete the tag afterwards."""
    name = ModelName(namespace=owner.username, model="m", tag=tag)
    datas = [FILES[round_number % 3], FILES[(round_number + 1) % 3]]
    record = begin(store, owner, name, datas[0])
    link(store, record, datas[1])
    digests = [Digest.of(data) for data in datas]
    layers = [NewLayer(digest=digest.hex, size_bytes=6, media_type="t") for digest in digests]
    body = f"{tag} {round_number}".encode()
    manifest = NewManifest(digest=Digest.of(body).hex, body=body, layers=layers)
    with store.in_use():
        sizes = repositories.file_sizes(record.model_id)
        assert {digest.hex for digest in digests} <= sizes.keys()
        assert all(store.exists(digest) for digest in digests)
        services.push_manifest(name, manifest, tags=[tag], owner_id=owner.pk)
    assert all(store.exists(digest) for digest in digests)
    removal.remove_unused()


def test_pushes_lose_nothing_to_a_collection_beside_them(store: BlobStore, alice: User) -> None:
    is_over = threading.Event()
    collected: list[garbage.Collected] = []

    def keep_collecting() -> None:
        try:
            while not is_over.is_set():
                collected.append(garbage.collect())
                (store.root / f"sha256-{os.urandom(32).hex()}").write_bytes(b"nobody's")
        finally:
            connections.close_all()

    def keep_pushing(tag: str) -> None:
        try:
            for round_number in range(PUSHES):
                push(store, alice, tag, round_number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(3) as pool:
        collector = pool.submit(keep_collecting)
        pushers = [pool.submit(keep_pushing, tag) for tag in ("one", "two")]
        try:
            for pusher in pushers:
                pusher.result(timeout=120)
        finally:
            is_over.set()
        collector.result(timeout=60)

    collected.append(garbage.collect())  # the others may have found the store in use each time
    assert sum(run.files for run in collected) > 0
    assert Tag.objects.count() == 2
    for data in FILES:
        digest = Digest.of(data)
        if selectors.may_use_blob(principal_for(alice), digest.hex):
            assert store.verify(digest)

"""Backups of a database and a store: what is in them, what is not copied again, what is left."""

import errno
import os
import stat
import tarfile
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from models_app.models import AuditEntry, User
from ollamasite.backups import databases
from ollamasite.backups.contents import BackupError, Contents
from ollamasite.backups.making import Choice, make
from ollamasite.backups.restoring import look_at
from registry.blobs import BlobStore
from registry.digest import Digest
from tests.conftest import MakeModel

pytestmark = pytest.mark.django_db(transaction=True)

ALL = Choice()


@pytest.fixture(autouse=True)
def _own_data_dir(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "data"
    settings.ENGINE_STATE_DIR = tmp_path / "data/engine"


def blobs_in(contents: Contents) -> set[str]:
    return {entry.name for entry in contents.files if entry.name.startswith("blobs/")}


def no_links(*_: object) -> None:
    raise OSError(errno.EXDEV, "another file system")


def modes_below(folder: Path) -> set[int]:
    return {
        stat.S_IMODE(path.stat().st_mode) & 0o077
        for path in [folder, *folder.rglob("*")]
        if "blobs" not in path.parts
    }


@pytest.mark.parametrize("name", ["one.tar", "folder"])
def test_backup_has_database_models_and_secrets(
    make_model: MakeModel, store: BlobStore, tmp_path: Path, name: str
) -> None:
    make_model("mine")
    made = make(tmp_path / name, ALL)

    assert look_at(tmp_path / name) == made
    assert blobs_in(made) == {f"blobs/{digest.file_name}" for digest in store.digests()}
    names = {entry.name for entry in made.files}
    assert names >= {"database", "secrets/secret_key", "secrets/key_pepper"}
    assert made.left_out == []
    assert made.migrations["models_app"]
    assert AuditEntry.objects.filter(action="site.backup").count() == 1


def test_nobody_else_can_read_it(make_model: MakeModel, tmp_path: Path) -> None:
    make_model("mine")
    before = os.umask(0)
    try:
        make(tmp_path / "one.tar", ALL)
        make(tmp_path / "folder", ALL)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "one.tar").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "folder/blobs").stat().st_mode) == 0o700
    assert modes_below(tmp_path / "folder") == {0}


def test_second_backup_copies_only_what_is_new(
    make_model: MakeModel, store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    make_model("mine")
    first = make(tmp_path / "folder", ALL)
    inodes = {path.name: path.stat().st_ino for path in (tmp_path / "folder/blobs").iterdir()}
    new = store.write_bytes(b"a file more")

    second = make(tmp_path / "folder", ALL)

    assert look_at(tmp_path / "folder") == second
    assert blobs_in(second) - blobs_in(first) == {f"blobs/{new.digest.file_name}"}
    after = {path.name: path.stat().st_ino for path in (tmp_path / "folder/blobs").iterdir()}
    assert inodes.items() <= after.items()
    states = [path.name for path in (tmp_path / "folder").iterdir()]
    assert sorted(states) == ["backup.json", "blobs", second.state]


def test_what_is_gone_from_the_site_goes_from_the_folder(
    make_model: MakeModel, store: BlobStore, tmp_path: Path
) -> None:
    extra = store.write_bytes(b"for a day")
    make(tmp_path / "folder", ALL)
    store.path(extra.digest).unlink()

    make(tmp_path / "folder", ALL)

    assert list((tmp_path / "folder/blobs").iterdir()) == []


@pytest.mark.parametrize("name", ["one.tar", "folder"])
def test_interrupted_backup_leaves_the_one_before(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_model("mine")
    before = make(tmp_path / name, ALL)
    names = sorted(path.name for path in tmp_path.iterdir())

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(databases, "dump", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / name, ALL)

    assert look_at(tmp_path / name) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("name", ["one.tar", "folder"])
def test_damaged_and_missing_files_are_named_and_left_out(
    make_model: MakeModel,
    store: BlobStore,
    tmp_path: Path,
    name: str,
    tiny_gguf: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_model("mine")
    digest = Digest.of(tiny_gguf.read_bytes())
    store.path(digest).unlink()
    store.path(digest).write_bytes(b"not what it was")
    others = {one.file_name for one in store.digests()} - {digest.file_name}
    # Where a link is made nothing is read: then the restore finds out.
    monkeypatch.setattr(os, "link", no_links)
    made = make(tmp_path / name, ALL)

    assert made.left_out == [digest.hex]
    assert blobs_in(look_at(tmp_path / name)) == {f"blobs/{one}" for one in others}


def test_what_is_not_wanted_is_not_in_it(make_model: MakeModel, tmp_path: Path) -> None:
    make_model("mine")
    made = make(tmp_path / "one.tar", Choice(has_blobs=False, has_secrets=False))

    assert {entry.name for entry in made.files} == {"database"}
    assert not made.has_blobs
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert tar.getnames() == ["database", "backup.json"]


def test_journals_are_in_it(settings: Settings, db: None, tmp_path: Path) -> None:
    folder = Path(settings.LEDGER_DIR)
    folder.mkdir(parents=True)
    (folder / "web-12-abc.jsonl").write_text("\n{}")
    (folder / "web-12-abc.jsonl.new").write_text("half")
    made = make(tmp_path / "folder", ALL)

    assert "ledger/web-12-abc.jsonl" in {entry.name for entry in made.files}
    assert (tmp_path / "folder" / made.state / "ledger/web-12-abc.jsonl").read_text() == "\n{}"


def test_nothing_is_removed_from_the_store_meanwhile(
    store: BlobStore, db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = store.write_bytes(b"nobody wants it")
    dump = databases.dump
    removed: list[bool] = []

    def dump_while_somebody_removes(path: Path) -> None:
        removed.append(store.remove([left.digest], is_wanted=lambda _: False))
        dump(path)

    monkeypatch.setattr(databases, "dump", dump_while_somebody_removes)
    made = make(tmp_path / "folder", ALL)

    assert removed == [False]
    assert blobs_in(made) == {f"blobs/{left.digest.file_name}"}


@pytest.mark.parametrize("name", ["one.tar", "folder"])
def test_two_at_once_are_refused(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def dump_beside_another(_: Path) -> None:
        make(tmp_path / name, ALL)

    monkeypatch.setattr(databases, "dump", dump_beside_another)
    with pytest.raises(BackupError, match="Another backup"):
        make(tmp_path / name, ALL)


def test_rows_of_the_moment_are_in_the_copy(alice: User, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    databases.dump(path)

    data = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if databases.kind() == databases.SQLITE:
        assert alice.username.encode() in data
    else:
        assert data.startswith(b"PGDMP")

"""A data directory and disks that are wrong in each way that is looked for."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pytest_django.fixtures import Settings

from ollamasite import data_dir
from ollamasite.checkup import files
from tests.ollamasite.checkup.found import codes


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    data_dir.prepare(folder)
    settings.DATA_DIR = folder
    settings.RUN_DIR = data_dir.run_dir(folder)
    settings.BLOBS_DIR = folder / "blobs"
    settings.SECRET_KEY = data_dir.read_secret(folder, "secret_key")
    settings.KEY_PEPPER = data_dir.read_secret(folder, "key_pepper")
    return folder


def test_directory_that_serve_has_made_is_well(folder: Path) -> None:
    assert codes(files.look_at_directory()) == set()


def test_missing_directory(folder: Path) -> None:
    shutil.rmtree(folder)
    assert codes(files.look_at_directory()) == {"data-dir.missing"}


def test_half_restored_directory(folder: Path) -> None:
    (folder / data_dir.RESTORING).touch()
    assert codes(files.look_at_directory()) == {"data-dir.half-restored"}


def test_directory_that_others_can_write_to(folder: Path) -> None:
    folder.chmod(0o777)
    assert codes(files.look_at_directory()) == {"data-dir.open"}


def test_secret_that_others_can_read(folder: Path) -> None:
    (folder / "secrets/key_pepper").chmod(0o644)
    (found,) = files.look_at_directory()
    assert found.code == "secrets.open"
    assert "644" in found.message
    assert f"chmod 600 {folder / 'secrets/key_pepper'}" in found.advice


def test_environment_that_names_another_secret_than_the_file(
    folder: Path, settings: Settings
) -> None:
    settings.KEY_PEPPER = "another"
    assert codes(files.look_at_directory()) == {"secrets.two-key-pepper"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_files_that_root_has_left_behind(folder: Path) -> None:
    shutil.chown(folder, 65534)
    assert codes(files.look_at_directory()) == {"data-dir.foreign-owner"}


def test_directory_that_may_not_be_written_to(folder: Path) -> None:
    """Looked at by somebody who is not root, to whom it is forbidden."""
    folder.chmod(0o555)
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:  # ends here, whatever happens
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            is_told = any(one.code == "data-dir.not-writable" for one in files._rights(folder))
            os.write(writes, b"y" if is_told else b"n")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writes)
    with os.fdopen(reads, "rb") as told:
        assert told.read() == b"y"
    folder.chmod(0o700)


# ------------------------------------------------------------------ disks


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """The store on a disk of its own, of 300 MB."""
    where = str(folder / "blobs")
    line = ["mount", "-t", "tmpfs", "-o", "size=300m,nr_inodes=2000", "tmpfs", where]
    mounted = subprocess.run(line, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a disk of one's own may not be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder / "blobs"
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)  # noqa: S607


@pytest.mark.parametrize(
    ("free", "expected"),
    [(100 * 1024**2, {"disk.full"}), (5 * 1024**3, {"disk.little"}), (50 * 1024**3, set())],
)
def test_disks_by_what_they_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch, free: int, expected: set[str]
) -> None:
    disk = Disk(1000 * 1024**3, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
    assert codes(files.look_at_disks()) == expected


def test_full_disk(small_disk: Path) -> None:
    assert "disk.full" not in codes(files._room("it", small_disk))
    with (small_disk / "draft-large").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100 * 1024**2)
    assert codes(files.look_at_disks()) >= {"disk.full"}


def test_disk_that_can_take_no_more_files(small_disk: Path) -> None:
    assert "disk.no-files" not in codes(files._room("it", small_disk))
    for number in range(1500):
        (small_disk / f"draft-{number}").touch()
    assert "disk.no-files" in codes(files._room("it", small_disk))


def test_each_disk_is_told_of_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10, 10, 0))
    assert stat.S_ISDIR((folder / "blobs").stat().st_mode)
    assert len(list(files.look_at_disks())) == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/site/db.sqlite3", "nfs4"),
        ("/srv/site two/db.sqlite3", "cifs"),
        ("/srv/site/local/db.sqlite3", None),
        ("/var/db.sqlite3", None),
    ],
)
def test_databases_on_other_machines_disks_are_known(path: str, kind: str | None) -> None:
    mounts = (
        "/dev/sda1 / ext4 rw 0 0\nnas:/site /srv/site nfs4 rw 0 0\n"
        "//nas/two /srv/site\\040two cifs rw 0 0\n/dev/sdb1 /srv/site/local xfs rw 0 0\n"
    )
    assert files.remote_kind(Path(path), mounts) == kind


def test_database_on_a_remote_disk_is_told(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"nas:/site {folder} nfs rw 0 0\n")
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", str(folder / "db.sqlite3"))
    assert codes(files.look_at_remote_disks()) == {"database.remote-disk"}

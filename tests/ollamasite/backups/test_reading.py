"""Backups that are damaged, cut off or forged: refused before anything is written."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from ollamasite.backups.contents import CONTENTS, BackupError
from ollamasite.backups.restoring import look_at
from tests.ollamasite.backups.forged import contents, entry, whole_tar, write_tar


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type = kind
    found.linkname = target
    return found


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "backup"
    (folder / "state-1").mkdir(parents=True)
    (folder / "state-1/database").write_bytes(b"rows")
    (folder / CONTENTS).write_bytes(contents())
    return folder


def test_whole_ones_are_whole(tmp_path: Path) -> None:
    assert look_at(whole_tar(tmp_path / "one.tar")).state == "state-1"
    assert look_at(folder_of(tmp_path)).state == "state-1"


@pytest.mark.parametrize(
    "other",
    [
        member("../../outside", tarfile.REGTYPE),
        member("/etc/cron.d/evil", tarfile.REGTYPE),
        member("database", tarfile.SYMTYPE, "/etc/shadow"),
        member("secrets/key_pepper", tarfile.LNKTYPE, "/etc/shadow"),
        member("ledger/web-1.jsonl", tarfile.FIFOTYPE),
        member("engine/ends.jsonl", tarfile.CHRTYPE),
        member("blobs", tarfile.DIRTYPE),
        member("secrets/key_pepper", tarfile.GNUTYPE_SPARSE),
        member("database", tarfile.REGTYPE),  # a second one
    ],
    ids=lambda one: f"{one.name}-{one.type.decode()}",
)
def test_strange_members_are_refused(tmp_path: Path, other: tarfile.TarInfo) -> None:
    with pytest.raises(BackupError):
        look_at(whole_tar(tmp_path / "one.tar", other))


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    data = whole_tar(tmp_path / "one.tar").read_bytes()
    end = data.rindex(b"}") + 1
    for length in range(0, end, 97):
        (tmp_path / "cut.tar").write_bytes(data[:length])
        with pytest.raises(BackupError):
            look_at(tmp_path / "cut.tar")


def test_every_changed_byte_of_a_file_is_noticed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "state-1/database").write_bytes(b"rowz")
    tar = write_tar(tmp_path / "one.tar", [("database", b"rowz"), (CONTENTS, contents())])

    for place in (folder, tar):
        with pytest.raises(BackupError, match=r"database .1 of its files. are not what they were"):
            look_at(place)


def test_missing_files_are_noticed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "state-1/database").unlink()
    told = contents(entry("secrets/key_pepper", b"p"))
    tar = write_tar(tmp_path / "one.tar", [("database", b"rows"), (CONTENTS, told)])

    with pytest.raises(BackupError, match="database is missing"):
        look_at(folder)
    with pytest.raises(BackupError, match="key_pepper is missing"):
        look_at(tar)


@pytest.mark.parametrize("name", [CONTENTS, "state-1/database"])
def test_links_and_devices_in_a_folder_are_not_followed(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path)
    data = (folder / name).read_bytes()
    (tmp_path / "elsewhere").write_bytes(data)
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BackupError, match="is a link"):
        look_at(folder)

    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BackupError, match="no plain file"):
        look_at(folder)


def test_folder_without_contents_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="never finished"):
        look_at(tmp_path)
    with pytest.raises(BackupError, match="There is no"):
        look_at(tmp_path / "nothing")


def test_contents_that_would_fill_the_memory_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path)
    tar = whole_tar(tmp_path / "one.tar")
    for module in ("folders", "tars"):
        monkeypatch.setattr(f"ollamasite.backups.{module}.MAX_CONTENTS_BYTES", 100)

    assert len(json.dumps(contents().decode())) > 100
    for place in (folder, tar):
        with pytest.raises(BackupError):
            look_at(place)

"""The store keeps what it was given under its hash, whole or not at all."""

import errno
import io
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import BlobNotFound, DigestMismatch, StorageFull

HELLO = Digest.of(b"hello world")


def files_of(store: BlobStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir())


def test_written_chunks_can_be_read_back(store: BlobStore) -> None:
    stored = store.write([b"hello ", b"world"])
    with store.open(stored.digest) as file:
        assert file.read() == b"hello world"


def test_a_blob_lies_under_its_digest(store: BlobStore) -> None:
    stored = store.write([b"hello world"])
    assert (stored.digest, stored.size_bytes, stored.is_new) == (HELLO, 11, True)
    assert files_of(store) == [HELLO.file_name]


def test_expected_digest_lets_the_right_bytes_in(store: BlobStore) -> None:
    assert store.write([b"hello world"], expected=HELLO).digest == HELLO


def test_wrong_bytes_are_refused_and_leave_nothing(store: BlobStore) -> None:
    with pytest.raises(DigestMismatch) as refusal:
        store.write([b"hello mars"], expected=HELLO)
    actual = Digest.of(b"hello mars")
    expected = f'digest mismatch, expected "{HELLO}", got "{actual}"'
    assert (refusal.value.message, files_of(store)) == (expected, [])


def test_a_source_that_fails_half_way_leaves_nothing(store: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"hello "
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.write(broken())
    assert files_of(store) == []


def test_writing_again_mends_a_spoilt_blob(store: BlobStore) -> None:
    store.write([b"hello world"])
    path = store.path(HELLO)
    path.chmod(0o600)
    path.write_bytes(b"hello w0rld")
    assert store.write([b"hello world"]).is_new is False
    assert store.verify(HELLO)


def test_verify_notices_a_changed_byte(store: BlobStore) -> None:
    store.write([b"hello world"])
    store.path(HELLO).chmod(0o600)
    store.path(HELLO).write_bytes(b"hello w0rld")
    assert not store.verify(HELLO)


def test_blobs_are_read_only(store: BlobStore) -> None:
    store.write([b"hello world"])
    assert store.path(HELLO).stat().st_mode & 0o222 == 0


def test_known_bytes_are_not_written_again(store: BlobStore) -> None:
    first = store.write_bytes(b"hello world")
    inode = store.path(HELLO).stat().st_ino
    second = store.write_bytes(b"hello world")
    assert (first.is_new, second.is_new) == (True, False)
    assert store.path(HELLO).stat().st_ino == inode


def test_empty_blob_is_a_blob(store: BlobStore) -> None:
    stored = store.write([])
    assert (stored.size_bytes, store.size_bytes(stored.digest)) == (0, 0)


@pytest.mark.parametrize("method", ["open", "verify", "size_bytes"])
def test_absent_blob_is_named(store: BlobStore, method: str) -> None:
    with pytest.raises(BlobNotFound, match=f"blob {HELLO} not found"):
        getattr(store, method)(HELLO)


def test_absent_blob_does_not_exist(store: BlobStore) -> None:
    assert not store.exists(HELLO)


def test_imported_file_is_a_copy(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"hello world")
    stored = store.import_file(source)
    source.write_bytes(b"changed")
    assert stored.digest == HELLO
    assert store.verify(HELLO)


def test_imported_file_with_another_digest_is_refused(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"hello mars")
    with pytest.raises(DigestMismatch):
        store.import_file(source, expected=HELLO)
    assert files_of(store) == []


def test_many_writers_of_one_blob_agree(store: BlobStore) -> None:
    parts = [b"x" * 65536] * 16
    writers = [threading.Thread(target=store.write, args=(parts,)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert files_of(store) == [Digest.of(b"".join(parts)).file_name]


def test_memory_stays_flat_while_a_large_file_is_imported(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "large"
    with source.open("wb") as file:
        os.truncate(file.fileno(), 64 * 1024 * 1024)
    tracemalloc.start()
    store.import_file(source)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 * 1024 * 1024


def test_draft_that_is_not_kept_is_gone(store: BlobStore) -> None:
    with store.draft() as draft:
        draft.add(b"hello world")
    assert files_of(store) == []


def test_draft_knows_its_digest(store: BlobStore) -> None:
    with store.draft() as draft:
        draft.add(b"hello ")
        draft.add(b"world")
        assert draft.digest == HELLO
        assert draft.keep().digest == HELLO
    assert files_of(store) == [HELLO.file_name]


def test_only_what_is_not_wanted_is_removed(store: BlobStore) -> None:
    other = store.write_bytes(b"other").digest
    store.write_bytes(b"hello world")
    assert store.remove([HELLO, other], is_wanted=lambda digest: digest == other)
    assert files_of(store) == [other.file_name]


def test_removing_what_is_not_there_is_no_failure(store: BlobStore) -> None:
    assert store.remove([HELLO], is_wanted=lambda _: False)


def test_nothing_is_removed_while_the_store_is_in_use(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.blobs._PATIENCE_S", 0.1)
    store.write_bytes(b"hello world")
    with store.in_use(), store.in_use():
        assert not store.remove([HELLO], is_wanted=lambda _: False)
    assert files_of(store) == [HELLO.file_name]
    assert store.remove([HELLO], is_wanted=lambda _: False)


def test_removal_waits_a_moment_for_those_who_use_the_store(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.blobs._PATIENCE_S", 60.0)
    store.write_bytes(b"hello world")
    is_held = threading.Event()

    def hold() -> None:
        with store.in_use():
            is_held.set()
            time.sleep(0.2)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait()
    assert store.remove([HELLO], is_wanted=lambda _: False)
    holder.join()


class FullDisk(io.RawIOBase):
    """A file on a disk without room, as far as writing goes."""

    def __init__(self, code: int) -> None:
        self._code = code

    def write(self, _: Any) -> int:
        raise OSError(self._code, os.strerror(self._code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_said_in_words(store: BlobStore, code: int) -> None:
    with store.draft() as draft:
        Path(draft._file.name).unlink()
        draft._file.file = FullDisk(code)  # type: ignore[assignment]
        draft._file.__dict__.pop("write", None)
        with pytest.raises(StorageFull, match="not enough disk space"):
            draft.add(b"x")


def test_other_failures_of_the_disk_are_not_called_full(store: BlobStore) -> None:
    with store.draft() as draft:
        Path(draft._file.name).unlink()
        draft._file.file = FullDisk(errno.EIO)  # type: ignore[assignment]
        draft._file.__dict__.pop("write", None)
        with pytest.raises(OSError, match="Input/output"):
            draft.add(b"x")

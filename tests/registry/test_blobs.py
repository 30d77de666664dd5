"""The store keeps what it was given under its hash, whole or not at all."""

import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import BlobNotFound, DigestMismatch

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

"""GGUF files read in a process of their own: the same result, and hostile ones do no harm."""

import os
from pathlib import Path

import msgspec
import pytest

from registry import gguf_child, gguf_process
from registry.blobs import BlobStore
from registry.digest import Digest
from registry.errors import BlobNotFound, GgufError
from registry.gguf import read_gguf
from registry.gguf_process import inspect, inspect_blob
from tests.gguf_files import write_tiny_model
from tests.registry.gguf_mutations import mutate

MUTATIONS = range(240)


@pytest.fixture(scope="session")
def tiny_bytes(tiny_gguf: Path) -> bytes:
    return tiny_gguf.read_bytes()


@pytest.fixture(scope="session")
def head_bytes(tiny_gguf: Path) -> int:
    """How long what is read of the tiny file is: all before the weights."""
    return read_gguf(tiny_gguf).data_offset


@pytest.mark.parametrize("with_arrays", [False, True])
def test_process_reads_what_the_reader_reads(tiny_gguf: Path, with_arrays: bool) -> None:
    assert inspect(tiny_gguf, with_arrays=with_arrays) == read_gguf(
        tiny_gguf, with_arrays=with_arrays
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "supplied file was not in GGUF format"),
        (b"PK\3\4" + bytes(100), "supplied file was not in GGUF format"),
        (b"GGUF", "the GGUF file is cut short"),
        (b"GGUF" + bytes(100), "GGUF version 0 is not supported, only 2 and 3"),
    ],
)
def test_refusals_come_back_in_words(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(GgufError) as refusal:
        inspect(path)
    assert refusal.value.message == message


def test_link_is_not_followed(tmp_path: Path, tiny_gguf: Path) -> None:
    link = tmp_path / "m.gguf"
    link.symlink_to(tiny_gguf)
    with pytest.raises(GgufError, match="cannot be opened"):
        inspect(link)


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GgufError):
        inspect(tmp_path / "pipe")


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(GgufError):
        inspect(tmp_path)


def test_file_that_takes_too_long_is_refused(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_process, "_WALL_S", 0.001)
    with pytest.raises(GgufError, match="the GGUF file cannot be read: it takes longer than"):
        inspect(tiny_gguf)


def test_file_that_says_too_much_is_refused(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_process, "_OUTPUT_BYTES", 100)
    with pytest.raises(GgufError, match="the GGUF file cannot be read: the result is too large"):
        inspect(tiny_gguf)


def test_arrays_may_be_larger_than_the_rest(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_process, "_OUTPUT_BYTES", 100)
    assert inspect(tiny_gguf, with_arrays=True).metadata["tokenizer.ggml.tokens"]


def test_blob_is_read_once(store: BlobStore, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", seed=101)
    digest = store.import_file(path).digest
    assert inspect_blob(digest, store=store) is inspect_blob(digest, store=store)


def test_remembered_blob_that_is_gone_is_missing(store: BlobStore, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", seed=102)
    digest = store.import_file(path).digest
    inspect_blob(digest, store=store)
    store.path(digest).unlink()
    with pytest.raises(BlobNotFound):
        inspect_blob(digest, store=store)


def test_only_the_last_few_blobs_are_remembered(store: BlobStore, tiny_gguf: Path) -> None:
    known = gguf_process._Known()
    file = read_gguf(tiny_gguf)
    digests = [Digest.of(bytes([number])) for number in range(20)]
    for digest in digests:
        known.put(digest, file)
    assert [known.get(digest) is None for digest in digests] == [True] * 4 + [False] * 16


def test_missing_blob_is_named(store: BlobStore) -> None:
    digest = Digest.of(b"nothing")
    with pytest.raises(BlobNotFound, match=str(digest)):
        inspect_blob(digest, store=store)


# ------------------------------------------------------------------ spoilt files


@pytest.mark.parametrize("seed", MUTATIONS)
def test_spoilt_file_is_read_or_refused(
    tmp_path: Path, tiny_bytes: bytes, head_bytes: int, seed: int
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(mutate(tiny_bytes, seed, head_bytes=head_bytes))
    descriptor = os.open(path, os.O_RDONLY)
    answer = gguf_child.answer(gguf_child.Request(descriptor, with_arrays=True))
    assert (answer.file is None) == bool(answer.error)
    assert msgspec.json.decode(msgspec.json.encode(answer), type=gguf_child.Answer) == answer


def test_spoilt_files_are_of_both_sorts(tiny_bytes: bytes, head_bytes: int, tmp_path: Path) -> None:
    """The corpus shows something: some of it can still be read, most of it cannot."""
    refused = 0
    for seed in MUTATIONS:
        path = tmp_path / f"{seed}.gguf"
        path.write_bytes(mutate(tiny_bytes, seed, head_bytes=head_bytes))
        try:
            read_gguf(path)
        except GgufError:
            refused += 1
    assert 60 < refused < len(MUTATIONS) - 20

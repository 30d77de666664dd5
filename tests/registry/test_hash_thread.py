"""Hashing beside writing: the same hash, and an end in every case."""

import hashlib

import pytest

from registry.hash_thread import HashThread

LARGE = bytes(1024 * 1024)


@pytest.mark.parametrize("data", [b"few", LARGE, memoryview(LARGE)])
def test_hash_is_there_after_the_block(data: bytes | memoryview) -> None:
    thread, hasher = HashThread(), hashlib.sha256()
    with thread.hashing(hasher, data):
        pass
    thread.close()

    assert hasher.hexdigest() == hashlib.sha256(data).hexdigest()


def test_block_that_fails_leaves_nobody_hashing() -> None:
    thread, hasher = HashThread(), hashlib.sha256()
    with pytest.raises(OSError, match="disk"), thread.hashing(hasher, LARGE):
        raise OSError("disk")
    thread.close()

    assert hasher.hexdigest() == hashlib.sha256(LARGE).hexdigest()


def test_without_a_hash_nothing_is_hashed() -> None:
    thread = HashThread()
    with thread.hashing(None, LARGE):
        pass
    thread.close()

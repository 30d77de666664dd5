"""Files of a store that are as old as a test wants them. Knows no row of the database."""

import os
import time

from registry.blobs import BlobStore
from registry.digest import Digest


def names_of(store: BlobStore) -> set[str]:
    """Return the names of all files in the store's folder."""
    return set(store.file_names())


def write_blob(store: BlobStore, data: bytes, *, age_s: float = 0.0) -> Digest:
    """Store a blob as if it had been written so long ago."""
    digest = store.write_bytes(data).digest
    make_older(store, digest.file_name, age_s)
    return digest


def write_part(store: BlobStore, name: str, *, age_s: float = 0.0) -> str:
    """Write a file in part and return its name."""
    store.make_root()
    (store.root / name).write_bytes(b"so far")
    make_older(store, name, age_s)
    return name


def make_older(store: BlobStore, name: str, age_s: float) -> None:
    """Say that a file was written to so long ago, by the clock that the test has."""
    written_at = time.time() - age_s
    os.utime(store.root / name, (written_at, written_at))

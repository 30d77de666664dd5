"""The store of models: files that are missing, of another size, damaged or nobody's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.conf import settings

from models_app import stored_files
from ollamasite.checkup.findings import Finding, error, warning
from registry.blobs import KNOWN_PREFIXES, blob_store
from registry.digest import Digest
from registry.verification import Damaged, verify_some, verify_store

_SAMPLE_BYTES: Final = 256 * 1024**2


def look() -> Iterator[Finding]:
    """Tell what is wrong with the files, by name and size."""
    if not Path(settings.BLOBS_DIR).is_dir():
        return
    store = blob_store()
    sizes = stored_files.recorded_sizes()
    there = {digest.hex: store.path(digest) for digest in store.digests()}
    for digest in sorted(stored_files.needed_digests() - there.keys()):
        yield _damaged(_told(digest, is_missing=True))
    for digest, size_bytes in sizes.items():
        path = there.get(digest)
        if path is not None and path.stat().st_size != size_bytes:
            yield _damaged(_told(digest, is_missing=False))
    yield from _others(store.file_names())


def look_at_some_bytes() -> Iterator[Finding]:
    """Hash a few files, others each time: who looks every night finds a disk that forgets."""
    yield from map(_damaged, verify_some(_SAMPLE_BYTES))


def look_at_bytes() -> Iterator[Finding]:
    """Hash every file, and tell which are damaged. Takes about a second for each GB."""
    yield from (_damaged(found) for found in verify_store() if not found.is_missing)


def _told(digest: str, *, is_missing: bool) -> Damaged:
    models = tuple(stored_files.models_with(digest))
    return Damaged(digest=Digest(digest), is_missing=is_missing, models=models)


def _damaged(found: Damaged) -> Finding:
    return error(
        "store.missing" if found.is_missing else "store.damaged",
        f"The file {found}.",
        "Run `ollamasite verify --set-aside` and pull or upload the model again, or restore it.",
    )


def _others(names: list[str]) -> Iterator[Finding]:
    set_aside = [name for name in names if name.startswith("damaged-")]
    if set_aside:
        yield warning(
            "store.set-aside",
            f"Damaged files that were set aside: {len(set_aside)}, such as {set_aside[0]}.",
            "Remove them, and look after the disk.",
        )
    foreign = [name for name in names if not name.startswith(KNOWN_PREFIXES)]
    if foreign:
        yield warning(
            "store.foreign",
            f"Files in the store that are nobody's: {len(foreign)}, such as {min(foreign)!r}.",
            f"Move them out of {settings.BLOBS_DIR}.",
        )

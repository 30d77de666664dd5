"""From uploaded files to the blobs of a model: which file is what, and split files made whole.

Knows GGUF files only; no HTTP, no manifests, no access rules: who may use which blob is decided by
the caller. Statuses and refusals: contract/ollama.md 2.5, 4.5 and 11.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from registry.blobs import BlobStore, StoredBlob
from registry.digest import Digest
from registry.disk_space import require_free_bytes
from registry.errors import BlobNotFound, GgufError, InvalidCreate
from registry.gguf import GgufFile, starts_like_gguf
from registry.gguf_process import inspect_blob, open_regular
from registry.gguf_roles import Role, role_of
from registry.gguf_split import MAX_PARTS, Part, check_parts, joined, joined_size_bytes
from registry.progress import NO_DIGEST, Progress, Report

_MAX_FILES: Final = MAX_PARTS + 8
_REPORT_BYTES: Final = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Sources:
    """The blobs that uploaded files have become."""

    weights: StoredBlob
    projector: StoredBlob | None = None
    adapter: StoredBlob | None = None


@dataclass(frozen=True, slots=True)
class _Upload:
    """One uploaded file, read."""

    digest: Digest
    gguf: GgufFile


def prepare_files(files: Mapping[str, Digest], *, store: BlobStore, report: Report) -> Sources:
    """Return the model that uploaded files (relative path -> digest) are.

    Raises InvalidCreate, GgufError, BlobNotFound, StorageFull.
    """
    uploads = _read_all(files, store, report)
    report(Progress(status="verifying conversion"))
    by_role: dict[Role, list[_Upload]] = {role: [] for role in Role}
    for upload in uploads:
        by_role[role_of(upload.gguf)].append(upload)
    projectors, adapters = by_role[Role.PROJECTOR], by_role[Role.ADAPTER]
    if len(projectors) > 1:
        raise InvalidCreate("only one projector is currently supported")
    _require_single_adapter(adapters)
    return Sources(
        weights=_weights(by_role[Role.MODEL], store, report),
        projector=_stored(projectors[0].digest, store) if projectors else None,
        adapter=_stored(adapters[0].digest, store) if adapters else None,
    )


def prepare_adapters(
    adapters: Mapping[str, Digest], *, store: BlobStore, report: Report
) -> StoredBlob:
    """Return the one LoRA adapter that was uploaded.

    Raises InvalidCreate, GgufError, BlobNotFound.
    """
    _check_paths(adapters)
    _require_single_adapter(list(adapters))
    uploads = _read_all(adapters, store, report)
    found = uploads[0].gguf
    if role_of(found) is not Role.ADAPTER or found.metadata.get("adapter.type") != "lora":
        raise InvalidCreate("the file is not a LoRA adapter in GGUF format")
    return _stored(uploads[0].digest, store)


# ------------------------------------------------------------------ what was uploaded


def _read_all(files: Mapping[str, Digest], store: BlobStore, report: Report) -> list[_Upload]:
    _check_paths(files)
    _require_gguf(files, store)
    found: dict[Digest, GgufFile] = {}
    for digest in files.values():
        report(Progress(status="parsing GGUF"))
        if digest not in found:  # reading one can take a while, whatever how often it is named
            found[digest] = inspect_blob(digest, store=store)
    return [_Upload(digest, found[digest]) for digest in files.values()]


def _check_paths(files: Mapping[str, Digest]) -> None:
    if len(files) > _MAX_FILES:
        raise InvalidCreate(f"{len(files)} files are more than a model may have ({_MAX_FILES})")
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidCreate("file path must be relative")


def _require_gguf(files: Mapping[str, Digest], store: BlobStore) -> None:
    """Tell formats apart as Ollama does: by the names' endings, else by how files begin."""
    endings = {PurePosixPath(name).suffix.lower() for name in files}
    if ".safetensors" in endings:
        raise InvalidCreate(
            "conversion of safetensors is not supported: convert the model to GGUF first"
        )
    if ".gguf" not in endings and not any(_is_gguf(digest, store) for digest in files.values()):
        raise InvalidCreate("unknown type")


def _is_gguf(digest: Digest, store: BlobStore) -> bool:
    if not store.exists(digest):
        raise BlobNotFound(str(digest))
    with open_regular(store.path(digest)) as file:
        return starts_like_gguf(file)


def _require_single_adapter(adapters: Sequence[object]) -> None:
    if len(adapters) > 1:
        raise InvalidCreate("only one adapter is currently supported")


def _stored(digest: Digest, store: BlobStore) -> StoredBlob:
    return StoredBlob(digest, store.size_bytes(digest), is_new=False)


# ------------------------------------------------------------------ the model's weights


def _weights(models: Sequence[_Upload], store: BlobStore, report: Report) -> StoredBlob:
    if not models:
        raise InvalidCreate("no files provided to convert")
    if any(upload.gguf.split_count > 1 for upload in models):
        return _join(models, store, report)
    if len(models) > 1:
        raise InvalidCreate("only a single GGUF file is supported")
    if not models[0].gguf.tensors:
        raise GgufError("the GGUF file has no tensors")
    return _stored(models[0].digest, store)


def _join(models: Sequence[_Upload], store: BlobStore, report: Report) -> StoredBlob:
    parts = [upload.gguf for upload in models]
    check_parts(parts)
    total = joined_size_bytes(parts)
    require_free_bytes(store.root, total)
    with contextlib.ExitStack() as files:
        opened = [
            Part(upload.gguf, files.enter_context(open_regular(store.path(upload.digest))))
            for upload in models
        ]
        status = f"joining {len(parts)} GGUF files"
        blob = store.write(_reported(joined(opened), total, status, report))
    # Written by ourselves, and read as strictly as what comes from elsewhere.
    inspect_blob(blob.digest, store=store)
    return blob


def _reported(pieces: Iterable[bytes], total: int, status: str, report: Report) -> Iterator[bytes]:
    completed = told = 0
    report(Progress(status=status, digest=NO_DIGEST, total=total))
    for piece in pieces:
        yield piece
        completed += len(piece)
        if completed - told >= _REPORT_BYTES:
            told = completed
            report(Progress(status=status, digest=NO_DIGEST, total=total, completed=told))
    report(Progress(status=status, digest=NO_DIGEST, total=total, completed=total))

"""Garbage: what nobody needs goes, in the database first and then from the disk.

Safe beside running pushes, pulls and creates in any process. Files are let go of only while
nobody can begin to need one (`registry.blobs`), only if no row wants them then, and only if they
have lain there for an hour: whoever writes one says soon after what it is for. What has come in
part stays as long as its settings say, and while somebody holds its lock. Knows no HTTP and no
kind of client.
"""

import fcntl
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from django.conf import settings
from django.utils import timezone

from models_app import garbage as rows
from models_app import selectors, services
from registry import progress, upload_sessions
from registry.blobs import BlobStore, blob_store
from registry.digest import Digest
from registry.progress import Progress, Report

if TYPE_CHECKING:
    from registry.jobs.context import JobContext

GRACE_S: Final = 3600.0
_DRAFTS_KEPT_S: Final = 86400.0
_SIGNATURES_KEPT_S: Final = 900.0
_WATCHERS_KEPT_S: Final = 900.0
# Nobody can begin to need a file while a batch goes.
_BATCH: Final = 16
_BLOCK_BYTES: Final = 512  # of st_blocks, whatever the disk has


class GarbageArguments(msgspec.Struct, frozen=True):
    """What a job of this kind is told: nothing."""


@dataclass(slots=True)
class Collected:
    """How much has gone. `freed_bytes`: of all files together, as they were on the disk."""

    uploads: int = 0  # files in part and files that nothing was made of
    tags: int = 0
    manifests: int = 0  # that were pushed, and have no tag
    models: int = 0  # repositories without anything
    records: int = 0  # signatures, watchers and jobs of the past
    files: int = 0
    freed_bytes: int = 0

    def __str__(self) -> str:
        return ", ".join(
            f"{getattr(self, field.name)} {field.name.replace('_', ' ')}" for field in fields(self)
        )


def run(context: "JobContext", arguments: GarbageArguments) -> None:
    """Do a garbage job. Raises JobCancelled."""
    del arguments
    collected = collect(context.report)
    context.report(Progress(status=f"removed {collected}"))
    context.report(Progress(status="success"))


def collect(report: Report = progress.ignore) -> Collected:
    """Remove all that nobody needs any longer, and tell of the steps; `report` may end it early."""
    collected = Collected()
    steps: tuple[tuple[str, Callable[[Collected, Report], None]], ...] = (
        ("removing uploads that were left", _collect_uploads),
        ("removing tags and manifests that are not kept", _collect_manifests),
        ("removing unused files", _collect_files),
        ("removing records of the past", _collect_records),
    )
    for status, step in steps:
        report(Progress(status=status))
        step(collected, report)
    return collected


# ------------------------------------------------------------------ rows


def _collect_uploads(collected: Collected, report: Report) -> None:
    store = blob_store()
    before = _before(settings.UPLOADS_KEPT_S)
    if before is not None:
        for session_id in rows.idle_sessions(before):
            report(Progress(status="removing uploads that were left"))
            path = upload_sessions.path_of(session_id)
            if path.exists() and not _is_older(path, settings.UPLOADS_KEPT_S):
                continue  # a single request may have sent bytes of it for longer than that
            size_bytes = _disk_bytes(path)
            if upload_sessions.discard(session_id):
                collected.uploads += 1
                collected.freed_bytes += size_bytes
        quiet_since = timezone.now() - timedelta(seconds=GRACE_S)
        collected.uploads += rows.drop_uploads(before)
        collected.uploads += rows.drop_links(before, quiet_since=quiet_since)
    for path in _parts(store):
        report(Progress(status="removing uploads that were left"))
        freed_bytes = _remove_part(path)
        if freed_bytes is not None:
            collected.uploads += 1
            collected.freed_bytes += freed_bytes


def _collect_manifests(collected: Collected, report: Report) -> None:
    collected.tags += rows.drop_surplus_tags()
    before = _before(settings.UNTAGGED_KEPT_S)
    if before is not None:
        collected.manifests += rows.drop_untagged(before)
    report(Progress(status="removing tags and manifests that are not kept"))
    dropped = [Digest(digest) for digest in services.drop_unused()]
    rows.drop_stale_blobs()
    # Nobody has said that they want these, so they need not lie there for an hour first.
    _remove_files(dropped, collected, report, is_kept=lambda _: False)
    grace = timezone.now() - timedelta(seconds=GRACE_S)
    collected.models += rows.drop_empty_models(grace)


def _collect_records(collected: Collected, report: Report) -> None:
    del report
    now = timezone.now()
    collected.records += rows.drop_signatures(now - timedelta(seconds=_SIGNATURES_KEPT_S))
    collected.records += rows.drop_watchers(now - timedelta(seconds=_WATCHERS_KEPT_S))
    before = _before(settings.JOBS_KEPT_S)
    if before is not None:
        collected.records += rows.drop_jobs(before)


def _before(kept_s: float) -> datetime | None:
    """Return since when something has to lie there to go; None: it never does."""
    try:
        return timezone.now() - timedelta(seconds=kept_s)
    except OverflowError:
        return None


# ------------------------------------------------------------------ files


def _collect_files(collected: Collected, report: Report) -> None:
    store = blob_store()

    def is_young(digest: Digest) -> bool:
        return not _is_older(store.path(digest), GRACE_S)

    digests = (digest for digest in store.digests() if not is_young(digest))
    _remove_files(digests, collected, report, is_kept=is_young)


def _remove_files(
    digests: Iterable[Digest],
    collected: Collected,
    report: Report,
    *,
    is_kept: Callable[[Digest], bool],
) -> None:
    """Remove files that no row wants, unless they are to be kept, a few at a time.

    Where the store is in use for long, a few are left for the next time.
    """
    store = blob_store()
    remaining = iter(digests)
    while batch := list(islice(remaining, _BATCH)):
        report(Progress(status="removing unused files"))
        wanted = selectors.wanted_blobs(digest.hex for digest in batch)
        unwanted = [digest for digest in batch if digest.hex not in wanted]
        removal = _Removal(store, unwanted, is_kept)
        if unwanted and store.remove(unwanted, is_wanted=removal.is_wanted):
            collected.files += removal.files
            collected.freed_bytes += removal.freed_bytes


class _Removal:
    """Says of each file of a batch, while nobody can begin to need one, whether it stays."""

    def __init__(
        self, store: BlobStore, digests: list[Digest], is_kept: Callable[[Digest], bool]
    ) -> None:
        self.files = 0
        self.freed_bytes = 0
        self._store = store
        self._digests = digests
        self._is_kept = is_kept
        self._wanted: set[str] | None = None

    def is_wanted(self, digest: Digest) -> bool:
        if self._wanted is None:
            self._wanted = selectors.wanted_blobs(digest.hex for digest in self._digests)
        if digest.hex in self._wanted or self._is_kept(digest):
            return True
        if self._store.exists(digest):
            self.files += 1
            self.freed_bytes += _disk_bytes(self._store.path(digest))
        return False


def _parts(store: BlobStore) -> Iterator[Path]:
    """Yield the files in part that have not been written to for long and have no session."""
    kept_s = settings.UPLOADS_KEPT_S
    prefixes = {"draft-": _DRAFTS_KEPT_S, "partial-": kept_s, "push-": kept_s, "upload-": kept_s}
    names = [name for name in store.file_names() if name.startswith(tuple(prefixes))]
    sessions = rows.known_sessions(
        name.removeprefix("upload-") for name in names if name.startswith("upload-")
    )
    for name in names:
        path = store.root / name
        kind = name.partition("-")[0]
        has_session = kind == "upload" and name.removeprefix("upload-") in sessions
        if not has_session and _is_older(path, prefixes[f"{kind}-"]):
            yield path


def _remove_part(path: Path) -> int | None:
    """Remove a file in part with its state, if nobody holds it; return how many bytes it had.

    What stands beside a file, as `<name>.<something>`, goes with it, and never alone.
    """
    owner = path.with_name(path.name.partition(".")[0])
    if path.name.startswith("partial-") and owner != path and owner.exists():
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None  # somebody has been quicker
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size_bytes = os.fstat(descriptor).st_blocks * _BLOCK_BYTES
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return None
    else:
        for beside in path.parent.glob(f"{path.name}.*"):
            beside.unlink(missing_ok=True)
        return size_bytes
    finally:
        os.close(descriptor)


def _is_older(path: Path, seconds: float) -> bool:
    """Whether a file has not been written to for so long; false where it is gone."""
    if not math.isfinite(seconds):
        return False
    try:
        return path.stat().st_mtime < time.time() - seconds
    except FileNotFoundError:
        return False


def _disk_bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * _BLOCK_BYTES
    except FileNotFoundError:
        return 0

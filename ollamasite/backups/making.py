"""Makes a backup while the site runs: database and store of one moment, secrets, journals.

The order makes it whole: journals of what is not in the ledger yet, then the database, then the
store's files, which nobody can remove meanwhile. So each request that had ended is in one of the
first two, and every file that the database names is there. Half a backup is never in a whole
one's place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

from django.conf import settings

from models_app import audit, ledger_journal, stored_files
from ollamasite.backups import databases, hashing
from ollamasite.backups.contents import DATABASE, FORMAT, Contents, Entry, blob_digest
from ollamasite.backups.folders import FolderWriter
from ollamasite.backups.tars import TarWriter
from ollamasite.data_dir import SECRET_NAMES
from registry.blobs import BlobStore, blob_store

_TAR: Final = ".tar"
_SITE_KEY: Final = "id_ed25519"


class _Writer(Protocol):
    room: Path  # for what is being made, on the same disk

    def add(self, name: str, path: Path) -> Entry: ...
    def finish(self, contents: Contents) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is to be in a backup besides the database."""

    has_blobs: bool = True
    has_secrets: bool = True


def is_tar(place: Path) -> bool:
    """Whether a backup at this place is one file."""
    return place.suffix == _TAR and not place.is_dir()


def make(place: Path, choice: Choice) -> Contents:
    """Write a backup to a file that ends in `.tar`, or else into a folder, and return its contents.

    Raises BackupError, OSError, django.db.DatabaseError.
    """
    moment = datetime.now(UTC)
    state = f"state-{moment:%Y%m%dT%H%M%S-%f}"
    migrations = databases.migrations()
    audit.record("site.backup", by=None, blobs=choice.has_blobs, secrets=choice.has_secrets)
    with _writer(place, state) as writer:
        store = blob_store()
        with store.in_use():
            files = _add_records(writer)
            wanted = stored_files.needed_digests()
            blobs = _add_blobs(writer, store) if choice.has_blobs else []
        if choice.has_secrets:
            files += _add_secrets(writer)
        good = [entry for entry in blobs if entry.sha256 == blob_digest(entry.name)]
        kept = {entry.sha256 for entry in good}
        contents = Contents(
            format=FORMAT,
            made_at=moment.isoformat(timespec="seconds"),
            site_version=version("ollamasite"),
            database=databases.kind(),
            migrations=migrations,
            state=state,
            has_blobs=choice.has_blobs,
            files=[*files, *good],
            left_out=sorted(wanted - kept) if choice.has_blobs else [],
        )
        writer.finish(contents)
    return contents


@contextmanager
def _writer(place: Path, state: str) -> Iterator[_Writer]:
    writer: _Writer = TarWriter(place) if is_tar(place) else FolderWriter(place, state)
    try:
        yield writer
    finally:
        writer.close()


def _add_records(writer: _Writer) -> list[Entry]:
    """Add what changes all the time: journals, the database, what the node knows."""
    # Before the database: what ends between the two is in both, and a second writing of it
    # changes nothing.
    journals = sorted(Path(settings.LEDGER_DIR).glob(ledger_journal.PATTERN))
    files = [*_add_copies(writer, "ledger", journals)]
    dump = writer.room / DATABASE
    databases.dump(dump)
    files.append(writer.add(DATABASE, dump))
    dump.unlink()
    ends = sorted(Path(settings.ENGINE_STATE_DIR).glob("ends*.jsonl"))
    return [*files, *_add_copies(writer, "engine", ends)]


def _add_copies(writer: _Writer, folder: str, paths: list[Path]) -> Iterator[Entry]:
    for path in paths:
        draft = writer.room / "journal"
        try:
            with path.open("rb") as file:
                hashing.create(draft, file)
        except FileNotFoundError:
            continue  # all that it told is in the database now
        yield writer.add(f"{folder}/{path.name}", draft)
        draft.unlink()


def _add_blobs(writer: _Writer, store: BlobStore) -> list[Entry]:
    digests = sorted(store.digests(), key=str)
    return [writer.add(f"blobs/{digest.file_name}", store.path(digest)) for digest in digests]


def _add_secrets(writer: _Writer) -> list[Entry]:
    """Add the secrets that are in force, wherever they come from."""
    texts = dict(zip(SECRET_NAMES, (settings.SECRET_KEY, settings.KEY_PEPPER), strict=True))
    files: list[Entry] = []
    for name, text in texts.items():
        draft = writer.room / name
        draft.touch(mode=0o600)
        draft.write_text(text)
        files.append(writer.add(f"secrets/{name}", draft))
    site_key = Path(settings.DATA_DIR) / "secrets" / _SITE_KEY
    if site_key.exists():
        files.append(writer.add(f"secrets/{_SITE_KEY}", site_key))
    return files

"""Restores a backup into an empty data directory and an empty database, and nowhere else.

Every file is hashed before the first is written. A restore that was interrupted leaves a mark, by
which no site starts on the half of it and the next restore goes on.
"""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Protocol

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError

from models_app import audit
from ollamasite import data_dir
from ollamasite.backups import databases, hashing
from ollamasite.backups.contents import DATABASE, BackupError, Contents, Entry, blob_digest
from ollamasite.backups.folders import FolderReader
from ollamasite.backups.tars import TarReader
from ollamasite.start_checks import ServeError, hold_lock
from registry.blobs import blob_store
from registry.digest import Digest
from registry.disk_space import require_free_bytes
from registry.errors import StorageFull

# What may lie in a data directory in which nothing is.
_NOTHING: Final = frozenset({"serve.lock", "run", "lost+found"})


class _Reader(Protocol):
    contents: Contents

    def files(self) -> Iterator[tuple[Entry, IO[bytes]]]: ...
    def close(self) -> None: ...


def look_at(place: Path) -> Contents:
    """Read a whole backup and return what it holds. Raises BackupError where it is damaged."""
    with _reader(place) as reader:
        _verify(reader)
        return reader.contents


def restore(place: Path) -> Contents:
    """Make this site what a backup tells. Raises BackupError, OSError."""
    with _reader(place) as reader:
        _refuse_unfit(reader.contents)
        secrets = _verify(reader)
        _refuse_other_secrets(secrets)
        with _empty_data_dir(reader.contents):
            database = _write_files(reader)
            databases.load(database)
            shutil.rmtree(database.parent)
            call_command("migrate", interactive=False, verbosity=0)
            _record(reader.contents, secrets)
        return reader.contents


@contextmanager
def _reader(place: Path) -> Iterator[_Reader]:
    if not place.exists():
        raise BackupError(f"There is no {place}.")
    reader: _Reader = FolderReader(place) if place.is_dir() else TarReader(place)
    try:
        yield reader
    finally:
        reader.close()


# ------------------------------------------------------------------ before anything is written


def _refuse_unfit(contents: Contents) -> None:
    if contents.database != databases.kind():
        raise BackupError(
            f"This backup is of a site on {contents.database}, and OLLAMASITE_DATABASE_URL names "
            f"a {databases.kind()} database."
        )
    if newer := databases.unknown_migrations(contents.migrations):
        raise BackupError(
            f"This backup was made by a newer version of ollamasite ({contents.site_version}): "
            f"this one does not know {newer[0]}. Install that version, then restore."
        )


def _verify(reader: _Reader) -> dict[str, str]:
    """Hash every file; return the secrets by name. Raises BackupError."""
    secrets: dict[str, str] = {}
    damaged: list[str] = []
    for entry, file in reader.files():
        name = entry.name.removeprefix("secrets/")
        if name in data_dir.SECRET_NAMES:
            data = file.read()
            secrets[name] = data.decode("utf-8", "replace")
            found = hashing.digest_of(io.BytesIO(data))
        else:
            found = hashing.digest_of(file)
        if found != (entry.sha256, entry.size_bytes):
            damaged.append(entry.name)
    if damaged:
        raise BackupError(
            f"The backup is damaged: {', '.join(damaged[:3])} "
            f"({len(damaged)} of its files) are not what they were. Nothing was written."
        )
    return secrets


def _refuse_other_secrets(secrets: dict[str, str]) -> None:
    """Raise BackupError where the environment names other secrets than the site had, or none."""
    in_force = (settings.SECRET_KEY, settings.KEY_PEPPER)
    for name, value in zip(data_dir.SECRET_NAMES, in_force, strict=True):
        setting = f"OLLAMASITE_{name.upper()}"
        is_named = value != data_dir.NO_SECRET_YET
        if not is_named and name not in secrets:
            raise BackupError(
                f"This backup was made without secrets: set {setting} to what the site had, "
                "or its API keys and sessions would be worth nothing."
            )
        if is_named and secrets.get(name, value) != value:
            raise BackupError(
                f"{setting} is not what the site had whose backup this is: unset it, and the "
                "backup's own is used."
            )


@contextmanager
def _empty_data_dir(contents: Contents) -> Iterator[None]:
    folder = Path(settings.DATA_DIR)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = folder / data_dir.RESTORING
    if not mark.exists():
        used = sorted(path.name for path in folder.iterdir() if not _is_nothing(path))
        if used:
            raise BackupError(
                f"{folder} is not empty (there is {used[0]}): a restore overwrites nothing. "
                "Name an empty directory with --data-dir."
            )
    if not databases.is_empty():
        raise BackupError(
            "The database that OLLAMASITE_DATABASE_URL names is not empty: a restore overwrites "
            "nothing. Name an empty one, or drop and create this one."
        )
    try:
        lock_fd = hold_lock(folder / "serve.lock", patience_s=0)
        require_free_bytes(folder, contents.size_bytes)
    except (ServeError, StorageFull) as error:
        raise BackupError(str(error)) from error
    try:
        mark.touch()
        yield
        mark.unlink()
    except DatabaseError as error:
        raise BackupError(f"The database cannot be brought up to date: {error}") from error
    finally:
        os.close(lock_fd)


def _record(contents: Contents, secrets: dict[str, str]) -> None:
    """Have the restored site's audit tell of it: what came after the backup is gone."""
    # From here on this process is one of the restored site's: its pepper is in the audit's chain.
    settings.KEY_PEPPER = secrets.get("key_pepper", settings.KEY_PEPPER).strip()
    made = {"made_at": contents.made_at, "version": contents.site_version}
    audit.record("site.restore", by=None, blobs=contents.has_blobs, **made)


def _is_nothing(path: Path) -> bool:
    # An image's volume comes with the directories, empty.
    return path.name in _NOTHING or (path.is_dir() and not any(path.iterdir()))


# ------------------------------------------------------------------ writing


def _write_files(reader: _Reader) -> Path:
    """Write all but the database to its place; return where the database lies for now."""
    folder = Path(settings.DATA_DIR)
    room = folder / f".{data_dir.RESTORING}"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(mode=0o700)
    store = blob_store()
    for entry, file in reader.files():
        digest = blob_digest(entry.name)
        if digest is None:
            target = (room if entry.name == DATABASE else folder) / entry.name
            _write(target, file, entry)
        elif not store.exists(Digest(digest)):
            store.write(hashing.pieces(file), expected=Digest(digest))
    return room / DATABASE


def _write(target: Path, file: IO[bytes], entry: Entry) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    target.unlink(missing_ok=True)
    if hashing.create(target, file) != (entry.sha256, entry.size_bytes):
        raise BackupError(f"{entry.name} has changed while it was read.")

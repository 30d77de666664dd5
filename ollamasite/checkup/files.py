"""The data directory: who may read it, whose it is, how much room its disks have."""

import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.conf import settings

from ollamasite import data_dir
from ollamasite.checkup.findings import Finding, error, warning
from ollamasite.sizes import print_size

_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
# What a site writes even where nothing is uploaded: rows, journals, logs.
_NO_ROOM_BYTES: Final = 256 * 1024**2
_LITTLE_BYTES: Final = 10 * 1024**3
_LITTLE_SHARE: Final = 0.05
_LITTLE_FILES: Final = 1000
# File systems of other machines, whose locks SQLite cannot rely on.
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs"})
_MOUNTS: Final = Path("/proc/mounts")


def look_at_directory() -> Iterator[Finding]:
    """Tell whether the site can use its data directory, and who else can."""
    folder = Path(settings.DATA_DIR)
    if not folder.is_dir():
        yield error(
            "data-dir.missing",
            f"The data directory {folder} is not there.",
            "Run `ollamasite serve`, which makes it, or name another with OLLAMASITE_DATA_DIR.",
        )
        return
    yield from _half_restored(folder)
    yield from _rights(folder)
    yield from _owners(folder)
    yield from _secrets(folder / "secrets")


def _half_restored(folder: Path) -> Iterator[Finding]:
    if (folder / data_dir.RESTORING).exists():
        yield error(
            "data-dir.half-restored",
            f"A restore into {folder} was interrupted: this is half of a site.",
            "Run `ollamasite restore` once more with the same backup.",
        )


def _rights(folder: Path) -> Iterator[Finding]:
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield error(
            "data-dir.not-writable",
            f"{_user()} cannot write to the data directory {folder}.",
            "Run the command as the site's user, or correct owner and permissions.",
        )
    if stat.S_IMODE(folder.stat().st_mode) & _OTHERS_WRITE:
        yield error(
            "data-dir.open",
            f"Other users of this machine can write to {folder}: they can replace the site.",
            f"chmod 700 {folder}",
        )


def _owners(folder: Path) -> Iterator[Finding]:
    """Tell of what another user has made: the site's own user cannot write there."""
    owner = folder.stat().st_uid
    places = [*folder.iterdir(), *(folder / "secrets").glob("*"), *(folder / "ledger").glob("*")]
    foreign = sorted(str(path) for path in places if path.lstat().st_uid != owner)
    if foreign:
        yield error(
            "data-dir.foreign-owner",
            f"Files that do not belong to {_name_of(owner)}, whose the directory is, and which the "
            f"site cannot write to: {len(foreign)}, such as {foreign[0]}.",
            f"chown -R {_name_of(owner)} {folder}, and run commands as that user.",
        )


def _secrets(folder: Path) -> Iterator[Finding]:
    for path in sorted(folder.glob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _OTHERS:
            yield error(
                "secrets.open",
                f"{path} can be read by other users of this machine (mode {mode:03o}): whoever "
                "has read it can sign in as anybody.",
                f"chmod 600 {path}, and replace it if somebody may have read it.",
            )
    in_force = (settings.SECRET_KEY, settings.KEY_PEPPER)
    for name, value in zip(data_dir.SECRET_NAMES, in_force, strict=True):
        kept = data_dir.read_secret(folder.parent, name)
        if kept is not None and kept != value:
            yield warning(
                f"secrets.two-{name.replace('_', '-')}",
                f"OLLAMASITE_{name.upper()} is another than {folder / name}: a process that is "
                "started without the variable would know none of the keys and sessions.",
                "Remove the file, or unset the variable.",
            )


def look_at_disks() -> Iterator[Finding]:
    """Tell where there is no room, or little."""
    seen: set[int] = set()
    for what, folder in _written_places():
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        yield from _room(what, folder)


def _written_places() -> Iterator[tuple[str, Path]]:
    database = settings.DATABASES["default"]
    places = [
        ("the store of models", Path(settings.BLOBS_DIR)),
        ("the data directory", Path(settings.DATA_DIR)),
        ("sockets", Path(settings.RUN_DIR)),
    ]
    if str(database["ENGINE"]).endswith("sqlite3"):
        places.append(("the database", Path(str(database["NAME"])).parent))
    return ((what, folder) for what, folder in places if folder.is_dir())


def _room(what: str, folder: Path) -> Iterator[Finding]:
    disk = shutil.disk_usage(folder)
    free = print_size(disk.free)
    advice = "Remove models or run `ollamasite gc`, or give it a larger disk."
    if disk.free < _NO_ROOM_BYTES:
        yield error("disk.full", f"The disk with {what} ({folder}) has only {free} left.", advice)
    elif disk.free < min(_LITTLE_BYTES, disk.total * _LITTLE_SHARE):
        yield warning(
            "disk.little",
            f"The disk with {what} ({folder}) has {free} left: larger models will be refused.",
            advice,
        )
    files = os.statvfs(folder)
    if files.f_files and files.f_favail < _LITTLE_FILES:
        yield error(
            "disk.no-files",
            f"The file system with {what} ({folder}) can take only {files.f_favail} more files.",
            "Remove files, or make the file system with more inodes.",
        )


def remote_kind(path: Path, mounts: str) -> str | None:
    """Return the kind of a remote file system that a path is on, by /proc/mounts' text."""
    best = ("", "")
    for line in mounts.splitlines():
        _, place, kind, *_ = line.split()
        place = place.replace("\\040", " ")
        if path.is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1] if best[1] in _REMOTE else None


def look_at_remote_disks() -> Iterator[Finding]:
    """Tell of a SQLite database on another machine's disk."""
    database = settings.DATABASES["default"]
    if not str(database["ENGINE"]).endswith("sqlite3") or not _MOUNTS.exists():
        return
    path = Path(str(database["NAME"]))
    if kind := remote_kind(path, _MOUNTS.read_text()):
        yield error(
            "database.remote-disk",
            f"{path} is on a {kind} file system: SQLite's write-ahead log needs a disk of this "
            "machine, and is damaged otherwise.",
            "Move it to a local disk, or use PostgreSQL (OLLAMASITE_DATABASE_URL).",
        )


def _user() -> str:
    return _name_of(os.geteuid())


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"

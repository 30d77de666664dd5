"""What a backup holds, as its `backup.json` tells it. Pure; knows no disk and no database.

Every file has a name, whatever the backup lies in (`folders`, `tars`):

    database                  a copy of the SQLite file, or what `pg_dump` wrote
    secrets/<name>            see ollamasite.data_dir
    ledger/web-….jsonl        journals of requests that were not in the ledger yet
    engine/ends….jsonl        what this machine's node knew of requests that had ended
    blobs/sha256-<64 hex>     the store

No other name is read out of a backup, so a forged one writes to no other place.
"""

import re
from typing import Final

import msgspec

FORMAT: Final = 1
DATABASE: Final = "database"
CONTENTS: Final = "backup.json"
MAX_CONTENTS_BYTES: Final = 256 * 1024**2
_BLOB: Final = re.compile(r"blobs/sha256-([0-9a-f]{64})")
_OTHER: Final = re.compile(
    r"database|secrets/(?:secret_key|key_pepper|id_ed25519)"
    r"|ledger/web-[0-9a-f-]{1,80}\.jsonl|engine/ends(?:\.1)?\.jsonl"
)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_STATE: Final = re.compile(r"state-[0-9A-Za-z-]{1,60}")


class BackupError(Exception):
    """No backup can be made, or this one cannot be restored; the message says why."""


class Entry(msgspec.Struct, frozen=True):
    """A file of the backup."""

    name: str
    size_bytes: int
    sha256: str


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a backup holds.

    `state` is the folder of what is no blob, where a backup is a folder. `migrations` are those
    that the database had, by app. `left_out`: blobs that were damaged, missing or not wanted.
    """

    format: int
    made_at: str
    site_version: str
    database: str  # Django's name of its kind
    migrations: dict[str, list[str]]
    state: str
    has_blobs: bool
    files: list[Entry]
    left_out: list[str] = []

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(entry.size_bytes for entry in self.files)


def blob_digest(name: str) -> str | None:
    """Return the 64 hex digits of a blob's name, None for what is no blob."""
    found = _BLOB.fullmatch(name)
    return found[1] if found else None


def is_file_name(name: str) -> bool:
    """Whether a backup can have a file of this name."""
    return bool(_BLOB.fullmatch(name) or _OTHER.fullmatch(name))


def parse(data: bytes) -> Contents:
    """Read `backup.json`. Raises BackupError."""
    try:
        contents = msgspec.json.decode(data, type=Contents)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BackupError(f"{CONTENTS} cannot be read: {error}.") from error
    if contents.format != FORMAT:
        raise BackupError(
            f"This backup has format {contents.format}, and this version of ollamasite reads "
            f"{FORMAT}: restore it with the version that made it ({contents.site_version!r})."
        )
    _refuse_strange(contents)
    return contents


def _refuse_strange(contents: Contents) -> None:
    names = [entry.name for entry in contents.files]
    wrong = [entry.name for entry in contents.files if not _is_sound(entry)]
    if not _STATE.fullmatch(contents.state):
        wrong.append(contents.state)
    if len(set(names)) != len(names) or DATABASE not in names:
        raise BackupError(f"{CONTENTS} names a file twice, or no database: it is damaged.")
    if wrong:
        raise BackupError(f"{CONTENTS} names {wrong[0]!r}, which is no file of a backup.")


def _is_sound(entry: Entry) -> bool:
    digest = blob_digest(entry.name)
    is_itself = digest is None or digest == entry.sha256
    is_hash = _DIGEST.fullmatch(entry.sha256) is not None
    return is_file_name(entry.name) and is_itself and is_hash and entry.size_bytes >= 0

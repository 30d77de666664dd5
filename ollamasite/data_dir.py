"""What lies where in the data directory, and the secrets that are made there once.

    <data dir>/
    ├── secrets/            0700; one file a secret, 0600
    │   ├── secret_key      signs sessions and tokens
    │   ├── key_pepper      goes into every API key's hash
    │   └── id_ed25519      by which other registries know this site
    ├── db.sqlite3          the default database (WAL)
    ├── blobs/              content-addressed files, see registry.blobs
    ├── ledger/             journals of running requests, see models_app.ledger_journal
    ├── redis/              the private Redis' append-only file
    ├── run/                sockets and marks of running processes, see `run_dir`
    ├── restoring           there is half of a restored backup, see ollamasite.backups.restoring
    └── serve.lock          held by the one `ollamasite serve`

Knows no Django: `settings` and the console script both read it before Django is there.
"""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

SECRET_NAMES: Final = ("secret_key", "key_pepper")
# What settings get in place of a secret that the backup to be restored has.
NO_SECRET_YET: Final = "there is no secret yet, and nothing may be signed by this"  # noqa: S105 - none
RESTORING: Final = "restoring"
# sun_path holds 108 bytes; the longest socket name we append is short of 24.
_LONGEST_SOCKET_DIR: Final = 80


def default_data_dir() -> Path:
    """Return the directory that is used when none is named."""
    return Path("~/.local/share/ollamasite").expanduser()


def run_dir(data_dir: Path) -> Path:
    """Return the directory for sockets, short enough for a unix socket's path."""
    inside = data_dir / "run"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_DIR:
        return inside
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"ollamasite-{os.getuid()}-{name}"


def prepare(data_dir: Path) -> None:
    """Create the directories and whatever secret is missing. Raises OSError."""
    for folder in (data_dir, data_dir / "secrets", data_dir / "blobs", run_dir(data_dir)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    run = run_dir(data_dir)
    if run.stat().st_uid != os.getuid() or run.is_symlink():
        raise PermissionError(f"{run} belongs to somebody else; remove it or choose another place")
    for name in SECRET_NAMES:
        _create_once(data_dir / "secrets" / name, secrets.token_urlsafe(48))
    # Those of earlier versions: chats are in them, and the directory may be one that others read.
    for database in data_dir.glob("db.sqlite3*"):
        database.chmod(0o600)


def read_secret(data_dir: Path, name: str) -> str | None:
    """Return a secret that `prepare` made, or None where there is none."""
    try:
        return (data_dir / "secrets" / name).read_text().strip() or None
    except FileNotFoundError:
        return None


def secret_once(data_dir: Path, name: str, make: Callable[[], str]) -> str:
    """Return a secret; the first of all processes to ask makes it. Raises OSError."""
    path = data_dir / "secrets" / name
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create_once(path, make())
    return path.read_text()


def _create_once(path: Path, text: str) -> None:
    # Written aside and linked into place: a crash leaves no empty secret, a race only one winner.
    if path.exists():
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".new-") as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return

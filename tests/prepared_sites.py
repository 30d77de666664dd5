"""Data directories as a first start leaves them: made once in a run of the tests, then copied.

A first start brings the database up from nothing, hashes passwords and takes the starter model in,
which a dozen files' sites need not do each (tests/processes/test_serve.py does). Workers of
pytest-xdist share what is made. Knows no process of a site.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import msgspec

from tests.databases import database_settings
from tests.environment import RUN_FOLDER


class Kind(StrEnum):
    """What there is."""

    # As `serve --no-starter-model` leaves it, and as `serve` does.
    BARE = "bare"
    STARTER = "starter"
    # That, with alice, who runs the site, bob, and carla.
    PEOPLE = "people"
    # Their catalogue of models without files, under the secrets of the tests' own settings.
    CATALOGUE = "catalogue"


class Facts(msgspec.Struct, frozen=True):
    """What was told when it was made."""

    api_key: str  # the first administrator's; of a catalogue, bob's
    session: str = ""  # bob's cookie, of a catalogue
    digest: str = ""  # the starter model's, of a catalogue


def copy_prepared(kind: Kind, data_dir: Path) -> Facts:
    """Make a data directory and its database."""
    made = _made(kind)
    shutil.copytree(made, data_dir, dirs_exist_ok=True)
    database_settings(data_dir, copied_from=made)
    return msgspec.json.decode(_told(made).read_bytes(), type=Facts)


def _made(kind: Kind) -> Path:
    """Return what is copied; the first who asks makes it."""
    folder = _run_folder() / kind
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _told(folder).exists():
            _make(kind, folder)
    return folder


def _make(kind: Kind, folder: Path) -> None:
    environ = {
        name: value
        for name, value in os.environ.items()
        # The tests' own settings are not a site's: its secrets lie in its folder.
        if kind is Kind.CATALOGUE or not name.startswith("OLLAMASITE_")
    }
    environ |= database_settings(folder) | {"OLLAMASITE_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", "tests.prepare_site", kind]
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    _told(folder).write_bytes(done.stdout.splitlines()[-1])


def _told(folder: Path) -> Path:
    return folder.with_suffix(".json")


def _run_folder() -> Path:
    return Path(os.environ[RUN_FOLDER])

"""The data directory: what is made, with which permissions, and only once."""

import os
import stat
import threading
from pathlib import Path

import pytest

from ollamasite import data_dir


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", data_dir.SECRET_NAMES)
def test_secret_is_readable_by_its_owner_only(tmp_path: Path, name: str) -> None:
    data_dir.prepare(tmp_path)

    assert mode(tmp_path / "secrets" / name) == 0o600
    assert mode(tmp_path / "secrets") == 0o700


def test_database_of_an_earlier_version_becomes_its_owners_alone(tmp_path: Path) -> None:
    databases = [tmp_path / f"db.sqlite3{end}" for end in ("", "-wal", "-shm")]
    for database in databases:
        database.touch(0o644)

    data_dir.prepare(tmp_path)

    assert [mode(database) for database in databases] == [0o600] * 3


def test_secrets_are_long_and_differ(tmp_path: Path) -> None:
    data_dir.prepare(tmp_path)

    secrets = [data_dir.read_secret(tmp_path, name) or "" for name in data_dir.SECRET_NAMES]
    assert min(map(len, secrets)) >= 48
    assert len(set(secrets)) == len(secrets)


def test_secret_is_made_once(tmp_path: Path) -> None:
    data_dir.prepare(tmp_path)
    first = data_dir.read_secret(tmp_path, "secret_key")
    data_dir.prepare(tmp_path)

    assert data_dir.read_secret(tmp_path, "secret_key") == first


def test_racing_starts_agree_on_one_secret(tmp_path: Path) -> None:
    seen: list[str | None] = []
    line = threading.Barrier(8)

    def start() -> None:
        line.wait()
        data_dir.prepare(tmp_path)
        seen.append(data_dir.read_secret(tmp_path, "key_pepper"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_no_draft_is_left_beside_the_secrets(tmp_path: Path) -> None:
    data_dir.prepare(tmp_path)
    data_dir.prepare(tmp_path)

    left = {path.name for path in (tmp_path / "secrets").iterdir()}
    assert left == set(data_dir.SECRET_NAMES)


def test_missing_secret_is_none(tmp_path: Path) -> None:
    assert data_dir.read_secret(tmp_path, "secret_key") is None


def test_sockets_lie_inside_the_data_directory(tmp_path: Path) -> None:
    assert data_dir.run_dir(Path("/srv/site")) == Path("/srv/site/run")


def test_sockets_of_a_deep_data_directory_get_a_short_path() -> None:
    deep = Path("/srv") / ("x" * 120)

    run = data_dir.run_dir(deep)

    assert len(os.fsencode(run)) <= 80
    assert run == data_dir.run_dir(deep)
    assert run != data_dir.run_dir(deep / "y")


def test_file_in_place_of_the_data_directory_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match="file"):
        data_dir.prepare(tmp_path / "file" / "data")

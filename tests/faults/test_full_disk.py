"""The disk with all of a site's data is full for some seconds, under the load of sixteen users."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.patience import READY_S, REQUEST_S
from tests.faults.site import Faulty, assert_all_has_ended, faulty_site
from tests.processes.running_site import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

FULL_S = 6.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 MB: the store leaves 256 of them to the other writers."""
    folder = tmp_path / "disk"
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)]
    mounted = subprocess.run(line, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a disk of one's own may not be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


@pytest.fixture
def faulty(small_disk: Path) -> Iterator[Faulty]:
    with faulty_site(small_disk / "data") as site:
        yield site


def fill(path: Path) -> None:
    """Take all that is left of a disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def fill_up(folder: Path, path: Path) -> bool:
    """Fill a disk; return whether it is full, for a log that is cut makes room."""
    fill(path)
    return is_full(folder)


def is_full(folder: Path) -> bool:
    return os.statvfs(folder).f_bavail == 0


def test_requests_end_while_the_disk_is_full_and_go_on_after(
    faulty: Faulty, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    with faulty.users.asking():
        faulty.users.wait_for_answers(of_each=2, timeout_s=2 * REQUEST_S)
        until = time.monotonic() + FULL_S
        while time.monotonic() < until:
            wait_for(lambda: fill_up(small_disk, filler))
            time.sleep(0.5)
        filler.unlink()
        began = time.monotonic()
        faulty.wait_until_ready()
        faulty.users.wait_for_answers(of_each=2)
        assert time.monotonic() - began < READY_S + REQUEST_S
    print(faulty.users.summary())  # noqa: T201 - shown where the test fails
    wait_for(lambda: not is_full(small_disk))
    assert_all_has_ended(faulty)

"""What many users cost: the gate with 10,000 keys and 1,000 users, lists over 1,000,000 rows.

Starts a Redis and one process that makes the site and measures in itself (`bench.access_site`).
Knows no row.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench import report
from bench.access_site import KEYS, MODELS, ROWS, TOGETHER, USERS, Added, Measured, Page
from bench.processes import Process
from bench.workplace import PLACE, ROOT
from ollamasite import redis_server

_MOST_ADDED_S: Final = 0.003
_MOST_LIST_S: Final = 0.1
_MOST_PAGE_S: Final = 0.15


def measure() -> Measured:
    """Measure. Raises ProcessError, and CalledProcessError with the log on standard error."""
    folder = PLACE / "site-access"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    socket = folder / "redis.sock"
    command = redis_server.command_line(redis_server.find_executable(), socket, folder / "redis")
    redis = Process(command, PLACE / "logs" / "access-redis.log")
    try:
        redis.wait_until(socket.exists)
        report.log(f"the gate with {KEYS} keys, lists over {ROWS} rows")
        return _measured(folder / "data", socket)
    finally:
        redis.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _measured(data_dir: Path, socket: Path) -> Measured:
    settings = {
        "DJANGO_SETTINGS_MODULE": "ollamasite.settings",
        "OLLAMASITE_DATA_DIR": str(data_dir),
        "OLLAMASITE_REDIS_URL": f"unix://{socket}",
        "OLLAMASITE_SECRET_KEY": "of-the-benchmark-only-0123456789-abcdefghijklmnop",
        "OLLAMASITE_KEY_PEPPER": "of-the-benchmark-only",
        "OLLAMASITE_LOG_LEVEL": "WARNING",
        "PATH": os.environ.get("PATH", ""),
    }
    command = [sys.executable, "-m", "bench.access_site"]
    done = subprocess.run(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, check=True)
    # The site's log goes there as well.
    *logged, told = done.stdout.splitlines()
    for line in logged:
        report.log(line.decode())
    return msgspec.json.decode(told, type=Measured)


def to_markdown(found: Measured) -> str:
    """Return the tables."""
    added = report.table(
        ["added to a request, ms", "alone p50", "alone p99", f"each of {TOGETHER} at once"],
        [_added_row(row) for row in found.added],
    )
    pages = report.table(
        ["list or page", "p50 ms", "KiB"], [_page_row(page) for page in found.pages]
    )
    return "\n\n".join(
        [
            f"{KEYS:,} keys, {USERS:,} users, three limits, one Redis. Authentication, policy, "
            "reserving and settling, in one process, less the same call of nothing; "
            f"p50 alone {_verdict([row.alone[0] for row in found.added], _MOST_ADDED_S)}.",
            added,
            f"{MODELS:,} models, {ROWS:,} rows of the ledger and as many of its hours (SQLite), "
            "through Django's test client as an administrator; "
            f"the slowest list {_slowest(found.pages, _MOST_LIST_S, is_page=False)}, "
            f"the slowest page {_slowest(found.pages, _MOST_PAGE_S, is_page=True)}.",
            pages,
        ]
    )


def _slowest(pages: Sequence[Page], most_s: float, *, is_page: bool) -> str:
    return _verdict([page.seconds for page in pages if page.is_page is is_page], most_s)


def _verdict(values_s: Sequence[float], most_s: float) -> str:
    return f"{report.verdict(max(values_s) * 1000, at_most=most_s * 1000)} ms"


def _added_row(row: Added) -> list[str]:
    return [row.what, *(report.milliseconds(value) for value in (*row.alone, row.together))]


def _page_row(page: Page) -> list[str]:
    return [f"`{page.path}`", report.milliseconds(page.seconds), f"{page.size_bytes / 1024:.0f}"]

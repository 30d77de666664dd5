"""Fixtures for limits of use: a private Redis, really started, and a site that has limits."""

import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from models_app import attempts, limit_book, limit_store, limits
from models_app.limit_book import RuleBook
from models_app.limit_store import no_past
from ollamasite import redis_server

SetLimits = Callable[..., None]
# By the clock of the limits: no minute drains, and no day ends, while a test waits for its turn.
NOON_MS = 20_000 * 86_400_000 + 43_200_000


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[Path]:
    """The socket of a Redis that lives as long as the tests run."""
    with tempfile.TemporaryDirectory(prefix="limits-redis-") as folder:
        socket = Path(folder) / "redis.sock"
        executable = redis_server.find_executable()
        command = redis_server.command_line(executable, socket, Path(folder) / "data")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(socket)
            yield socket
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def redis_url(redis_socket: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty Redis, which may have its turn late on a busy machine."""
    monkeypatch.setattr(limits, "_now_ms", lambda: NOON_MS)
    for module in (attempts, limit_store):
        monkeypatch.setattr(module, "_TIMEOUT_S", 30.0)
    with Redis(unix_socket_path=str(redis_socket)) as client:
        client.flushall()
    return f"unix://{redis_socket}"


@pytest.fixture
def no_rules() -> None:
    """Nobody has decided on a limit, and the database is not asked."""
    limit_book._known.keep(RuleBook())


@pytest.fixture
async def set_limits(
    settings: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SetLimits]:
    """Set limits for every user; what is not named has none. Nothing was used before."""
    settings.REDIS_URL = redis_url
    limit_book._known.keep(RuleBook())
    monkeypatch.setattr(limits, "_past_of", no_past)

    def set_them(
        *,
        requests: int = 0,
        tokens: int = 0,
        tokens_a_day: int = 0,
        tokens_a_month: int = 0,
        parallel: int = 0,
    ) -> None:
        settings.REQUESTS_PER_MINUTE = requests
        settings.TOKENS_PER_MINUTE = tokens
        settings.TOKENS_PER_DAY = tokens_a_day
        settings.TOKENS_PER_MONTH = tokens_a_month
        settings.PARALLEL_REQUESTS = parallel

    yield set_them
    await limits.close()


def _wait_for(socket: Path) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        try:
            with Redis(unix_socket_path=str(socket)) as client:
                client.ping()
        except RedisError:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        else:
            return

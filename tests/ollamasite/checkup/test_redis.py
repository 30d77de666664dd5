"""Redis servers that are set wrong, really started."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import time_machine
from pytest_django.fixtures import Settings
from redis import Redis

from ollamasite import redis_server
from ollamasite.checkup import redis
from tests.ollamasite.checkup.found import codes

Start = Callable[..., "Redis"]


@pytest.fixture
def start(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    # How long a Redis takes here is the machine's business.
    monkeypatch.setattr(redis, "_TIMEOUT_S", 60.0)
    monkeypatch.setattr(redis, "_SLOW_S", 60.0)
    socket = tmp_path / "redis.sock"
    running: list[subprocess.Popen[bytes]] = []

    def start_redis(*options: str) -> Redis:
        executable = redis_server.find_executable()
        command = redis_server.command_line(executable, socket, tmp_path / "redis")
        running.append(subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL))
        settings.REDIS_URL = f"unix://{socket}"
        until = time.monotonic() + 60
        while not asyncio.run(redis_server.answers_ping(settings.REDIS_URL)):
            assert time.monotonic() < until
            time.sleep(0.05)
        return Redis(unix_socket_path=str(socket))

    yield start_redis
    for process in running:
        process.kill()
        process.wait()


def test_redis_of_serve_is_well(start: Start) -> None:
    with start():
        assert codes(redis.look()) == set()


def test_stopped_redis(settings: Settings, tmp_path: Path) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nothing.sock"
    assert codes(redis.look()) == {"redis.unreachable"}


def test_redis_that_wants_a_password(start: Start) -> None:
    with start() as client:
        client.config_set("requirepass", "secret")
        assert codes(redis.look()) == {"redis.unreachable"}


@pytest.mark.parametrize(
    ("expected", "options"),
    [
        ({"redis.evicts"}, ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]),
        ({"redis.full"}, ["--maxmemory", "1mb"]),
        ({"redis.forgets"}, ["--appendonly", "no"]),
        (set(), ["--maxmemory", "100mb"]),
    ],
    ids=str,
)
def test_wrong_options(start: Start, expected: set[str], options: list[str]) -> None:
    with start(*options):
        assert codes(redis.look()) == expected


def test_replica(start: Start) -> None:
    with start() as client:
        client.replicaof("127.0.0.1", 1)
        assert codes(redis.look()) == {"redis.replica"}


def test_redis_that_cannot_write(start: Start, tmp_path: Path) -> None:
    with start("--appendonly", "no") as client:
        shutil.rmtree(tmp_path / "redis")
        client.bgsave()
        until = time.monotonic() + 60
        while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
            assert time.monotonic() < until
            time.sleep(0.05)
        assert codes(redis.look()) == {"redis.forgets", "redis.cannot-save"}


def test_clock_that_is_not_ours(start: Start) -> None:
    with start(), time_machine.travel(time.time() - 3600):
        assert codes(redis.look()) == {"clock.skew"}


def test_slow_and_old_redis(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start():
        monkeypatch.setattr(redis, "_SLOW_S", 0.0)
        monkeypatch.setattr(redis, "_LEAST_VERSION", (99,))
        assert codes(redis.look()) == {"redis.slow", "redis.old"}

